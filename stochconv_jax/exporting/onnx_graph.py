"""Writes a JAX function as an ONNX graph: one rule for each primitive operation of the networks here.

The package onnx, of the extra `export`, is imported when a graph is made.

The function is traced with a symbolic batch, so that the graph takes any number of images. Operations on constants,
such as parameters, are computed while the graph is made. ONNX has convolutions of channels-first images only, so each
convolution stands between two transpositions, of which runtimes remove what they can.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import export
from jax.extend.core import Jaxpr, Literal

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 8  # ONNX 1.13 of December 2022
ELEMENTWISE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "exp": "Exp",
    "floor": "Floor",
    "logistic": "Sigmoid",
    "round": "Round",
}
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax"}
# Operations that contain a function, by the parameter that holds it.
CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
UNCHANGED = ("copy", "stop_gradient")
CHANNELS_LAST = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # where batch, features, height and width are

Value = str | np.ndarray  # the name of a result in the graph, or a constant


def convert(
    function: Callable[..., jax.Array], inputs: Mapping[str, tuple[Sequence[int], Any]], output_name: str
) -> "onnx.ModelProto":
    """Returns the ONNX model of a function with one result [batch, ...].

    `inputs`: (shape, dtype) of the function's arguments by their names in the model; each argument is [batch, *shape].
    Raises ValueError, naming it, for an operation without a rule.
    """
    from onnx import helper

    (batch,) = export.symbolic_shape("batch")
    traced = jax.make_jaxpr(function)(
        *(jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in inputs.values())
    )
    graph = _Graph()
    (result,) = graph.add(traced, list(inputs))
    graph.node("Identity", [result], output_name)
    out: Any = traced.out_avals[0]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "stochconv_jax",
            [
                helper.make_tensor_value_info(name, _element_type(dtype), ["batch", *shape])
                for name, (shape, dtype) in inputs.items()
            ],
            [helper.make_tensor_value_info(output_name, _element_type(out.dtype), ["batch", *out.shape[1:]])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="stochconv_jax",
    )


class _Graph:
    """The nodes and constants of a graph that is being made."""

    def __init__(self):
        import onnx

        self._onnx = onnx
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: dict[tuple, str] = {}  # of constants, by their content

    def node(self, kind: str, inputs: Sequence[Value], name: str = "", **attributes: Any) -> str:
        """Adds an operation and returns the name of its result."""
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        names = [self._name(value) for value in inputs]
        self.nodes.append(self._onnx.helper.make_node(kind, names, [name], name, **attributes))
        return name

    def _name(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._names:
            self._names[key] = f"constant_{len(self.initializers)}"
            self.initializers.append(self._onnx.numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def add(self, traced: Any, arguments: Sequence[Value]) -> list[Value]:
        """Adds a function, the result of `jax.make_jaxpr`, and returns its results."""
        return self._add(traced.jaxpr, [np.asarray(constant) for constant in traced.consts], arguments)

    def _add(self, jaxpr: Jaxpr, constants: Sequence[Value], arguments: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = {}
        values.update(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

        def read(atom: Any) -> Value:
            if not isinstance(atom, Literal):
                return values[atom]
            about: Any = atom.aval
            return np.asarray(atom.val, about.dtype)

        equation: Any
        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self._operation(equation, inputs), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _operation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        """Adds one operation of a traced function and returns its results."""
        name, params = equation.primitive.name, equation.params
        if name == "platform_index":  # ONNX is none of the platforms that are named, so that the default follows
            return [np.array(len(params["platforms"]) - 1)]
        if name == "cond" and isinstance(inputs[0], np.ndarray):
            return self.add(params["branches"][int(inputs[0])], inputs[1:])
        if name in CALLS:
            called = params[CALLS[name]]
            return self._add(called, [], inputs) if isinstance(called, Jaxpr) else self.add(called, inputs)
        if not any(isinstance(value, str) for value in inputs) and _is_static(equation.outvars[0].aval.shape):
            results = equation.primitive.bind(*inputs, **params)
            return [np.asarray(one) for one in (results if equation.primitive.multiple_results else [results])]
        return [self._node_of(name, params, inputs, equation)]

    def _node_of(self, name: str, params: dict[str, Any], inputs: list[Value], equation: Any) -> Value:
        shape = equation.invars[0].aval.shape
        if name in ELEMENTWISE:
            return self.node(ELEMENTWISE[name], inputs)
        if name in UNCHANGED:
            return inputs[0]
        if name in REDUCTIONS:
            axes = np.array(params["axes"], np.int64)
            return self.node(REDUCTIONS[name], [inputs[0], axes], keepdims=0)
        rule = getattr(self, f"_{name}", None)
        if rule is None:
            raise ValueError(f"the ONNX writer has no rule for the operation {name!r}")
        return rule(inputs, shape, params, equation.outvars[0].aval)

    def _convert_element_type(self, inputs, shape, params, out) -> Value:
        return self.node("Cast", inputs, to=_element_type(params["new_dtype"]))

    def _integer_pow(self, inputs, shape, params, out) -> Value:
        return self.node("Pow", [*inputs, np.asarray(params["y"], out.dtype)])

    def _square(self, inputs, shape, params, out) -> Value:
        return self.node("Mul", [inputs[0], inputs[0]])

    def _rsqrt(self, inputs, shape, params, out) -> Value:
        return self.node("Reciprocal", [self.node("Sqrt", inputs)])

    def _reshape(self, inputs, shape, params, out) -> Value:
        return self.node("Reshape", [inputs[0], _sizes(out.shape)])

    _squeeze = _expand_dims = _reshape

    def _transpose(self, inputs, shape, params, out) -> Value:
        return self.node("Transpose", inputs, perm=list(params["permutation"]))

    def _concatenate(self, inputs, shape, params, out) -> Value:
        return self.node("Concat", inputs, axis=params["dimension"])

    def _slice(self, inputs, shape, params, out) -> Value:
        strides = params["strides"] or (1,) * len(shape)
        axes = [axis for axis, size in enumerate(shape) if out.shape[axis] is not size and out.shape[axis] != size]
        bounds = ([values[axis] for axis in axes] for values in (params["start_indices"], params["limit_indices"]))
        start, limit = (np.array(values, np.int64) for values in bounds)
        steps = np.array([strides[axis] for axis in axes], np.int64)
        return self.node("Slice", [inputs[0], start, limit, np.array(axes, np.int64), steps])

    def _rev(self, inputs, shape, params, out) -> Value:
        axes = np.array(params["dimensions"], np.int64)
        start, limit = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
        return self.node("Slice", [inputs[0], start, limit, axes, np.full(len(axes), -1)])

    def _broadcast_in_dim(self, inputs, shape, params, out) -> Value:
        """Adds axes of length 1, and repeats along those of fixed length; the batch is left to later operations."""
        placed = [1] * len(out.shape)
        for axis, size in zip(params["broadcast_dimensions"], shape, strict=True):
            placed[axis] = size
        value = self.node("Reshape", [inputs[0], _sizes(placed)])
        repeated = [size if isinstance(size, int) else 1 for size in out.shape]
        if any(isinstance(one, int) and one != size for one, size in zip(placed, repeated)):
            value = self.node("Expand", [value, np.array(repeated, np.int64)])
        return value

    def _dot_general(self, inputs, shape, params, out) -> Value:
        (left_axes, right_axes), (left_batch, right_batch) = params["dimension_numbers"]
        if len(left_axes) != 1 or tuple(right_axes) != (0,) or left_batch or right_batch:
            raise ValueError(f"the ONNX writer has no rule for a product over {params['dimension_numbers']}")
        left, axis = inputs[0], left_axes[0]
        if axis != len(shape) - 1:
            left = self.node("Transpose", [left], perm=[k for k in range(len(shape)) if k != axis] + [axis])
        return self.node("MatMul", [left, inputs[1]])

    def _conv_general_dilated(self, inputs, shape, params, out) -> Value:
        numbers, dilations = params["dimension_numbers"], {*params["lhs_dilation"], *params["rhs_dilation"]}
        if numbers != CHANNELS_LAST or dilations != {1}:
            raise ValueError(f"the ONNX writer has no rule for a convolution with {numbers} and dilations {dilations}")
        image, kernel = (self.node("Transpose", [inputs[0]], perm=[0, 3, 1, 2]), np.transpose(inputs[1], (3, 2, 0, 1)))
        (top, bottom), (left, right) = params["padding"]
        convolved = self.node(
            "Conv",
            [image, np.ascontiguousarray(kernel)],
            strides=list(params["window_strides"]),
            pads=[top, left, bottom, right],
            group=params["feature_group_count"],
        )
        return self.node("Transpose", [convolved], perm=[0, 2, 3, 1])


def _is_static(shape: Sequence[Any]) -> bool:
    return all(isinstance(size, int) for size in shape)


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """Returns a shape as Reshape takes it, in which -1 stands for the symbolic batch."""
    return np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)


def _element_type(dtype: Any) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
