"""--mode=report: compares the runs in and below --workdir. It reads the files of their folders alone."""

import logging
import pathlib

from stochconv_jax import atomic_files
from stochconv_jax.reporting import charts, collect, decision_table, page, results, tables, times
from stochconv_jax.run_folder import common_folder, split_workdirs

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> None:
    """Writes report.md, report.html, results.csv and figures/ into config.report.output, and prints the table.

    Several folders are separated by commas; the report is then written below the folder in which all of them lie.
    Raises ValueError where one of them is no folder, or holds no run.
    """
    del overrides
    folders = split_workdirs(workdir)
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise ValueError(f"--workdir={missing[0]}: there is no such folder")
    root = common_folder(folders)
    output = root / pathlib.Path(config.report.output).expanduser()
    atomic_files.make_writable(output, "choose another folder with --config.report.output")
    groups, remarks = collect.collect(root, folders)
    for remark in remarks:
        logger.warning("%s", remark)
    found = [results.summarise(group) for group in groups]
    baseline = results.choose_baseline(found, config.report.baseline)
    # By the last epoch; models without a finished run come last.
    found.sort(key=lambda result: (result.last.count == 0, -result.last.value if result.last.count else 0))
    compared = [results.compare(result, baseline) for result in found if result is not baseline]
    pictures = charts.draw(found, output / "figures")
    sections = _sections(found, compared, pictures, remarks)
    title = f"Runs in {root.resolve().name}"
    atomic_files.write_text(output / "report.md", page.to_markdown(title, sections))
    atomic_files.write_text(output / "report.html", page.to_html(title, sections, output / "figures"))
    rows = tables.csv_rows(found, compared)
    columns = dict.fromkeys(column for row in rows for column in row)
    atomic_files.write_csv(output / "results.csv", list(columns), rows)
    print(page.to_text(tables.results_table(found)))
    for comparison in compared:
        print(f"{comparison.result.group.name}: {comparison.verdict()}")
    logger.info("written: %s", ", ".join(str(output / name) for name in ("report.html", "report.md", "results.csv")))


def _sections(found, compared, pictures, remarks) -> list[page.Section]:
    """Returns the sections of the page, in order."""
    sections = [page.Section("Results", tables.results_paragraphs(found), tables.results_table(found))]
    if compared:
        paragraphs = tables.comparison_paragraphs(compared)
        sections.append(page.Section("Comparisons", paragraphs, tables.comparison_table(compared)))
    if pooled := tables.pooled_table(found):
        sections.append(page.Section("Cross-validation", [tables.ABOUT_POOLED], pooled))
    if any(result.quality for result in found):
        sections.append(page.Section("Predictions", [tables.ABOUT_QUALITY], tables.quality_table(found)))
    if decided := decision_table.table([result.group for result in found]):
        sections.append(page.Section("Decisions", [decision_table.ABOUT], decided))
    if wall_times := times.table([result.group for result in found]):
        sections.append(page.Section("Wall time", [times.ABOUT], wall_times))
    sections.append(page.Section("Figures", pictures=pictures))
    if remarks:
        sections.append(page.Section("What to know about these runs", items=remarks))
    return sections
