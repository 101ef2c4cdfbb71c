"""What a quant table names becomes pairs of Q and DQ, in every scope; what it names wrongly is an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.ir import quant_table
from graphopt.ir.quant_table import ModelIdentity, OperatorPlan, QuantTable, Scaling, TensorPlan
from graphopt.ir.quantizing import Grid, asymmetric, block_grid, channel_grid, dequantized, quantized
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.pipeline import Group, Pipeline, parse

RNG = np.random.default_rng(0)
W = RNG.standard_normal((64, 32)).astype(np.float32)
V = RNG.standard_normal((32, 64)).astype(np.float32)
U8 = ir.DataType.UINT8


def model(text: str, opset: int = 21, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return ir.from_proto(proto)


def activation(low: float, high: float) -> TensorPlan:
    scale, zero = asymmetric(low, high, U8)
    return TensorPlan(Grid(U8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8)))


def weight(array: np.ndarray, axis: int = 1) -> TensorPlan:
    return TensorPlan(channel_grid(array, axis), "weight")


def table(tensors: dict[str, TensorPlan], operators: dict[str, OperatorPlan]) -> QuantTable:
    return QuantTable(ModelIdentity("0" * 64, 21), tensors, operators)


def applied(source: ir.Model, given: QuantTable) -> ir.Model:
    editor = Editor(source.clone(), target=targets.find("onnx"))
    made = registry.find("insert-qdq")(table=given)  # type: ignore[call-arg]
    Driver(editor, strict=True).run(Pipeline((Group((made,)),)))
    verify(editor.model)
    onnx.checker.check_model(ir.to_proto(editor.model), full_check=True)
    return editor.model


def answers(found: ir.Model, fused: bool = False, **feeds: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(ir.to_proto(found).SerializeToString(), options).run(None, feeds)


def fused_operators(found: ir.Model, path: Path) -> list[str]:
    """What onnxruntime makes of a model, bodies included."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(ir.to_proto(found).SerializeToString(), options)
    pending, types = [onnx.load(path).graph], []
    while pending:
        for node in pending.pop().node:
            types.append(node.op_type)
            pending += [a.g for a in node.attribute if a.HasField("g")]
    return types


def types(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph]


def near(array: np.ndarray, plan: TensorPlan) -> np.ndarray:
    return dequantized(quantized(array, plan.grid), plan.grid)


MATMUL = "g (float[N,64] x) => (float[N,32] y) { [mul] y = MatMul(x, w) }"
X = RNG.standard_normal((5, 64)).astype(np.float32)


def test_a_product(tmp_path: Path) -> None:
    tensors = {"x": activation(-3, 4), "w": weight(W)}
    found = applied(model(MATMUL, w=W), table(tensors, {"mul": OperatorPlan("int8", inputs=("x",))}))
    assert sorted(types(found.graph)) == ["DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear"]
    [y] = answers(found, x=X)
    np.testing.assert_allclose(y, near(X, tensors["x"]) @ near(W, tensors["w"]), rtol=1e-4, atol=1e-4)
    assert fused_operators(found, tmp_path / "o.onnx") == ["QuantizeLinear", "MatMulIntegerToFloat"]
    assert answers(found, fused=True, x=X[:0])[0].shape == (0, 32)


def test_one_quantize_for_all_that_take_a_value() -> None:
    text = "g (float[N,64] x) => (float[N,32] y, float[N,32] z, float[N,64] u) { [a] y = MatMul(x, w)  [b] z = MatMul(x, v)  u = Neg(x) }"
    tensors = {"x": activation(-3, 4), "w": weight(W), "v": weight(W + 1)}
    plan = OperatorPlan("int8", inputs=("x",))
    found = applied(model(text, w=W, v=W + 1), table(tensors, {"a": plan, "b": plan}))
    assert types(found.graph).count("QuantizeLinear") == 1
    assert types(found.graph).count("DequantizeLinear") == 3
    # What is not named takes the value itself.
    np.testing.assert_array_equal(answers(found, x=X)[2], -X)


CONV = """g (float[1,8,9,9] x) => (float[1,4,5,5] z) {
    [one] h = Conv(x, w, b)  r = Relu(h)  [two] z = Conv(r, v) }"""


def test_convolutions_between_quantized_values(tmp_path: Path) -> None:
    w = RNG.standard_normal((16, 8, 3, 3)).astype(np.float32)
    v = RNG.standard_normal((4, 16, 3, 3)).astype(np.float32)
    b = RNG.standard_normal(16).astype(np.float32)
    tensors = {
        "x": activation(-3, 3),
        "r": activation(0, 80),
        "z": activation(-400, 400),
        "w": weight(w, 0),
        "v": weight(v, 0),
    }
    operators = {
        "one": OperatorPlan("int8", inputs=("x",), outputs=("r",)),
        "two": OperatorPlan("int8", inputs=("r",), outputs=("z",)),
    }
    source = model(CONV, w=w, v=v, b=b)
    found = applied(source, table(tensors, operators))
    assert found.graph.outputs[0].name == "z"
    assert types(found.graph).count("QuantizeLinear") == 3
    assert [v.const_value.dtype for v in found.graph.initializers.values() if v.const_value].count(
        ir.DataType.INT32
    ) == 1
    fused = fused_operators(found, tmp_path / "o.onnx")
    assert fused.count("QLinearConv") == 2 and "Conv" not in fused and "Relu" not in fused
    x = RNG.uniform(-3, 3, (1, 8, 9, 9)).astype(np.float32)
    [y], [z] = answers(source, x=x), answers(found, x=x)
    assert 0 < np.abs(y - z).max() < 0.05 * np.abs(y).max()


LOOP = """g (int64 n, float[2,64] x) => (float[2,64] y) {
    t = Constant <value = bool {1}> ()
    k = Abs(x)
    [rep] y = Loop (n, t, x) <body = b (int64 i, bool c, float[2,64] a) => (bool c2, float[2,64] a2) {
        c2 = Identity(c)  [in] h = MatMul(a, w)  r = Tanh(h)  [out] p = MatMul(r, v)  [far] q = MatMul(k, u)
        e = Tanh(q)  s = Mul(p, e)  a2 = Tanh(s)
    }>
}"""


def test_bodies(tmp_path: Path) -> None:
    u = RNG.standard_normal((64, 64)).astype(np.float32) / 8
    w, v = W / 8, V / 8
    tensors = {
        "rep:body/a": activation(-1, 1),
        "rep:body/r": activation(-1, 1),
        "k": activation(0, 4),
        "w": weight(w),
        "v": weight(v),
        "u": weight(u),
    }
    operators = {
        "rep:body/in": OperatorPlan("int8", inputs=("rep:body/a",)),
        "rep:body/out": OperatorPlan("int8", inputs=("rep:body/r",)),
        "rep:body/far": OperatorPlan("int8", inputs=("k",)),
    }
    source = model(LOOP, w=w, v=v, u=u)
    found = applied(source, table(tensors, operators))
    # What a body captures is quantized once, outside of it.
    assert types(found.graph).count("QuantizeLinear") == 1
    assert "DequantizeLinear" not in types(found.graph)
    [loop] = [node for node in found.graph if node.op_type == "Loop"]
    assert types(loop.attributes["body"].as_graph()).count("QuantizeLinear") == 2
    assert fused_operators(found, tmp_path / "o.onnx").count("MatMulIntegerToFloat") == 3
    x = RNG.uniform(-1, 1, (2, 64)).astype(np.float32)
    for trips in (0, 1, 4):
        [y], [z] = (answers(m, n=np.array(trips), x=x) for m in (source, found))
        assert np.abs(y - z).mean() < 0.05


def test_weights_of_bodies_in_fewer_bits() -> None:
    """4 bits move into the body that alone uses them; halves become floats once, outside."""
    u = RNG.standard_normal((64, 64)).astype(np.float32) / 8
    w, v = W / 8, V / 8
    source = model(LOOP, w=w, v=v, u=u)
    tensors = {"w": TensorPlan(block_grid(w, 0, 16), "weight"), "u": weight(u)}
    operators = {
        "rep:body/in": OperatorPlan("weight_only", 4),
        "rep:body/out": OperatorPlan("float16", 16),
        "rep:body/far": OperatorPlan("weight_only", 8),
    }
    found = applied(source, table(tensors, operators))
    [loop] = [node for node in found.graph if node.op_type == "Loop"]
    body = loop.attributes["body"].as_graph()
    assert {v.dtype for v in body.initializers.values()} >= {ir.DataType.INT4, ir.DataType.INT8}
    assert "Cast" in types(found.graph) and "Cast" not in types(body)
    near_v = v.astype(np.float16).astype(np.float32)
    expected = model(LOOP, w=near(w, tensors["w"]), v=near_v, u=near(u, tensors["u"]))
    x = RNG.uniform(-1, 1, (2, 64)).astype(np.float32)
    for trips in (0, 1, 4):
        feeds = {"n": np.array(trips), "x": x}
        np.testing.assert_allclose(
            answers(found, **feeds)[0], answers(expected, **feeds)[0], rtol=1e-4, atol=1e-5
        )
        # Fused kernels round what they multiply codes with.
        assert np.abs(answers(found, fused=True, **feeds)[0] - answers(expected, **feeds)[0]).mean() < 0.02


def test_weights_alone() -> None:
    found = applied(model(MATMUL, w=W), table({"w": weight(W)}, {"mul": OperatorPlan("weight_only")}))
    assert types(found.graph) == ["DequantizeLinear", "MatMul"]
    untouched = applied(model(MATMUL, w=W), table({"w": weight(W)}, {"mul": OperatorPlan("float")}))
    assert types(untouched.graph) == ["MatMul"]


def test_codes_that_are_not_the_nearest(tmp_path: Path) -> None:
    plan = weight(W)
    codes = quantized(W, plan.grid)
    codes[::2] -= np.sign(codes[::2])
    tensors = {"x": activation(-3, 4), "w": replace(plan, codes=codes)}
    given = table(tensors, {"mul": OperatorPlan("int8", inputs=("x",))})
    quant_table.write(given, tmp_path / "q.json")
    found = applied(model(MATMUL, w=W), given)
    [stored] = [v for v in found.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    np.testing.assert_array_equal(stored.const_value.numpy(), codes)
    [y] = answers(found, x=X)
    np.testing.assert_allclose(y, near(X, tensors["x"]) @ dequantized(codes, plan.grid), rtol=1e-4, atol=1e-4)
    again = applied(model(MATMUL, w=W), quant_table.read(tmp_path / "q.json"))
    assert answers(again, x=X)[0].tobytes() == y.tobytes()


TWO = """g (float[N,64] x) => (float[N,64] z) { [a] h = MatMul(x, w)  [b] y = MatMul(h, v)  [c] z = MatMul(y, u) }"""


def test_bits_for_each_operator(tmp_path: Path) -> None:
    """8 bits, 4 bits in blocks, 7 bits, 16 bits: side by side."""
    u = RNG.standard_normal((64, 64)).astype(np.float32)
    four, seven = TensorPlan(block_grid(V, 0, 16), "weight"), TensorPlan(channel_grid(W, 1, bits=7), "weight")
    operators = {
        "a": OperatorPlan("int8", 7, inputs=("x",)),
        "b": OperatorPlan("weight_only", 4),
        "c": OperatorPlan("float16", 16),
    }
    given = table({"x": activation(-3, 4), "w": seven, "v": four}, operators)
    assert given.needed_opset == 21
    found = applied(model(TWO, w=W, v=V, u=u), given)
    stored = {v.dtype: v.const_value.numpy() for v in found.graph.initializers.values()}
    assert stored[ir.DataType.INT4].shape == V.shape and stored[ir.DataType.FLOAT16].shape == u.shape
    assert np.abs(stored[ir.DataType.INT8]).max() == 63
    [y] = answers(found, x=X)
    h = near(X, activation(-3, 4)) @ near(W, seven) @ near(V, four)
    np.testing.assert_allclose(y, h @ u.astype(np.float16).astype(np.float32), rtol=1e-3, atol=1e-2)
    assert np.isfinite(answers(found, fused=True, x=X)[0]).all()


def test_half_of_what_is_too_large() -> None:
    with pytest.raises(UsageError, match="weight 'w' can't be float16: it has numbers beyond 65504"):
        applied(model(MATMUL, w=W * 1e6), table({}, {"mul": OperatorPlan("float16")}))


def test_rows_of_half_the_bits() -> None:
    text = "g (int64[N] i, float[M,64] x) => (float[N,32] e, float[M,32] y) { [look] e = Gather(w, i)  [mul] y = MatMul(x, w) }"
    half = OperatorPlan("float16", 16)
    for operators, expected in (
        ({"look": half}, ["Cast", "Cast", "Gather", "MatMul"]),
        ({"look": half, "mul": half}, ["Cast", "Cast", "Gather", "MatMul"]),
    ):
        found = applied(model(text, w=W), table({}, operators))
        assert sorted(types(found.graph)) == expected
        assert [v.dtype for v in found.graph.initializers.values()] == [ir.DataType.FLOAT16]
        i = np.array([3, 0, -1])
        near_w = W.astype(np.float16).astype(np.float32)
        e, y = answers(found, i=i, x=X)
        np.testing.assert_array_equal(e, near_w[i])
        np.testing.assert_allclose(y, X @ near_w, rtol=1e-4, atol=1e-4)
    only = "g (int64[N] i) => (float[N,32] e) { [look] e = Gather(w, i) }"
    assert types(applied(model(only, w=W), table({}, {"look": half})).graph) == ["Gather", "Cast"]


def test_codes_are_for_all_where_one_operator_wants_them() -> None:
    text = "g (float[N,64] x) => (float[N,32] y, float[N,32] z) { [a] y = MatMul(x, w)  n = Neg(x)  [b] z = MatMul(n, w) }"
    operators = {"a": OperatorPlan("int8", inputs=("x",)), "b": OperatorPlan("float16")}
    found = applied(model(text, w=W), table({"x": activation(-3, 4), "w": weight(W)}, operators))
    assert ir.DataType.FLOAT16 not in {v.dtype for v in found.graph.initializers.values()}
    assert sum(v.const_value.size == W.size for v in found.graph.initializers.values()) == 1
    np.testing.assert_allclose(answers(found, x=X)[1], -X @ near(W, weight(W)), rtol=1e-4, atol=1e-4)


def test_a_stack_of_matrices() -> None:
    w = RNG.standard_normal((3, 64, 16)).astype(np.float32)
    text = "g (float[3,N,64] x) => (float[3,N,16] y) { [mul] y = MatMul(x, w) }"
    tensors = {"x": activation(-3, 4), "w": weight(w, 2)}
    found = applied(model(text, w=w), table(tensors, {"mul": OperatorPlan("int8", inputs=("x",))}))
    x = RNG.standard_normal((3, 5, 64)).astype(np.float32)
    expected = near(x, tensors["x"]) @ near(w, tensors["w"])
    for fused in (False, True):
        np.testing.assert_allclose(answers(found, fused=fused, x=x)[0], expected, rtol=1e-4, atol=1e-3)


def test_tied_embeddings() -> None:
    w = RNG.standard_normal((128, 64)).astype(np.float32)
    text = """g (int64[N] i, float[M,64] x) => (float[N,64] e, float[M,128] y) {
        [look] e = Gather(w, i)  [mul] y = Gemm <transB = 1> (x, w) }"""
    tensors = {"x": activation(-3, 4), "w": weight(w, 0)}
    operators = {"look": OperatorPlan("weight_only", 8), "mul": OperatorPlan("int8", 8, inputs=("x",))}
    found = applied(model(text, w=w), table(tensors, operators))
    stored = [v for v in found.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert sum(len(v.shape) == 2 for v in stored) == 1
    i = np.array([3, 0, -1])
    e, y = answers(found, i=i, x=X)
    np.testing.assert_array_equal(e, near(w, tensors["w"])[i])
    np.testing.assert_allclose(y, near(X, tensors["x"]) @ near(w, tensors["w"]).T, rtol=1e-4, atol=1e-3)


CODES = replace(weight(W), codes=np.zeros((32, 64), np.int8))


@pytest.mark.parametrize(
    ("tensors", "operators", "message"),
    [
        ({"w": weight(W[1:], 0)}, {}, "tensor 'w' is .64, 32.: scales .63. do not fit"),
        ({"w": CODES}, {}, "tensor 'w' is .64, 32., and its codes are .32, 64."),
        ({"x": CODES}, {}, "tensor 'x' is no constant"),
        ({"i": activation(0, 1)}, {}, "tensor 'i' is int64: only floats can be quantized"),
        ({}, {"mul": OperatorPlan("weight_only")}, "stores its weight 'w', and no tensor has that name"),
        ({}, {"idle": OperatorPlan("weight_only")}, "'idle' .Neg. has no constant weight"),
        ({}, {"idle": OperatorPlan("int8")}, "none of its inputs or outputs is named"),
        ({"w": weight(W)}, {"mul": OperatorPlan("weight_only", 4)}, "has 4 bits, and its weight 'w' has 8"),
        ({}, {"mul": OperatorPlan("float16", 8)}, "is float16 and has 8 bits"),
    ],
)
def test_what_does_not_fit_the_model(
    tensors: dict[str, TensorPlan], operators: dict[str, OperatorPlan], message: str
) -> None:
    text = "g (float[N,64] x, int64[N] i) => (float[N,32] y, int64[N] j, float[N,64] n) { [mul] y = MatMul(x, w)  j = Identity(i)  [idle] n = Neg(x) }"
    with pytest.raises(UsageError, match=message) as caught:
        applied(model(text, w=W), table(tensors, operators))
    assert "\n" not in str(caught.value)


def test_scalings_and_corrections_of_nothing() -> None:
    plain = table({}, {})
    for given, message in (
        (replace(plain, scalings={"no": (Scaling(0, np.ones(1, np.float32)),)}), "names constant 'no'"),
        (replace(plain, corrections={"no": np.ones(1, np.float32)}), "names operator 'no'"),
        (replace(plain, scalings={"w": (Scaling(0, np.ones(3, np.float32)),)}), "3 factors do not fit"),
        (replace(plain, scalings={"x": (Scaling(0, np.ones(3, np.float32)),)}), "no constant of floats"),
    ):
        with pytest.raises(UsageError, match=message):
            applied(model(MATMUL, w=W), given)


def test_blocks_need_their_opset() -> None:
    given = table({"w": TensorPlan(block_grid(W, 0, 16), "weight")}, {"mul": OperatorPlan("weight_only")})
    with pytest.raises(UsageError, match="opset 21, the model has 20"):
        applied(model(MATMUL, 20, w=W), given)


@pytest.mark.parametrize(
    ("tensors", "operators", "message"),
    [
        ({"lost": activation(0, 1)}, {}, "names tensor 'lost', which the model does not have"),
        ({}, {"lost": OperatorPlan("float")}, "names operator 'lost', which the model does not have"),
        ({}, {"mul": OperatorPlan("int8", inputs=("y",))}, "'mul' take 'y', which it does not"),
        ({}, {"mul": OperatorPlan("int8", inputs=("x",))}, "takes 'x', and no tensor of that name"),
        ({}, {"mul": OperatorPlan("int8", outputs=("x",))}, "an output 'x', which no operator makes"),
    ],
)
def test_slips_of_the_pen(
    tensors: dict[str, TensorPlan], operators: dict[str, OperatorPlan], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        applied(model(MATMUL, w=W), table(tensors, operators))


def test_a_table_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    given = table({"x": activation(-3, 4), "w": weight(W)}, {"mul": OperatorPlan("int8", inputs=("x",))})
    quant_table.write(given, path)
    editor = Editor(model(MATMUL, w=W), target=targets.find("onnx"))
    Driver(editor, strict=True).run(parse(f"insert-qdq{{table={path}}}"))
    direct = applied(model(MATMUL, w=W), replace(given))
    assert answers(editor.model, x=X)[0].tobytes() == answers(direct, x=X)[0].tobytes()


def test_no_table() -> None:
    editor = Editor(model(MATMUL, w=W), target=targets.find("onnx"))
    with pytest.raises(UsageError, match="no quant table there"):
        Driver(editor, strict=True).run(parse("insert-qdq{table=none.json}"))
