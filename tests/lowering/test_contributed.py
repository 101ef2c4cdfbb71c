"""Operators that onnxruntime contributes, through the engine and through onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphopt.errors import ExecutionError
from graphopt.ir.evaluate.plain import plain_session
from graphopt.runtime import InferenceSession
from tests.lowering.running import kernels_of, node_model

DOMAIN = "com.microsoft"
U8, S8 = np.uint8, np.int8
Array = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def floats(*dims: int, seed: int = 0) -> Array:
    return rng(seed).standard_normal(dims).astype(np.float32)


def codes(*dims: int, dtype: type = U8, seed: int = 0) -> Array:
    limits = np.iinfo(dtype)
    return rng(seed).integers(limits.min, limits.max + 1, dims).astype(dtype)


def scale(value: float) -> Array:
    return np.array(value, np.float32)


def quantization(step: float, zero: int, dtype: type, name: str) -> dict[str, Array]:
    return {f"{name}_scale": scale(step), f"{name}_zero": np.array(zero, dtype)}


def both(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[tuple[Array, Array]]:
    """Answers of onnxruntime and ours."""
    wanted = {i.name for i in model.graph.input}
    given = {name: array for name, array in feeds.items() if name in wanted}
    theirs = plain_session(model).run(None, given)
    ours = InferenceSession(model, optimize=False).run(None, given)
    pairs = []
    for a, b in zip(theirs, ours, strict=True):
        assert isinstance(b, Array)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        pairs.append((a, b))
    return pairs


def assert_native(model: onnx.ModelProto, feeds: dict[str, Array], steps: int = 0) -> None:
    """Our kernels give the same, up to `steps` of integers and rounding of floats."""
    assert "reference" not in kernels_of(model)
    for a, b in both(model, feeds):
        if a.dtype.kind == "f":
            np.testing.assert_allclose(b, a, rtol=2e-6, atol=2e-6 * max(1.0, float(np.abs(a).max(initial=0))))
        else:
            assert np.abs(a.astype(int) - b.astype(int)).max(initial=0) <= steps


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dims", [((2, 3, 5), (2, 3, 5)), ((4, 1, 7), (3, 1)), ((0, 3), (1, 3)), ((33,), ())])
def test_two_quantized_operands(
    op_type: str, dtype: type, dims: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    zero = 3 if dtype is S8 else 121
    feeds = {"a": codes(*dims[0], dtype=dtype), **quantization(0.021, zero, dtype, "a")}
    feeds |= {"b": codes(*dims[1], dtype=dtype, seed=1), **quantization(0.034, zero - 9, dtype, "b")}
    feeds |= quantization(0.06, zero + 2, dtype, "c")
    # onnxruntime multiplies by rounded quotients of the scales: where a sum lies between two codes it may differ.
    assert_native(node_model(op_type, feeds, opset=17, domain=DOMAIN), feeds, steps=1)


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.2}),
        ("QLinearSoftmax", {"axis": -1, "version": 13}),
        ("QLinearSoftmax", {"axis": 1, "version": 12}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearAveragePool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 1, 0, 0]}),
    ],
)
def test_one_quantized_operand(op_type: str, attributes: dict[str, object], dtype: type) -> None:
    attributes = dict(attributes)
    zero = -7 if dtype is S8 else 130
    after = (
        (1 / 256, np.iinfo(dtype).min) if op_type in ("QLinearSoftmax", "QLinearSigmoid") else (0.02, zero)
    )
    feeds = {"x": codes(2, 3, 6, 5, dtype=dtype), **quantization(0.03, zero, dtype, "x")}
    feeds |= quantization(*after, dtype, "y")
    version = attributes.pop("version", None)
    model = node_model(op_type, feeds, opset=17, domain=DOMAIN, **attributes)
    if version is not None:
        model.graph.node[0].attribute.append(helper.make_attribute("opset", version))
    assert_native(model, feeds, steps=1)


@pytest.mark.parametrize("op_type", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
def test_pools_over_channels_that_lie_innermost(op_type: str) -> None:
    feeds = {"x": codes(2, 6, 5, 8), **quantization(0.03, 130, U8, "x"), **quantization(0.02, 128, U8, "y")}
    window = {} if "Global" in op_type else {"kernel_shape": [2, 3]}
    model = node_model(op_type, feeds, opset=17, domain=DOMAIN, channels_last=1, **window)
    assert_native(model, feeds, steps=1)


def test_concat_of_quantized_parts() -> None:
    feeds = quantization(0.04, 120, U8, "y")
    for k, length in enumerate((3, 1, 4)):
        feeds |= {f"x{k}": codes(2, length, 5, seed=k), **quantization(0.02 + 0.01 * k, 110 + k, U8, f"x{k}")}
    assert_native(node_model("QLinearConcat", feeds, opset=17, domain=DOMAIN, axis=1), feeds)


def test_choice_between_quantized_tensors() -> None:
    feeds = {"c": np.array([True, False, True])}
    for name in ("x", "y"):
        feeds |= {name: codes(4, 3, seed=ord(name)), **quantization(0.03, 120, U8, name)}
    feeds |= quantization(0.03, 118, U8, "z")
    assert_native(node_model("QLinearWhere", feeds, opset=17, domain=DOMAIN), feeds, steps=1)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_gemm_of_bytes(quantized: bool, per_column: bool, turned: bool) -> None:
    columns = 6
    steps = rng(5).uniform(0.01, 0.05, columns if per_column else ()).astype(np.float32)
    b = codes(columns, 9, dtype=S8, seed=1) if turned else codes(9, columns, dtype=S8, seed=1)
    feeds = {"a": codes(4, 9), **quantization(0.02, 128, U8, "a"), "b": b}
    feeds |= {"b_scale": np.asarray(steps), "b_zero": np.zeros(np.shape(steps), S8)}
    feeds |= {"c": rng(2).integers(-2000, 2000, columns).astype(np.int32)}
    feeds |= quantization(0.9, 128, U8, "y") if quantized else {}
    constants = [name for name in feeds if name != "a"]
    model = node_model(
        "QGemm", feeds, opset=17, domain=DOMAIN, constants=constants, transB=int(turned), alpha=0.5
    )
    assert_native(model, feeds, steps=1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_normalization_of_a_sum(op_type: str, bias: bool) -> None:
    feeds = {"x": floats(2, 3, 8), "skip": floats(2, 3, 8, seed=1), "gamma": floats(8, seed=2)}
    feeds |= {"beta": floats(8, seed=3)} if op_type == "SkipLayerNormalization" else {}
    feeds |= {"bias": floats(8, seed=4)} if bias else {}
    model = node_model(op_type, feeds, ["y", "", "", "sum"], opset=17, domain=DOMAIN, epsilon=1e-5)
    assert_native(model, feeds)


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", {}), ("Tanh", {}), ("LeakyRelu", {"activation_alpha": 0.3})],
)
def test_gemm_with_activation(activation: str, parameters: dict[str, float]) -> None:
    feeds = {"a": floats(3, 7), "b": floats(5, 7, seed=1), "c": floats(5, seed=2)}
    model = node_model(
        "FusedGemm", feeds, opset=17, domain=DOMAIN, activation=activation, transB=1, alpha=0.5, **parameters
    )
    assert_native(model, feeds)


def lstm(
    direction: str, per_column: bool, given: tuple[str, ...], steps: int = 4
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A cell of 5 hidden values over 3 sequences of 6 numbers, with what is given besides its weights."""
    directions, depth, hidden, batch = (2 if direction == "bidirectional" else 1), 6, 5, 3
    of_scale = (directions, 4 * hidden) if per_column else (directions,)
    feeds = {"x": floats(steps, batch, depth), "w": codes(directions, depth, 4 * hidden, dtype=S8)}
    feeds |= {"r": codes(directions, hidden, 4 * hidden, dtype=S8, seed=1)}
    feeds |= {"b": floats(directions, 8 * hidden, seed=2)} if "b" in given else {}
    feeds |= {"lengths": np.array([4, 2, 3], np.int32)} if "lengths" in given else {}
    first = {name: floats(directions, batch, hidden, seed=3) for name in ("h", "c")}
    feeds |= first if "first" in given else {}
    for name, seed in (("w", 6), ("r", 7)):
        feeds[f"{name}_scale"] = rng(seed).uniform(0.005, 0.02, of_scale).astype(np.float32)
        feeds[f"{name}_zero"] = np.zeros(of_scale, S8)
    names = ["x", "w", "r", "b", "lengths", "h", "c", "p", "w_scale", "w_zero", "r_scale", "r_zero"]
    constants = [name for name in feeds if name not in ("x", "lengths", "h", "c")]
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        [name if name in feeds else "" for name in names],
        ["y", "y_h", "y_c"],
        domain=DOMAIN,
        hidden_size=hidden,
        direction=direction,
    )
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
        for n, a in feeds.items()
        if n not in constants
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    weights = [numpy_helper.from_array(feeds[name], name) for name in constants]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "cell", infos, outputs, weights)
    return helper.make_model(graph, opset_imports=imports, ir_version=8), feeds


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("given", [(), ("b",), ("b", "first")])
def test_lstm_of_bytes(direction: str, per_column: bool, given: tuple[str, ...]) -> None:
    assert_native(*lstm(direction, per_column, given))


def test_lstm_of_bytes_without_steps_keeps_the_first_values() -> None:
    model, feeds = lstm("bidirectional", False, ("b", "first"), steps=0)
    given = {name: feeds[name] for name in ("x", "h", "c")}
    y, h, c = InferenceSession(model, optimize=False).run(None, given)
    assert isinstance(y, Array) and y.shape == (0, 2, 3, 5)
    np.testing.assert_array_equal(h, feeds["h"])
    np.testing.assert_array_equal(c, feeds["c"])


@pytest.mark.parametrize(
    ("op_type", "feeds", "attributes"),
    [
        ("Inverse", {"x": np.eye(3, dtype=np.float32) * 2}, {}),
        (
            "Attention",
            {"x": floats(2, 4, 8), "w": floats(8, 24, seed=1), "b": floats(24, seed=2)},
            {"num_heads": 2},
        ),
        ("CDist", {"a": floats(3, 4), "b": floats(5, 4, seed=1)}, {"metric": "euclidean"}),
    ],
)
def test_others_are_run_by_onnxruntime(
    op_type: str, feeds: dict[str, Array], attributes: dict[str, object]
) -> None:
    model = node_model(op_type, feeds, opset=17, domain=DOMAIN, **attributes)
    assert kernels_of(model) == ["reference"]
    for a, b in both(model, feeds):
        np.testing.assert_array_equal(a, b)


def test_lstm_of_bytes_with_lengths_is_run_by_onnxruntime() -> None:
    model, feeds = lstm("forward", False, ("b", "lengths"))
    for a, b in both(model, feeds):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_onnxruntime_does_not_know_either() -> None:
    model = node_model("NoSuchOperator", {"x": floats(2)}, opset=17, domain=DOMAIN)
    with pytest.raises(ExecutionError, match=r"nothing runs com\.microsoft::NoSuchOperator"):
        InferenceSession(model, optimize=False).run(None, {"x": floats(2)})
