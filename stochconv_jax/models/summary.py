"""A table of the parts of a classifier with output shapes, parameters and multiply-adds, by branch and stage."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from clu import parameter_overview

from stochconv_jax.models.classifier import Classifier

# Modules with these names are groups of parts, each of which is a row of the table.
GROUPS = ("thumbnail", "windows", "merged")


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """A stem, a stage, a head or the last layer; `output` is its output shape for one image, [h, w, C] or [C]."""

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def parts(model: Classifier, inputs: Mapping[str, jax.ShapeDtypeStruct]) -> list[SummaryRow]:
    """Returns the parts of `model` in the order of computation, without computing more than shapes.

    Multiply-adds are those of convolutions and dense layers, counted as by Tan & Le (2019): for each weight, one for
    each pixel of the output.

    Args:
      model: the classifier.
      inputs: shapes and dtypes of its inputs, for a batch of one image.
    """
    model = model.clone(remat=False)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}

    def trace(arrays):
        variables = model.init(keys, arrays, capture_intermediates=True, mutable=True)
        return variables["params"], variables["intermediates"]

    params, outputs = jax.eval_shape(trace, inputs)
    rows: dict[str, list[int]] = {}  # parameters and multiply-adds by part
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        row = rows.setdefault(_part(names), [0, 0])
        row[0] += leaf.size
        if names[-1] == "kernel":
            pixels = (math.prod(shape[1:-1]) for shape in _output_shapes(outputs, names[:-1]))
            row[1] += leaf.size * sum(pixels)
    order = sorted(rows, key=_order)
    return [SummaryRow(name, _output_shapes(outputs, name.split("/"))[-1][1:], *rows[name]) for name in order]


def _part(names: list[str]) -> str:
    """Returns the name of the part to which the parameter at the path `names` belongs."""
    return "/".join(names[:2]) if names[0] in GROUPS else names[0]


def _order(name: str) -> tuple[int, str]:
    """Returns the sort key of a part: branch after branch, each from stem to head, then the merged trunk."""
    branches = ("thumbnail", "windows", "merged", "metadata", "classifier")
    rank = branches.index(name.split("/")[0].removesuffix("_stem"))
    # '~' sorts the head after the stages.
    return rank, "" if name.endswith("_stem") else name.replace("/head", "/~head")


def _output_shapes(outputs: Mapping[str, Any], names: Iterable[str]) -> list[tuple[int, ...]]:
    """Returns the output shape of each call of the module at the path `names`: shared blocks are called repeatedly."""
    for name in names:
        outputs = outputs[name]
    return [output.shape for output in outputs["__call__"]]


def totals(rows: list[SummaryRow]) -> dict[str, int]:
    """Returns the sums of parameters and of multiply-adds over all parts."""
    return {name: sum(getattr(row, name) for row in rows) for name in ("parameters", "multiply_adds")}


def table(rows: list[SummaryRow]) -> str:
    """Returns a text table of the parts and their totals."""
    total = SummaryRow("total", (), **totals(rows))
    return parameter_overview.make_table([*rows, total], value_formatter=_cell)


def _cell(value: str | int | tuple[int, ...]) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return value if isinstance(value, str) else f"{value:,}"
