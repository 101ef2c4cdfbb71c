"""Weights stored as codes: where they lie, what they stand for, that runtimes take them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt import targets
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor
from graphopt.rewriting.pipeline import parse

RNG = np.random.default_rng(0)
W = RNG.standard_normal((64, 32)).astype(np.float32)


def model(text: str, opset: int = 21, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return ir.from_proto(proto)


def compressed(source: ir.Model, options: str = "") -> ir.Model:
    editor = Editor(source.clone(), target=targets.find("onnx"))
    Driver(editor, strict=True).run(parse(f"compress-weights{options}"))
    verify(editor.model)
    onnx.checker.check_model(ir.to_proto(editor.model), full_check=True)
    return editor.model


def answers(found: ir.Model, fused: bool = False, **feeds: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(ir.to_proto(found).SerializeToString(), options).run(None, feeds)


def rounded(weight: np.ndarray, axis: int | None = 1) -> np.ndarray:
    """What codes of 8 bits stand for."""
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    scale = (np.abs(weight).max(others, keepdims=True) / 127).astype(np.float32)
    return np.rint(weight / scale) * scale


def assert_equal(found: ir.Model, expected: ir.Model, **feeds: np.ndarray) -> None:
    """Both give the same; and fused kernels, which round what they multiply codes with, give it nearly."""
    for y, z in zip(answers(found, **feeds), answers(expected, **feeds), strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-4)
    for y, z in zip(answers(found, fused=True, **feeds), answers(expected, **feeds), strict=True):
        assert y.shape == z.shape and np.isfinite(y).all()


def types(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph]


def weights(graph: ir.Graph) -> dict[ir.DataType, int]:
    return {v.const_value.dtype: v.const_value.size for v in graph.initializers.values() if v.const_value}


MATMUL = "g (float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }"


def test_a_product_takes_codes_of_eight_bits() -> None:
    source = model(MATMUL, w=W)
    found = compressed(source)
    assert types(found.graph) == ["DequantizeLinear", "MatMul"]
    assert weights(found.graph) == {ir.DataType.INT8: W.size, ir.DataType.FLOAT: 32}
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    assert_equal(found, model(MATMUL, w=rounded(W)), x=x)
    # onnxruntime multiplies with 8 bits a block, our numbers in between.
    [y], [z] = answers(source, x=x), answers(found, fused=True, x=x)
    assert 0 < np.abs(y - z).max() < 0.02 * np.abs(y).max()


def test_four_bits_in_blocks() -> None:
    found = compressed(model(MATMUL, w=W), "{bits=4,block-size=16}")
    dequantize = found.graph[0]
    assert dequantize.attributes["block_size"].as_int() == 16
    assert dequantize.inputs[0].dtype == ir.DataType.INT4
    assert dequantize.inputs[1].shape == (4, 32)
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    blocks = W.reshape(4, 16, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / np.float32(7)
    assert_equal(found, model(MATMUL, w=(np.rint(blocks / scale) * scale).reshape(64, 32)), x=x)


def test_what_has_no_four_bits_gets_eight() -> None:
    found = compressed(
        model(
            "g (float[1,8,9,9] x) => (float[1,16,7,7] y) { y = Conv(x, w) }",
            w=RNG.standard_normal((16, 8, 3, 3)).astype(np.float32),
        ),
        "{bits=4}",
    )
    assert weights(found.graph) == {ir.DataType.INT8: 1152, ir.DataType.FLOAT: 16}
    assert found.graph[0].attributes["axis"].as_int() == 0


@pytest.mark.parametrize(
    ("text", "opset", "options"),
    [
        (MATMUL, 21, "{smallest=4096}"),
        (MATMUL, 12, ""),
        (MATMUL, 20, "{bits=4}"),
        ("g (float[N,64] x, float[64,32] w) => (float[N,32] y) { y = MatMul(x, w) }", 21, ""),
        ("g (float[N,64] x) => (float[N,32] y) { v = Neg(w)  y = MatMul(x, v) }", 21, ""),
    ],
    ids=["small", "no axis yet", "no blocks yet", "an input may override it", "not a weight"],
)
def test_leaves_alone(text: str, opset: int, options: str) -> None:
    source = model(text, opset, w=W)
    editor = Editor(source, target=targets.find("onnx"))
    Driver(editor, strict=True).run(parse(f"compress-weights{options}"))
    assert "DequantizeLinear" not in types(editor.model.graph)


def test_a_table_is_looked_up_as_codes() -> None:
    found = compressed(model("g (int64[N] i) => (float[N,32] y) { y = Gather(w, i) }", w=W))
    assert types(found.graph) == ["Gather", "DequantizeLinear"]
    i = np.array([3, 0, -1])
    assert_equal(found, model("g (int64[N] i) => (float[N,32] y) { y = Gather(w, i) }", w=rounded(W)), i=i)
    assert answers(found, i=np.array([], np.int64))[0].shape == (0, 32)


LOOP = """g (int64 n, float[2,64] x) => (float[2,64] y) {
    t = Constant <value = bool {1}> ()
    y = Loop (n, t, x) <body = b (int64 i, bool c, float[2,64] a) => (bool c2, float[2,64] a2) {
        c2 = Identity(c)  h = MatMul(a, w)  r = Tanh(h)  a2 = MatMul(r, v)
    }> %END%
}"""


def test_the_weight_of_a_body_moves_into_it() -> None:
    v = RNG.standard_normal((32, 64)).astype(np.float32)
    found = compressed(model(LOOP.replace("%END%", ""), w=W, v=v))
    [loop] = [node for node in found.graph if node.op_type == "Loop"]
    body = loop.attributes["body"].as_graph()
    assert types(body).count("DequantizeLinear") == 2
    assert weights(body)[ir.DataType.INT8] == W.size
    assert not found.graph.initializers
    feeds = {"n": np.array(3), "x": RNG.standard_normal((2, 64)).astype(np.float32)}
    assert_equal(found, model(LOOP.replace("%END%", ""), w=rounded(W), v=rounded(v)), **feeds)


def test_what_two_graphs_use_becomes_numbers_once() -> None:
    v = RNG.standard_normal((32, 64)).astype(np.float32)
    text = LOOP.replace("%END%", "z = MatMul(x, w)").replace("y)", "y, float[2,32] z)", 1)
    found = compressed(model(text, w=W, v=v))
    assert types(found.graph)[0] == "DequantizeLinear"
    assert types(found.graph).count("DequantizeLinear") == 1
    feeds = {"n": np.array(2), "x": RNG.standard_normal((2, 64)).astype(np.float32)}
    assert_equal(found, model(text, w=rounded(W), v=rounded(v)), **feeds)


def test_a_weight_with_other_uses_and_other_axes() -> None:
    square = RNG.standard_normal((64, 64)).astype(np.float32)
    text = """g (float[N,64] x) => (float[N,64] y, float[N,64] z, float[64,64] u) {
        y = MatMul(x, w)  z = Gemm <transB = 1> (x, w)  u = Neg(w) }"""
    found = compressed(model(text, w=square))
    assert types(found.graph).count("DequantizeLinear") == 1
    assert weights(found.graph) == {ir.DataType.INT8: square.size, ir.DataType.FLOAT: 1}
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    assert_equal(found, model(text, w=rounded(square, None)), x=x)


FUNCTION = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
g (float[N,64] x) => (float[N,64] y) { h = local.f(x)  y = local.f(h) }
<domain: "local", opset_import: ["": %OPSET%]>
f (a) => (b) { %W%  h = MatMul(a, w)  r = Relu(h)  b = MatMul(r, w)  }"""


def function_model(opset: int, w: np.ndarray) -> ir.Model:
    numbers = ", ".join(str(x) for x in w.reshape(-1))
    constant = f"w = Constant <value = float[64,64] {{{numbers}}}> ()"
    text = FUNCTION.replace("%OPSET%", str(opset)).replace("%W%", constant)
    return ir.from_proto(onnx.parser.parse_model(text))


@pytest.mark.parametrize("options", ["", "{bits=4}"])
def test_weights_of_functions(options: str) -> None:
    w = RNG.standard_normal((64, 64)).astype(np.float32) / 8
    found = compressed(function_model(21, w), options)
    [function] = found.functions.values()
    assert types(function.graph).count("DequantizeLinear") == 1
    stored = [n.attributes["value"].as_tensor() for n in function if n.op_type == "Constant"]
    assert {t.dtype for t in stored} == {
        ir.DataType.INT4 if options else ir.DataType.INT8,
        ir.DataType.FLOAT,
    }
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    [y], [z] = answers(function_model(21, w), x=x), answers(found, x=x)
    assert 0 < np.abs(y - z).max() < (0.4 if options else 0.05)
    if not options:
        assert_equal(found, function_model(21, rounded(w)), x=x)


def test_a_function_of_an_older_opset_stays() -> None:
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    editor = Editor(function_model(11, w), target=targets.find("onnx"))
    Driver(editor, strict=True).run(parse("compress-weights"))
    [function] = editor.model.functions.values()
    assert "DequantizeLinear" not in types(function.graph)


@pytest.mark.parametrize("options", ["", "{bits=4}"])
def test_a_stack_of_matrices(options: str) -> None:
    w = RNG.standard_normal((3, 64, 16)).astype(np.float32)
    text = "g (float[3,N,64] x) => (float[3,N,16] y) { y = MatMul(x, w) }"
    found = compressed(model(text, w=w), options)
    blocks = w.reshape(3, 2, 32, 16)
    scale = np.abs(blocks).max(2, keepdims=True) / np.float32(7)
    near = (np.rint(blocks / scale) * scale).reshape(w.shape) if options else rounded(w, 2)
    x = RNG.standard_normal((3, 5, 64)).astype(np.float32)
    assert_equal(found, model(text, w=near), x=x)
    [y], [z] = answers(model(text, w=w), x=x), answers(found, fused=True, x=x)
    assert np.abs(y - z).max() < (0.3 if options else 0.03) * np.abs(y).max()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_of_half_the_bits(kind: str) -> None:
    dtype = ir.DataType[kind.upper()]
    half = W.astype(dtype.numpy())
    text = f"g ({kind}[N,64] x) => ({kind}[N,32] y) {{ y = MatMul(x, w) }}"
    source = model(text, 17, w=half)
    found = compressed(source)
    assert types(found.graph) == ["DequantizeLinear", "Cast", "MatMul"]
    assert weights(found.graph) == {ir.DataType.INT8: W.size, ir.DataType.FLOAT: 32}
    if kind == "float16":
        x = RNG.standard_normal((3, 64)).astype(np.float16)
        [y], [z] = answers(source, x=x), answers(found, x=x)
        assert 0 < np.abs(y - z).max() < 0.2


def test_groups_of_transposed_convolutions() -> None:
    w = RNG.standard_normal((8, 6, 5, 5)).astype(np.float32)
    text = "g (float[1,8,4,4] x) => (float[1,12,8,8] y) { y = ConvTranspose <group = 2> (x, w) }"
    found = compressed(model(text, w=w))
    assert weights(found.graph) == {ir.DataType.INT8: w.size, ir.DataType.FLOAT: 6}
    x = RNG.standard_normal((1, 8, 4, 4)).astype(np.float32)
    assert_equal(found, model(text, w=rounded(w, 1)), x=x)


TIED = """g (int64[N] i, float[M,64] x) => (float[N,64] e, float[M,128] y) {
    e = Gather(w, i)  y = Gemm <transB = 1> (x, w) }"""


def test_tied_embeddings_are_stored_once_with_a_scale_for_each_row() -> None:
    w = RNG.standard_normal((128, 64)).astype(np.float32)
    found = compressed(model(TIED, w=w))
    stored = [v for v in found.graph.initializers.values() if v.const_value.dtype == ir.DataType.INT8]
    assert sum(len(v.const_value.shape) == 2 for v in stored) == 1
    assert sorted(types(found.graph)) == ["Cast", "DequantizeLinear", "Gather", "Gather", "Gemm", "Mul"]
    feeds = {"i": np.array([3, 0, -1]), "x": RNG.standard_normal((2, 64)).astype(np.float32)}
    assert_equal(found, model(TIED, w=rounded(w, 0)), **feeds)
    assert answers(found, i=np.array([], np.int64), x=feeds["x"])[0].shape == (0, 64)


def test_it_asks_for_what_it_knows() -> None:
    with pytest.raises(Exception, match="stores 8 or 4 bits"):
        compressed(model(MATMUL, w=W), "{bits=3}")
