"""Tabulates how runs spent their wall time, from their goodput.json."""

from collections.abc import Sequence

from stochconv_jax.reporting.models import Group
from stochconv_jax.reporting.page import Table

ABOUT = (
    "Hours over all starts of a model's runs, finished or not, and the share of each part, from goodput.json. start: "
    "the time until training begins, at restarts too; input: waits for batches; repeated: work that an earlier start "
    "had done and not saved. The last seconds before a kill are not recorded."
)


def table(groups: Sequence[Group]) -> Table | None:
    """A line for each model that has a run with a goodput.json; None where there is none."""
    spent = {group.name: known for group in groups if (known := [run.goodput for run in group.runs if run.goodput])}
    if not spent:
        return None
    parts = list(dict.fromkeys(part for runs in spent.values() for run in runs for part in run["seconds"]))
    rows = []
    for name, runs in spent.items():
        wall = sum(run["wall_seconds"] for run in runs)
        shares = [sum(run["seconds"].get(part, 0) for run in runs) / max(wall, 1e-9) for part in parts]
        starts = sum(len(run["starts"]) for run in runs)
        rows.append([name, str(len(runs)), str(starts), f"{wall / 3600:.3g}", *(f"{share:.1%}" for share in shares)])
    return Table(["model", "runs", "starts", "hours", *parts], rows)
