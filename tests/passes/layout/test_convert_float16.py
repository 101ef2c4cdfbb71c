from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir.load import load
from graphopt.testing import model_from_text, operators_of, random_feeds, run, run_pass

PASS = "convert-float16"
HALF = ir.DataType.FLOAT16


def converted(text, options="", opset=18):
    """The model after the pass, whose second run must find nothing to do."""
    model = model_from_text(text, opset=opset)
    run_pass(PASS + options, model)
    assert not run_pass(PASS + options, model).firings
    return model


def types_of(model):
    """Element types of the first inputs of the operators, by operator."""
    from graphopt.ir.inference import Facts

    facts = Facts(model)
    return {node.op_type: facts.dtype(node.inputs[0]) for node in model.graph if node.inputs}


def assert_close(text, model, sizes=None, opset=18, within=2e-2):
    original = model_from_text(text, opset=opset)
    feeds = random_feeds(original, sizes)
    for x, y in zip(run(original, feeds), run(model, feeds), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if x.dtype.kind == "f" and x.size:
            assert np.abs(x - y).max() <= within * max(np.abs(x).max(), 1.0)
        elif x.size:
            assert np.array_equal(x, y)


WEIGHT = "w = Constant <value = float[4,2] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}> ()  "
DENSE = f"g (float[N,4] x) => (float[N,2] y) {{ {WEIGHT} a = MatMul (x, w)  b = Relu (a)  y = Softmax (b) }}"


def test_signature_stays_and_casts_stand_at_the_edges():
    model = converted(DENSE)
    assert operators_of(model) == ["Cast", "MatMul", "Relu", "Softmax", "Cast"]
    assert types_of(model)["MatMul"] == HALF
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT] * 2
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert_close(DENSE, model, {"N": 3})
    assert_close(DENSE, model, {"N": 0})


def test_signature_too():
    model = converted(DENSE, "{keep-io=false}")
    assert operators_of(model) == ["MatMul", "Relu", "Softmax"]
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [HALF] * 2


def test_bfloat16():
    model = converted(DENSE, "{type=bfloat16}")
    assert types_of(model)["MatMul"] == ir.DataType.BFLOAT16


def test_another_type_is_refused():
    with pytest.raises(UsageError, match="float16 or bfloat16"):
        converted(DENSE, "{type=int8}")


@pytest.mark.parametrize("options", ["{keep-operators=Softmax}", "{keep-nodes=soft}"])
def test_what_is_named_stays(options):
    text = DENSE.replace("y = Softmax", "[soft] y = Softmax")
    model = converted(text, options)
    assert operators_of(model) == ["Cast", "MatMul", "Relu", "Cast", "Softmax"]
    assert_close(text, model, {"N": 2})


def test_a_value_is_cast_once_for_all_that_need_it():
    text = (
        "g (float[N,4] x) => (float[N,4] y, float[N,4] z) { a = Relu (x)  b = Exp (x)  c = Neg (a)  "
        "y = Softmax (c)  z = Softmax (b) }"
    )
    model = converted(text, "{keep-operators=Softmax}")
    assert operators_of(model).count("Cast") == 3
    assert_close(text, model)


def test_large_weights_are_converted_while_they_are_saved():
    big = np.random.default_rng(0).standard_normal((4, 40_000)).astype(np.float32)
    model = model_from_text("g (float[N,4] x) => (float[N,40000] y) { y = MatMul (x, x) }")
    weight = ir.Value(name="w", const_value=ir.tensor(big), type=ir.TensorType(ir.DataType.FLOAT))
    weight.shape = ir.Shape(big.shape)
    model.graph.register_initializer(weight)
    model.graph[0].replace_input_with(1, weight)
    run_pass(PASS, model)
    (kept,) = (v for v in model.graph.initializers.values() if v.name != "w")
    assert isinstance(kept.const_value, ir.LazyTensor) and "w" not in model.graph.initializers
    assert np.array_equal(kept.const_value.numpy(), big.astype(np.float16))


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        # 1e-12 is 0 in half precision.
        (
            "e = Constant <value = float {1e-12}> ()  a = Abs (x)  b = Exp (a)  c = Div (b, e)  y = Log (c)",
            "Div",
        ),
        # Positions beyond 2048 are rounded.
        ("s = Shape (x)  r = Cast <to = 1> (s)  i = Reciprocal (r)  y = Expand (i, s)", "Reciprocal"),
        ("k = Constant <value = float[4] {1.0, 1.0, 1.0, 1.0}> ()  y = Resize (x, , k)", "Resize"),
        ("q = Mul (x, x)  m = ReduceMean (q, [1])  r = Sqrt (m)  y = Div (x, r)", "Sqrt"),
        ("m = ReduceSum (x, [0,1,2,3])  y = Mul (x, m)", "ReduceSum"),
    ],
)
def test_what_half_precision_would_break_stays(body, operator):
    text = f"g (float[N,8,20,20] x) => (float[A,B,C,D] y) {{ {body} }}"
    if operator == "Reciprocal":
        text = text.replace("y = Expand (i, s)", "y = Cast <to = 1> (i)").replace("[A,B,C,D]", "[4]")
    model = converted(text)
    assert types_of(model)[operator] == ir.DataType.FLOAT
    assert_close(text, model, {"N": 1})


def test_a_mask_becomes_the_largest_number_of_the_type():
    text = (
        "g (float[N,4] x, bool[N,4] m) => (float[N,4] y) { "
        "low = Constant <value = float {-3.4028235e38}> ()  a = Where (m, x, low)  y = Softmax (a) }"
    )
    model = converted(text)
    constants = [
        v.const_value.numpy() for v in model.graph.initializers.values() if v.const_value is not None
    ]
    assert any(c == np.float16(-65504) for c in constants)
    feeds = {"x": np.ones((1, 4), np.float32), "m": np.zeros((1, 4), bool)}
    assert np.allclose(run(model, feeds)[0], 0.25)


def test_an_initializer_that_an_input_overrides_keeps_its_type():
    text = "g (float[N,2] x, float[2] b = {1.0, 2.0}) => (float[N,2] y) { y = Add (x, b) }"
    model = converted(text)
    assert model.graph.inputs[1].dtype == ir.DataType.FLOAT
    assert operators_of(model) == ["Cast", "Cast", "Add", "Cast"]


def test_bodies_of_a_loop_carry_one_type():
    text = (
        "g (int64 k, bool c, float[2,4] x0) => (float[2,4] y, float[T,2,4] all) { "
        "w = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  "
        "y, all = Loop (k, c, x0) <body = b (int64 i, bool on, float[2,4] x) => "
        "(bool go, float[2,4] n, float[2,4] s) { go = Identity (on)  t = Cast <to = 1> (i)  u = Mul (x, w)  "
        "v = Add (u, t)  n = Softmax (v)  s = Add (x0, n) }> }"
    )
    model = converted(text)
    loop = next(node for node in model.graph if node.op_type == "Loop")
    body = loop.attributes["body"].as_graph()
    assert body.inputs[2].dtype == HALF and loop.inputs[2].dtype == HALF
    original = model_from_text(text)
    feeds = {"k": np.array(3), "c": np.array(True), "x0": np.ones((2, 4), np.float32)}
    for x, y in zip(run(original, feeds), run(model, feeds), strict=True):
        assert x.dtype == y.dtype and np.allclose(x, y, atol=2e-2)


def test_branches_that_give_an_outer_value_and_a_constant():
    text = (
        "g (float[N] x, bool c) => (float[N] y) { z = If (c) <then_branch = t () => (float[N] u) "
        "{ u = Identity (x) }, else_branch = f () => (float[N] v) { k = Constant <value = float {2.5}> ()  "
        "v = Mul (x, k) }>  y = Neg (z) }"
    )
    model = converted(text)
    assert_close(text, model)


def test_integers_are_left_alone():
    text = "g (int64[N] x) => (int64[N] y) { y = Add (x, x) }"
    assert not run_pass(PASS, model_from_text(text)).firings


def test_a_half_precision_model_that_goes_up_for_its_softmax_keeps_doing_so():
    text = (
        "g (float16[N,4] x) => (float16[N,4] y) { a = Cast <to = 1> (x)  b = Softmax (a)  "
        "y = Cast <to = 10> (b) }"
    )
    model = converted(text, "{keep-operators=Softmax}")
    assert operators_of(model) == ["Cast", "Softmax", "Cast"]


@pytest.mark.parametrize("options", ["", "{keep-io=false}"])
def test_is_verified_by_the_tolerance_of_its_type(options, tmp_path):
    path = tmp_path / "model.onnx"
    ir.save(model_from_text(DENSE), path)
    result = graphopt.optimize(load(path), passes=PASS + options)
    assert result.report.verification is not None
    assert result.report.verification.status == "verified" and not result.report.dropped


FUNCTION = """<ir_version: 10, opset_import: ["" : 18, "my" : 1]>
    g (float[N,4] x, float[4,4] w) => (float[N,4] y) {
        c = my.Outer <alpha = 0.5> (x, w)  y = Sigmoid(c) }
    <domain: "my", opset_import: ["" : 18, "my" : 1]> Outer <alpha> (a, b) => (r) {
        p = my.Inner(a, b)  r = LeakyRelu <alpha: float = @alpha> (p) }
    <domain: "my", opset_import: ["" : 18]> Inner (a, b) => (r) { r = MatMul(a, b) }"""


def test_functions_are_converted_where_they_are_called():
    model = model_from_text(FUNCTION)
    feeds = random_feeds(model)
    (wanted,) = run(model, feeds)
    run_pass(PASS, model)
    assert operators_of(model) == ["Cast", "Cast", "MatMul", "LeakyRelu", "Sigmoid", "Cast"]
    assert types_of(model)["MatMul"] == types_of(model)["LeakyRelu"] == HALF
    np.testing.assert_allclose(run(model, feeds)[0], wanted, atol=1e-2)


def test_a_function_of_another_opset_keeps_float32():
    older = FUNCTION.replace('"my", opset_import: ["" : 18]> Inner', '"my", opset_import: ["" : 12]> Inner')
    older = older.replace("r = MatMul(a, b)", "m = MatMul(a, b)  r = Softmax(m)")
    model = model_from_text(older)
    feeds = random_feeds(model)
    (wanted,) = run(model, feeds)
    run_pass(PASS, model)
    assert "Inner" in operators_of(model)
    assert types_of(model)["LeakyRelu"] == HALF
    np.testing.assert_allclose(run(model, feeds)[0], wanted, atol=1e-2)


SPECTRUM = """g (float[1,1,N] x, float[6,1,4] w) => (float[1,3,M] y) {{
    s = Conv(x, w)  a = Slice(s, [0], [3], [1])  c = Slice(s, [3], [6], [1])  b = Cast <to = 1> (c)
    p = {0}  q = Pow(b, 2.0)  r = Add(p, q)  m = Sqrt(r)  y = Relu(m) }}"""


def test_spectra_stay_in_float32():
    model = converted(SPECTRUM.format("Mul(a, a)"))
    kept = {"Conv", "Slice", "Mul", "Pow", "Add", "Sqrt"}
    assert {name for name, dtype in types_of(model).items() if dtype == HALF} <= {"Relu", "Cast"}
    assert kept <= set(types_of(model))


def test_a_sum_with_something_else_is_no_spectrum():
    model = converted(SPECTRUM.format("Abs(a)"))
    assert types_of(model)["Conv"] == types_of(model)["Add"] == HALF
