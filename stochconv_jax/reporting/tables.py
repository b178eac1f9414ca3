"""Makes the tables of the report and the paragraphs that explain their numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence

from stochconv_jax.reporting.cross_validation import Pooled
from stochconv_jax.reporting.page import Table
from stochconv_jax.reporting.results import Comparison, Mean, Result, holm

NONE = "–"

ABOUT_RESULTS = (
    "Validation ROC AUC, mean over seeds with Student's 95 % interval; models are sorted by the last epoch. The "
    "maximum over epochs is chosen on the validation images, so it is too high for every model, the more the noisier "
    "its epochs are: comparisons use the last epoch only. Minutes an epoch and images a second are medians over "
    "epochs, so that compilation does not count; an epoch includes its validation."
)
ABOUT_PUBLISHED = (
    "Published figures are those of the project report (2021): the highest validation ROC AUC of all epochs, of the "
    "best run and as the mean over runs, on the report's own images, about 9,500 of them for validation. They can be "
    "compared with the runs here only if the images are the same. The report's code shares weights between the repeats "
    "of a stage, and draws windows on the images' diagonal, the same ones for a whole batch."
)
ABOUT_ONE_RUN = "One run only, so no interval: the spread over seeds is not known"
ABOUT_EQUAL_RUNS = "The same figure in every run, so no interval: the spread over seeds cannot be estimated"
ABOUT_COMPARISONS = (
    "Last epoch of the model minus that of the baseline, mean over common seeds, with Student's paired interval. A "
    "difference is significant if its two-sided p is below 0.05; p is not corrected for the number of models. The "
    "bootstrap over seeds assumes no distribution but cannot reach beyond the differences at hand: with three seeds it "
    "misses the truth one time in four, with ten one time in ten."
)
ABOUT_IMAGES = (
    "Differences on predicted images compare predictions.csv of models that were evaluated on the same images, with "
    "the checkpoints and passes in the table of predictions; mean over common seeds, with DeLong's paired interval. "
    "The interval covers the choice of images, not that of seeds, and takes images as independent. Checkpoints that "
    "were chosen on these images, as the best are, are left out, because interval and p would ignore the choice; "
    "evaluate the last checkpoint to include a run."
)
ABOUT_BOTH = (
    "The interval over seeds and images is of the difference on predicted images, by a bootstrap that draws both: "
    "seeds, and images or groups of images if groups are known. Its p is corrected for the number of models (Holm, "
    "1979). With few seeds the interval is too narrow."
)
ABOUT_GROUPS = (
    "Intervals by group take the images of a group, such as a patient, as one draw (Obuchowski, 1997), by the column "
    "`group` of predictions.csv; the words follow them where they exist."
)
ABOUT_FOLDS = (
    "Models with folds: means and intervals are over folds and seeds. Since the runs of several folds share training "
    "images, the variance of Student's intervals and tests is corrected (Nadeau & Bengio, 2003)."
)
ABOUT_FOLD_DIFFERENCES = (
    "Differences of models with folds are paired by fold and seed. On predicted images they are of the ROC AUC over "
    "all folds, as in the table of cross-validation, with its bootstrap: the same folds, images and seeds are drawn "
    "for both models."
)
ABOUT_POOLED = (
    "Each image is predicted by the runs of its fold, which did not train on it. The ROC AUC is over the images of all "
    "folds, as a mean over the seeds that have every fold; an ensemble of the seeds has another, see --mode=evaluate. "
    "Its interval is by bootstrap: folds are drawn, in each its images, or its groups of images if groups are known, "
    "and seeds. In simulations it had the truth in 89 to 98 of 100 studies. There is none if a checkpoint was chosen "
    "on these images. Beside it: the standard deviation of this ROC AUC over seeds, and of each fold's own ROC AUC "
    "over folds."
)
ABOUT_QUALITY = (
    "From predictions.csv, means over the runs. Checkpoint: the last, or the one that is named; the best was chosen on "
    "these images, so its figures are too good. Passes: draws of windows whose probabilities are averaged. Calibration "
    "error: mean distance between predicted probability and share of class 1, in ten bins of equal width."
)


def results_table(results: Sequence[Result]) -> Table:
    """Returns a table with a row for each model; the best value of each ROC AUC column is in bold."""
    columns = [
        "model",
        "runs",
        "parameters",
        "million multiply-adds",
        "last epoch: mean [95 % interval]",
        "last epoch: best run",
        "maximum over epochs: mean [95 % interval]",
        "maximum over epochs: best run",
        "minutes an epoch",
        "images a second",
    ]
    compared = [(r.last.value, r.last.best, r.maximum.value, r.maximum.best) for r in results]
    rows = [
        [
            result.group.name,
            _runs(result),
            _number(result.parameters, ",.0f"),
            _number(result.multiply_adds / 1e6, ",.2f"),
            _mean(result.last),
            _number(result.last.best, ".4f"),
            _mean(result.maximum),
            _number(result.maximum.best, ".4f"),
            _number(result.minutes_per_epoch, ".3g"),
            _number(result.images_per_second, ".3g"),
        ]
        for result in results
    ]
    bold = {
        (row, 4 + place)
        for place, column in enumerate(zip(*compared))
        for row, value in enumerate(column)
        if len(results) > 1 and value == max((v for v in column if not math.isnan(v)), default=None)
    }
    if any(result.published for result in results):
        columns[8:8] = ["published: best run", "published: mean of maxima (runs)"]
        for row, result in zip(rows, results):
            figures = result.published
            row[8:8] = [f"{figures.best:.4f}", f"{figures.mean:.4f} ({figures.runs})"] if figures else [NONE, NONE]
    return Table(columns, rows, bold)


def results_paragraphs(results: Sequence[Result]) -> list[str]:
    """Returns paragraphs that explain the table, and why an interval is missing."""
    paragraphs = [ABOUT_RESULTS]
    if equal := [result.group.name for result in results if result.last.count > 1 and math.isnan(result.last.low)]:
        paragraphs.append(f"{ABOUT_EQUAL_RUNS}: {', '.join(equal)}.")
    if single := [result.group.name for result in results if result.last.count == 1]:
        paragraphs.append(f"{ABOUT_ONE_RUN}: {', '.join(single)}.")
    if any(result.group.folds for result in results):
        paragraphs.append(ABOUT_FOLDS)
    if any(result.published for result in results):
        paragraphs.append(ABOUT_PUBLISHED)
    return paragraphs


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Returns a table with a row for each comparison."""
    columns = ["model", "seeds", "difference [95 % interval]", "bootstrap over seeds", "p"]
    with_images = any(comparison.image_pairs for comparison in comparisons)
    if with_images:
        columns += ["predicted images x seeds", "on predicted images [95 % interval]", "p (images)"]
    with_both = any(not math.isnan(comparison.both.p) for comparison in comparisons)
    if with_both:
        columns += ["95 % interval over seeds and images", "p (both), corrected"]
    with_groups = any(comparison.groups for comparison in comparisons)
    if with_groups:
        columns += ["95 % interval by group", "p (by group)"]
    rows = []
    for comparison, p in zip(comparisons, holm([comparison.both.p for comparison in comparisons])):
        row = [comparison.result.group.name, str(comparison.pairs), _difference(comparison.seeds)]
        row += [_interval(*comparison.bootstrap, "+.4f"), _p(comparison.seeds.p)]
        if with_images:
            pairs = f"{comparison.image_count} x {comparison.image_pairs}" if comparison.image_pairs else NONE
            row += [pairs, _difference(comparison.images), _p(comparison.images.p)]
        if with_both:
            row += [_interval(comparison.both.low, comparison.both.high, "+.4f"), _p(p)]
        if with_groups:
            by_group = comparison.groups
            row += [_interval(by_group.low, by_group.high, "+.4f"), _p(by_group.p)] if by_group else [NONE, NONE]
        rows.append([*row, comparison.verdict()])
    return Table([*columns, "in words"], rows)


def comparison_paragraphs(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns paragraphs that name the baseline and explain the differences."""
    first = comparisons[0]
    paragraphs = [f"The baseline is {first.baseline.group.name}. {ABOUT_COMPARISONS}"]
    if any(comparison.result.group.folds for comparison in comparisons):
        paragraphs.append(ABOUT_FOLD_DIFFERENCES)
    if any(comparison.image_pairs and not comparison.result.group.folds for comparison in comparisons):
        paragraphs.append(ABOUT_IMAGES)
    if any(not math.isnan(comparison.both.p) for comparison in comparisons):
        paragraphs.append(ABOUT_BOTH)
    if any(comparison.groups for comparison in comparisons):
        paragraphs.append(ABOUT_GROUPS)
    return paragraphs


def pooled_table(results: Sequence[Result]) -> Table | None:
    """Returns a table with a row for each model with folds; None without such models."""
    columns = ["model", "folds", "seeds", "images", "checkpoint", "passes", "ROC AUC over all folds [95 % interval]"]
    columns += ["over seeds", "over folds"]
    rows = []
    for result in results:
        found, pooled, folds = result.out_of_fold, result.pooled, result.group.folds
        done = len({run.fold for run in result.group.finished})
        row = [result.group.name, str(folds) if done == folds else f"{done} of {folds}"]
        if found and pooled:
            evaluated = {(run.checkpoint, run.passes) for runs in found.runs for run in runs}
            row += [str(len(found.seeds)), f"{len(found.images):,}", *_evaluated(evaluated), _mean(pooled)]
            row += [_number(pooled.over_seeds, ".4f"), _number(pooled.over_folds, ".4f")]
        if folds:
            rows.append(row + [NONE] * (len(columns) - len(row)))
    return Table(columns, rows) if rows else None


def quality_table(results: Sequence[Result]) -> Table:
    """Returns a table with a row for each model that has predictions."""
    columns = ["model", "runs", "images", "checkpoint", "passes", "ROC AUC", "Brier score", "calibration error"]
    rows = [
        [
            result.group.name,
            str(result.quality.runs),
            f"{result.quality.images:,}",
            *_evaluated(result.quality.evaluated),
            *(_number(value, ".4f") for value in result.quality[3:]),
        ]
        for result in results
        if result.quality
    ]
    return Table(columns, rows)


def _evaluated(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the cells of the columns checkpoint and passes."""
    return [", ".join(sorted(set(values))) for values in zip(*pairs)]


def csv_rows(results: Sequence[Result], comparisons: Sequence[Comparison]) -> list[Mapping[str, object]]:
    """Returns the rows of results.csv, with all digits of every number, and '' for unknown numbers."""
    compared = {comparison.result.group.name: comparison for comparison in comparisons}
    rows = []
    for result in results:
        finished = result.group.finished
        row = {"model": result.group.name, "runs": len(finished), "unfinished": len(result.group.runs) - len(finished)}
        row["seeds"] = " ".join(dict.fromkeys(str(run.seed) for run in finished if run.seed is not None))
        row |= {"parameters": result.parameters, "multiply_adds": result.multiply_adds}
        for name, means in (("last", result.last), ("maximum", result.maximum)):
            row |= {f"{name}_{part}": value for part, value in means._asdict().items()}
        row |= {name: getattr(result, name) for name in ("minutes_per_epoch", "minutes", "images_per_second")}
        figures = result.published
        row |= {"published_best": figures.best if figures else "", "published_mean": figures.mean if figures else ""}
        comparison = compared.get(result.group.name)
        row |= {"baseline": comparison.baseline.group.name, **_csv_comparison(comparison)} if comparison else {}
        row |= {"folds": result.group.folds} if result.group.folds else {}
        row |= {f"pooled_{part}": value for part, value in result.pooled._asdict().items()} if result.pooled else {}
        rows.append({key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()})
    return rows


def _csv_comparison(comparison: Comparison) -> dict[str, object]:
    low, high = comparison.bootstrap
    cells = {"common_seeds": comparison.pairs, "bootstrap_low": low, "bootstrap_high": high}
    cells |= {"predicted_images": comparison.image_count, "predicted_seeds": comparison.image_pairs}
    differences = {"difference": comparison.seeds, "images_difference": comparison.images}
    differences["both_difference"] = comparison.both
    if comparison.groups:
        differences["groups_difference"] = comparison.groups
    for name, difference in differences.items():
        cells |= {f"{name}_{part}": value for part, value in difference._asdict().items()}
    return cells


def _runs(result: Result) -> str:
    finished, all_runs = len(result.group.finished), len(result.group.runs)
    return str(finished) if finished == all_runs else f"{finished} of {all_runs} finished"


def _number(value: float, form: str) -> str:
    return NONE if math.isnan(value) else format(value, form)


def _interval(low: float, high: float, form: str) -> str:
    return NONE if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"


def _mean(means: Mean | Pooled) -> str:
    if math.isnan(means.low):
        return _number(means.value, ".4f")
    return f"{means.value:.4f} {_interval(means.low, means.high, '.4f')}"


def _difference(difference) -> str:
    if math.isnan(difference.low):
        return _number(difference.value, "+.4f")
    return f"{difference.value:+.4f} {_interval(difference.low, difference.high, '+.4f')}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else _number(p, ".3f")
