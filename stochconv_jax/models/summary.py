"""What a classifier consists of: output shape, parameters and multiply-adds, by branch and stage."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from clu import parameter_overview

from stochconv_jax.models.classifier import Classifier

# Modules of these names are groups of parts; the rows of the table are one level below them.
GROUPS = ("thumbnail", "windows", "merged")


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """A stem, a stage, a head or the last layer; `output` is for one image."""

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def parts(model: Classifier, inputs: Mapping[str, jax.ShapeDtypeStruct]) -> list[SummaryRow]:
    """The parts of `model` in the order of computation. `inputs`: shapes of a batch of one image.

    Nothing is computed but shapes. Multiply-adds are those of convolutions and dense layers, as Tan & Le (2019) count
    them: for each weight one for each place of the output it contributes to.
    """
    model = model.clone(remat=False)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}

    def trace(arrays):
        variables = model.init(keys, arrays, capture_intermediates=True, mutable=True)
        return variables["params"], variables["intermediates"]

    params, outputs = jax.eval_shape(trace, inputs)
    found: dict[str, list[int]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        row = found.setdefault(_part(names), [0, 0])
        row[0] += leaf.size
        if names[-1] == "kernel":
            places = (math.prod(shape[1:-1]) for shape in _outputs(outputs, names[:-1]))
            row[1] += leaf.size * sum(places)
    order = sorted(found, key=_place)
    return [SummaryRow(name, _outputs(outputs, name.split("/"))[-1][1:], *found[name]) for name in order]


def _part(names: list[str]) -> str:
    return "/".join(names[:2]) if names[0] in GROUPS else names[0]


def _place(name: str) -> tuple[int, str]:
    """Stems before stages, branch after branch, then what follows the meeting."""
    branches = ("thumbnail", "windows", "merged", "classifier")
    return branches.index(name.split("/")[0].removesuffix("_stem")), "" if name.endswith("_stem") else _numbered(name)


def _numbered(name: str) -> str:
    return name.replace("/head", "/~head")  # after the stages


def _outputs(outputs: Mapping[str, Any], names: Iterable[str]) -> list[tuple[int, ...]]:
    """Shapes that the module gave, one a call: a block that repeats share is called for each of them."""
    for name in names:
        outputs = outputs[name]
    return [output.shape for output in outputs["__call__"]]


def totals(rows: list[SummaryRow]) -> dict[str, int]:
    """Parameters and multiply-adds of all parts together."""
    return {name: sum(getattr(row, name) for row in rows) for name in ("parameters", "multiply_adds")}


def table(rows: list[SummaryRow]) -> str:
    """The parts as text, with their totals."""
    total = SummaryRow("total", (), **totals(rows))
    return parameter_overview.make_table([*rows, total], value_formatter=_cell)


def _cell(value: str | int | tuple[int, ...]) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return value if isinstance(value, str) else f"{value:,}"
