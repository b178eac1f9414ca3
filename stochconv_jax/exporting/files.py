"""The exported files: each is written, read back, run, and compared with the network."""

import functools
import importlib.util
import pathlib
from collections.abc import Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from stochconv_jax.atomic_files import write_bytes
from stochconv_jax.exporting import onnx_graph
from stochconv_jax.exporting.program import Program

STABLEHLO, ONNX = "model.stablehlo", "model.onnx"
PACKAGES = {"stablehlo": ("flatbuffers",), "onnx": ("onnx", "onnxruntime")}  # needed for each format
OUTPUT = "probabilities"
# The largest accepted difference of a probability. Two programs of one network in bfloat16 may round differently.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


def check_packages(formats: Sequence[str]) -> None:
    """Raises RuntimeError if a package that one of `formats` needs is not installed."""
    for name in formats:
        if missing := [package for package in PACKAGES[name] if importlib.util.find_spec(package) is None]:
            advice = "pip install 'stochconv_jax[export]', or choose other `formats`"
            raise RuntimeError(f"{name} needs the package {' and '.join(missing)}: {advice}")


def write_stablehlo(folder: pathlib.Path, program: Program, platforms: Sequence[str]) -> tuple[pathlib.Path, float]:
    """Writes a file that `jax.export.deserialize` reads, for any number of images and for `platforms`.

    Returns its path, and how far it differs from the network, see `_difference`; NaN if it is not for this machine.
    """
    (batch,) = export.symbolic_shape("batch")
    arguments = [jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in program.arguments().values()]
    exported = export.export(jax.jit(program.probabilities), platforms=tuple(platforms))(*arguments)
    file = write_bytes(folder / STABLEHLO, bytes(exported.serialize()))
    call = export.deserialize(bytearray(file.read_bytes())).call
    here = export.default_export_platform() in platforms
    return file, _difference(file, program, call) if here else float("nan")


def write_onnx(folder: pathlib.Path, program: Program) -> tuple[pathlib.Path, float]:
    """Writes an ONNX file with activations in float32, for any number of images.

    Returns its path, and how far it differs from the network in onnxruntime, see `_difference`.
    """
    import onnxruntime

    program = program.in_float32()
    function = functools.partial(program.portable_probabilities, windows=program.windows())
    model = onnx_graph.convert(function, program.arguments(), OUTPUT)
    file = write_bytes(folder / ONNX, model.SerializeToString())
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with jax.default_matmul_precision(
        "highest"
    ):  # by default GPUs and TPUs round the factors, and onnxruntime does not
        return file, _difference(
            file, program, lambda *arrays: session.run([OUTPUT], dict(zip(program.arguments(), arrays)))[0]
        )


def _difference(file: pathlib.Path, program: Program, call) -> float:
    """Returns the largest difference between the probabilities of `call` and of the network, for random inputs.

    Raises RuntimeError, naming the file, if it is more than that of TOLERANCES.
    """
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (3, 8, 8, 3), np.uint8)  # noise would average out
    arrays = [np.stack([cv2.resize(one, program.image_size[::-1]) for one in patches])]
    if features := program.model.metadata_features:
        arrays.append(random.normal(size=(3, features)).astype(np.float32))
    network = jax.jit(program.probabilities)
    batches = ([array[:count] for array in arrays] for count in (1, 3))  # the file is for any number of images
    difference = float(max(np.abs(np.asarray(call(*batch)) - np.asarray(network(*batch))).max() for batch in batches))
    if not difference <= TOLERANCES[jnp.dtype(program.model.layers.dtype).name]:
        raise RuntimeError(f"{file} differs from the network by {difference:.2g} in a probability: do not use it")
    return difference
