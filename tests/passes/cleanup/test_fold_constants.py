import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.constants import constant
from graphopt.passes.cleanup.fold_constants import CAN_NOT_BE_EVALUATED, IS_LARGE_OUTPUT, TOO_LARGE
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

PASS = "fold-constants"


def test_chain_of_constants_becomes_one():
    assert_rewrites(
        PASS,
        before="""g (float[N] x) => (float[N] y) {
            a = Add([1.0], [2.0])  b = Mul(a, a)  c = Sqrt(b)  y = Mul(x, c)
        }""",
        after="g (float[N] x) => (float[N] y) { y = Mul(x, [3.0]) }",
    )


def test_graph_output_becomes_a_constant_node():
    model = model_from_text(
        "g (float[N] x) => (float[1] y, float[N] z) { y = Add([1.0], [2.0])  z = Exp(x) }"
    )
    run_pass(PASS, model)
    assert operators_of(model) == ["Exp"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


def test_sizes_of_static_dims_are_constants():
    assert_rewrites(
        PASS,
        before="""g (float[N,3,8] x) => (int64[2] y, float[N,24] z) {
            s = Shape(x)  d = Slice(s, [1], [3])  y = Mul(d, [2])
            p = ReduceProd(d)  t = Concat <axis = 0> ([0], p)  z = Reshape(x, t)
        }""",
        after="""g (float[N,3,8] x) => (int64[2] y, float[N,24] z) {
            y = Constant <value = int64[2] {6, 16}> ()  z = Reshape(x, [0, 24])
        }""",
        sizes=[{"N": 0}, {"N": 1}, {"N": 5}],
    )


def test_size_of_a_dynamic_dim_is_not():
    assert_rejects(PASS, "g (float[N,3] x) => (int64[1] y) { y = Shape <end = 1> (x) }")


def test_sum_that_only_looks_constant():
    # N - N + 3 is 3 for every N, N * 0 + N is not.
    assert_rewrites(
        PASS,
        before="""g (float[N] x) => (int64[1] y, int64[1] z) {
            n = Shape(x)  a = Sub(n, n)  y = Add(a, [3])  b = Mul(n, [0])  z = Add(b, n)
        }""",
        after="""g (float[N] x) => (int64[1] y, int64[1] z) {
            n = Shape(x)  y = Constant <value = int64[1] {3}> ()  z = Add([0], n)
        }""",
    )


def test_declared_shape_of_a_loop_input_is_not_believed():
    # torch declares a growing cache with the shape of its first step.
    body = "int64 i, bool c, float[0,3] o) => (bool d, float p, int64 k"
    assert_rejects(
        PASS,
        f"""g (float[1,3] x, int64 n, float[0,3] empty) => (float[M,3] y, int64[S] sizes) {{
            y, sizes = Loop (n, , empty) <body = b ({body}) {{
                d = Identity(c)
                p = Concat <axis = 0> (o, x)
                k = Size(o)
            }}>
        }}""",
    )


def test_initializer_that_an_input_overrides_is_no_constant():
    assert_rejects(
        PASS,
        """<ir_version: 10, opset_import: ["": 18]>
        g (float[N] x, float[1] c = {1.0}) => (float[N] y) { a = Exp(c)  y = Mul(x, a) }""",
    )


@pytest.mark.parametrize(
    "expression",
    [
        "RandomNormal <shape = [1]> ()",
        "RandomUniformLike(c)",
        "Bernoulli(c)",
        "Dropout(c, 0.5, true)",
        "my.Thing(c)",
    ],
)
def test_random_and_unknown_operators_stay(expression):
    assert_rejects(
        PASS,
        f"""g (float[N] x) => (float[N] y) {{
            c = Constant <value = float[1] {{0.5}}> ()  a = {expression}  y = Mul(x, a)
        }}""",
        domains={"my": 1},
    )


def test_dequantized_weight_stays_quantized():
    assert_rejects(
        PASS,
        """g (float[N,2] x) => (float[N,2] y) {
            q = Constant <value = int8[2,2] {1, 2, 3, 4}> ()
            w = DequantizeLinear(q, 0.5)
            y = MatMul(x, w)
        }""",
    )


def test_operator_that_fails_stays():
    assert_rejects(
        PASS,
        "g (float[N] x) => (float[N] y) { i = Div(1, 0)  f = Cast <to = 1> (i)  y = Mul(x, f) }",
        CAN_NOT_BE_EVALUATED,
    )


def test_folds_in_bodies_with_constants_from_outside():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, bool c) => (float[N] y) {
            two = Constant <value = float {2.0}> ()
            y = If (c) <
                then_branch = t () => (float[N] p) { a = Mul(two, two)  p = Mul(x, a) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
        after="""g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Mul(x, 4.0) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )


FUNCTION = """<ir_version: 10, opset_import: ["": 18, "my": 1]>
g (float[N] x) => (float[N] y) {{ y = my.f {given} (x) }}
<domain: "my", opset_import: ["": 18]>
f {taken} (x) => (y) {{ {body} }}
"""


def test_folds_in_functions_as_constant_nodes():
    body = "a = Constant <value = float[1] {2.0}> ()  b = Mul(a, a)  y = Mul(x, b)"
    model = model_from_text(FUNCTION.format(given="", taken="", body=body))
    run_pass(PASS, model)
    (function,) = model.functions.values()
    assert [node.op_type for node in function if node.op_type != "Constant"] == ["Mul"]
    assert not function.graph.initializers


def test_what_a_call_binds_is_not_folded():
    body = "a = Constant <value = int64[1] {2}> ()  b = Cast <to: int = @to> (a)  y = Mul(x, b)"
    model = model_from_text(FUNCTION.format(given="<to = 1>", taken="<to>", body=body))
    assert not run_pass(PASS, model).firings


def test_all_outputs_of_a_node_fold():
    assert_rewrites(
        PASS,
        before="""g (int64[N] x) => (int64[N] y) {
            a, b = Split <axis = 0, num_outputs = 2> ([1, 2])  c = Mul(x, a)  y = Mul(c, b)
        }""",
        after="g (int64[N] x) => (int64[N] y) { c = Mul(x, [1])  y = Mul(c, [2]) }",
    )


def test_negative_zero_keeps_its_sign():
    model = model_from_text("g (float[N] x) => (float[N] y) { a = Mul(0.0, -1.0)  y = Div(x, a) }")
    run_pass(PASS, model)
    folded = constant(model.graph[-1].inputs[1])
    assert folded is not None and np.signbit(folded.numpy())


# ---------------------------------------------------------------- sizes


def _with_weight(text: str, weight: np.ndarray) -> ir.Model:
    """A model whose input `w` is an initializer."""
    model = model_from_text(text)
    value = next(v for v in model.graph.inputs if v.name == "w")
    model.graph.inputs.remove(value)
    value.const_value = ir.tensor(weight)
    model.graph.register_initializer(value)
    return model


def test_limit_counts_what_is_freed():
    weight = np.ones((512, 512), np.float32)
    text = "g (float[N,512] x, float[512,512] w) => (float[N,512] y) { a = Transpose(w)  y = MatMul(x, a) }"
    model = _with_weight(text, weight)
    run_pass(f"{PASS}{{limit-bytes=1K}}", model)
    assert operators_of(model) == ["MatMul"]


def test_limit_counts_a_source_that_stays():
    text = """g (float[N,512] x, float[512,512] w) => (float[N,512] y, float[N,512] z) {
        a = Transpose(w)  y = MatMul(x, a)  z = MatMul(x, w)
    }"""
    model = _with_weight(text, np.ones((512, 512), np.float32))
    trace = run_pass(f"{PASS}{{limit-bytes=1K}}", model)
    assert operators_of(model) == ["Transpose", "MatMul", "MatMul"]
    assert TOO_LARGE in next(iter(trace.misses.values()))
    run_pass(PASS, model)
    assert operators_of(model) == ["MatMul", "MatMul"]


def test_large_result_is_not_computed_before_it_is_saved():
    text = "g (float[N,512] x, float[512,1024] w) => (float[N,512] y) { a = Transpose(w)  y = MatMul(x, a) }"
    weight = np.arange(512 * 1024, dtype=np.float32).reshape(512, 1024)
    model = _with_weight(text, weight)
    run_pass(PASS, model)
    folded = constant(model.graph[-1].inputs[1])
    assert isinstance(folded, ir.LazyTensor)
    np.testing.assert_array_equal(folded.numpy(), weight.T)


@pytest.mark.parametrize(
    "expression", ["Expand([1.0], [1000,1000])", "ConstantOfShape([1000,1000])", "Tile([[1.0]], [1000,1000])"]
)
def test_much_of_little_is_made_at_run_time(expression):
    expression = expression.replace("[[1.0]]", "one")
    graph = f"""g (float[N] x) => (float y) {{
        one = Constant <value = float[1,1] {{1.0}}> ()  a = {expression}  b = Mul(a, x)  y = ReduceMax(b)
    }}"""
    assert_rejects(PASS, graph, TOO_LARGE)


def test_little_of_little_is_folded():
    assert_rewrites(
        PASS,
        before="g (float[N] x) => (float[N] y) { a = Expand([2.0], [3])  b = ReduceMax(a)  y = Mul(x, b) }",
        after="g (float[N] x) => (float[N] y) { y = Mul(x, [2.0]) }",
    )


def test_large_graph_output_stays():
    graph = "g (float[N] x) => (float[300,300] y, float[N] z) { y = Expand([1.0], [300,300])  z = Exp(x) }"
    assert_rejects(PASS, graph, IS_LARGE_OUTPUT)


def test_a_second_name_of_a_weight_does_not_become_a_second_weight():
    assert_rejects(
        PASS,
        "g (float[2] x) => (float[2] y) { w = Constant <value = float[2] {1.0, 2.0}> ()  "
        "v = Identity (w)  a = Add (x, v)  y = Mul (a, w) }",
    )


def test_a_weight_in_sixteen_bits_stays_so_where_only_what_computes_with_it_widens_it():
    stored = (
        "g (float[N,64] x, float16[64,64] w) => (float[N,64] y) { v = Cast <to = 1> (w)  y = MatMul(x, v) }"
    )
    turned = stored.replace("MatMul(x, v)", "MatMul(x, t)").replace("y =", "t = Transpose(v)  y =")
    for text, left in ((stored, ["Cast", "MatMul"]), (turned, ["MatMul"])):
        model = model_from_text(text)
        weight = model.graph.inputs.pop(1)
        weight.const_value = ir.tensor(np.full((64, 64), 0.5, np.float16))
        model.graph.register_initializer(weight)
        run_pass(PASS, model)
        assert operators_of(model) == left
