"""The exported files, run by jax.export and by onnxruntime."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.exporting import files, onnx_graph
from tests.exporting.conftest import broken, make_program, pictures

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("flatbuffers", reason="needs the extra `export`")


def onnx_result(file, images):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.fixture(scope="module")
def written(program, tmp_path_factory):
    """The ONNX file of `program`, and how far it differs from the network."""
    return files.write_onnx(tmp_path_factory.mktemp("onnx"), program)


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": jnp.bfloat16},  # in float32 in the file
        {"merge_after": "head", "num_classes": 3, "sampling": "shared", "passes": 1},
        {"merge_after": 0, "sampling": "per_batch", "axes": "diagonal", "conventions": "as_published", "remat": True},
        {"branches": ("windows",), "views": 4},
        {"branches": ("thumbnail",)},
        {"branches": ("thumbnail",), "lite": True, "conventions": "torch"},
        {"normalization": "group", "window_stem_filters": 24},
    ],
)
def test_onnxruntime_predicts_the_same_for_any_number_of_images(tmp_path, settings):
    program, images = make_program(**settings), pictures(5, seed=1)
    file, difference = files.write_onnx(tmp_path, program)
    onnx.checker.check_model(file, full_check=True)
    expected = np.asarray(jax.jit(program.in_float32().probabilities)(images))
    assert np.ptp(expected[:, 0]) > 1e-3 and difference < 1e-5
    for count in (5, 1):
        np.testing.assert_allclose(onnx_result(file, images[:count]), expected[:count], atol=1e-5)


def test_stablehlo_is_for_all_platforms_and_any_number_of_images(program, tmp_path):
    file, difference = files.write_stablehlo(tmp_path, program, ("cpu", "cuda", "tpu"))
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu") and difference < 1e-5
    assert str(exported.in_avals[0]) == "uint8[batch,60,52,3]" and str(exported.out_avals[0]) == "float32[batch,2]"
    images = pictures(3, seed=1)
    for count in (3, 1):
        expected = jax.jit(program.probabilities)(images[:count])
        np.testing.assert_allclose(exported.call(images[:count]), expected, atol=1e-6)


def test_metadata_are_a_second_input_of_both_files(tmp_path):
    program, images = make_program(metadata_features=3, branches=("thumbnail",), passes=1), pictures(3, seed=1)
    metadata = np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)
    onnx_file, difference = files.write_onnx(tmp_path, program)
    stablehlo, other = files.write_stablehlo(tmp_path, program, ("cpu",))
    assert difference < 1e-5 and other < 1e-5
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    exported = jax.export.deserialize(bytearray(stablehlo.read_bytes()))
    network = jax.jit(program.probabilities)
    expected = {order: np.asarray(network(images, metadata[::order])) for order in (1, -1)}
    for order, probabilities in expected.items():
        given = metadata[::order]
        found = session.run(None, {"images": images, "metadata": given})[0]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        np.testing.assert_allclose(exported.call(images, given), probabilities, atol=1e-5)
    assert np.abs(expected[1] - expected[-1]).max() > 1e-3  # the metadata count


def test_a_file_for_other_machines_only_is_not_compared(program, tmp_path):
    assert np.isnan(files.write_stablehlo(tmp_path, program, ("tpu",))[1])


def test_a_file_for_this_machine_is_compared_also_on_a_gpu(program, tmp_path, monkeypatch):
    """JAX calls the platform 'gpu' where jax.export calls it 'cuda' or 'rocm'."""
    monkeypatch.setattr(jax.export, "default_export_platform", lambda: "cuda")
    monkeypatch.setattr(files, "_difference", lambda *_: 0.0)
    assert files.write_stablehlo(tmp_path, program, ("cuda",))[1] == 0.0


def test_onnx_is_compared_with_products_of_full_precision(program, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_difference", lambda *_: jax.config.jax_default_matmul_precision)
    assert files.write_onnx(tmp_path, program)[1] == "highest"


def test_a_file_that_differs_from_the_network_is_refused(program, written):
    file, difference = written
    assert difference < 1e-5
    call = functools.partial(onnx_result, file)
    with pytest.raises(RuntimeError, match=r"model\.onnx differs from the network by .*: do not use it"):
        files._difference(file, broken(program), call)


def test_an_operation_without_a_rule_is_named():
    def function(images):
        return jnp.sort(images.astype(jnp.float32), axis=1)

    with pytest.raises(ValueError, match="no rule for the operation 'sort'"):
        onnx_graph.convert(function, {"images": ((4,), np.uint8)}, "sorted")


def test_what_is_computed_from_constants_is_no_part_of_the_graph(written):
    kinds = {node.op_type for node in onnx.load(written[0]).graph.node}
    # The reciprocal roots of batch norm's variances are numbers in the file.
    assert "Sqrt" not in kinds and {"Conv", "MatMul", "Slice", "Sigmoid"} <= kinds


def test_a_missing_package_is_named_before_the_work(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    files.check_packages(["stablehlo"])
    with pytest.raises(
        RuntimeError, match=r"onnx needs the package onnxruntime: pip install 'stochconv_jax\[export\]'"
    ):
        files.check_packages(["stablehlo", "onnx"])
