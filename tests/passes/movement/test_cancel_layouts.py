import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "cancel-layouts"
SIZES = [{}, {"N": 0}, {"N": 1}]


def between(body: str, result: str = "float[N,C,H,W]") -> str:
    """Operators on channels last, between Transposes from and to channels second."""
    return f"""g (float[N,4,5,6] x) => ({result} y) {{
        a = Transpose <perm = [0,2,3,1]> (x)  {body}  y = Transpose <perm = [0,3,1,2]> (b) }}"""


def leaves(text: str, *, opset: int = 18, sizes=SIZES) -> list[str]:
    """The operators that are left; the answers must be the same."""
    model = model_from_text(text, opset=opset)
    original = model.clone()
    run_pass(PASS, model)
    for size in sizes:
        assert_same_outputs(original, model, random_feeds(original, size), exact=False)
    return operators_of(model)


def test_a_constant_is_laid_out_anew():
    assert_rewrites(
        PASS,
        before=between("b = Add(a, [1.0,2.0,3.0,4.0])"),
        after="""g (float[N,4,5,6] x) => (float[N,C,H,W] y) {
            c = Constant <value = float[1,4,1,1] {1.0,2.0,3.0,4.0}> ()  y = Add(x, c) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    "body",
    [
        "b = Relu(a)",
        "b = Mul(a, 2.0)",
        "b = Clip(a, 0.0, 1.0)",
        "m = ReduceMax <keepdims = 1> (a, [1,2])  b = Sub(a, m)",
        "m = ReduceMean <keepdims = 1> (a, [-2])  b = Div(m, a)",
        "p, q = Split <axis = 3> (a, [1,3])  b = Concat <axis = -1> (q, p)",
        "b = Slice(a, [1,0], [5,3], [1,3])",
        "b = Slice(a, [1], [3])",
        "b = Pad(a, [0,1,2,0,0,3,4,0])",
        "b = Pad(a, [1,2,3,4], 0.5, [2,-1])",
        "b = Tile(a, [1,2,1,3])",
        "b = Gather <axis = 3> (a, [3,0,0])",
        "b = LogSoftmax <axis = 2> (a)",
        "b = LpNormalization <axis = 2> (a)",
        "r = Relu(a)  s = Sigmoid(a)  t = Add(r, s)  b = Mul(t, a)",
        "c = Cast <to = 11> (a)  d = Exp(c)  b = Cast <to = 1> (d)",
    ],
)
def test_operators_between_a_pair(body):
    assert "Transpose" not in leaves(between(body))


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("b = Slice <starts = [1], ends = [3], axes = [3]> (a)", 9),
        ("b = Pad <pads = [0,1,2,0,0,3,4,0], value = 0.5> (a)", 10),
        ("b = ReduceSum <axes = [1]> (a)", 11),
        ("p, q = Split <axis = 3, split = [1,3]> (a)  b = Concat <axis = 3> (q, p)", 11),
        ("b = Clip <min = 0.0, max = 1.0> (a)", 9),
    ],
)
def test_old_spellings(body, opset):
    assert "Transpose" not in leaves(between(body), opset=opset)


@pytest.mark.parametrize(
    "body",
    [
        # A kernel is fast over the last axis.
        "b = Softmax <axis = 3> (a)",
        "m = ReduceSum <keepdims = 1> (a, [3])  b = Div(a, m)",
    ],
)
def test_what_works_on_the_last_axis_stays(body):
    assert_rejects(PASS, between(body))


def test_a_reduced_value_is_brought_back_where_its_own_source_was_written_again():
    body = "m = ReduceSum <keepdims = 0> (a, [3])  u = Unsqueeze(m, [3])  b = Div(a, u)"
    assert leaves(between(body)) == ["ReduceSum", "Unsqueeze", "Div"]


def test_opset_12_softmax_is_over_all_later_axes():
    assert_rejects(PASS, between("b = Softmax <axis = 2> (a)"), opset=12)


def test_reduction_takes_a_transpose_in():
    assert_rewrites(
        PASS,
        before="""g (float[N,4,5,6] x) => (float[N,4] y) {
            a = Transpose <perm = [0,2,3,1]> (x)  y = ReduceMean <keepdims = 0> (a, [1,2]) }""",
        after="g (float[N,4,5,6] x) => (float[N,4] y) { y = ReduceMean <keepdims = 0> (x, [2,3]) }",
        exact=False,
        sizes=SIZES,
    )


def test_reduction_whose_axes_change_their_order_stays():
    assert_rejects(
        PASS,
        """g (float[N,4,5,6] x) => (float[P,Q,R] y) {
            a = Transpose <perm = [0,2,3,1]> (x)  y = ReduceMax <keepdims = 0> (a, [1]) }""",
    )


def test_argmax_takes_a_transpose_in():
    text = """g (float[N,4,5,6] x) => (int64[N,5,6] y) {
        a = Transpose <perm = [0,2,3,1]> (x)  y = ArgMax <axis = -1, keepdims = 0> (a) }"""
    assert leaves(text) == ["ArgMax"]


def test_two_inputs_and_one_output():
    assert_rewrites(
        PASS,
        before="""g (float[N,4,5] x, float[N,4,5] z) => (float[N,5,4] y) {
            a = Transpose <perm = [0,2,1]> (x)  b = Transpose <perm = [0,2,1]> (z)
            y = Add(a, b) }""",
        after="""g (float[N,4,5] x, float[N,4,5] z) => (float[N,5,4] y) {
            a = Add(x, z)  y = Transpose <perm = [0,2,1]> (a) }""",
        sizes=SIZES,
    )


def test_none_is_moved_for_nothing():
    assert_rejects(
        PASS,
        """g (float[N,4,5] x) => (float[N,5,4] y) { a = Transpose <perm = [0,2,1]> (x)  y = Relu(a) }""",
    )
    assert_rejects(
        PASS,
        """g (float[N,4,5] x, float[N,5,4] z) => (float[N,5,4] y) {
            a = Transpose <perm = [0,2,1]> (x)  y = Add(a, z) }""",
    )


def test_one_stays_for_the_consumer_that_minds():
    text = """g (float[N,4,5,6] x) => (float[N,4,5,6] y, float[N,5,6,4] z) {
        a = Transpose <perm = [0,2,3,1]> (x)  b = Relu(a)  c = Exp(b)  z = Softmax <axis = -1> (b)
        y = Transpose <perm = [0,3,1,2]> (c) }"""
    assert leaves(text).count("Transpose") == 1


def test_recurrent_cells_and_their_neighbours_stay():
    assert_rejects(
        PASS,
        """g (float[N,T,4] x, float[1,8,4] w, float[1,8,2] r) => (float[N,T,2] y) {
            a = Transpose <perm = [1,0,2]> (x)  h = LSTM <hidden_size = 2> (a, w, r)  s = Squeeze(h, [1])
            y = Transpose <perm = [1,0,2]> (s) }""",
    )


def test_matrix_products_over_exchanged_batch_axes():
    text = """g (float[N,T,4] x, float[4,3] w, float[3] c) => (float[N,T,3] y) {
        a = Transpose <perm = [1,0,2]> (x)  b = MatMul(a, w)  s = LayerNormalization(b, c)
        y = Transpose <perm = [1,0,2]> (s) }"""
    assert leaves(text, sizes=[{}, {"N": 1}]) == ["MatMul", "LayerNormalization"]


def test_layer_normalization_before_it_was_in_the_standard():
    """As onnxruntime's optimizer leaves it."""
    text = """g (float[N,T,4] x, float[4] c) => (float[N,T,4] y) {
        a = Transpose <perm = [1,0,2]> (x)  s = LayerNormalization(a, c)
        y = Transpose <perm = [1,0,2]> (s) }"""
    assert leaves(text, opset=14) == ["LayerNormalization"]


def test_unsqueezes_of_parts_are_one_before_the_split():
    text = """g (float[N,6] x) => (float[N,1,6] y) {
        a = Pad(x, [0,1,0,0])  b = Pad(x, [0,0,0,1])  c = Unsqueeze(a, [1])  d = Unsqueeze(b, [1])
        e = Slice(c, [0], [6], [2])  f = Slice(d, [0], [6], [2])  y = Add(e, f) }"""
    assert leaves(text).count("Unsqueeze") == 1


def test_squeeze_and_unsqueeze_meet():
    text = """g (float[N,1,6] x) => (float[N,1,6] y) {
        a = Squeeze(x, [1])  b = Relu(a)  c = Pad(b, [0,1,0,1])  d = Slice(c, [1], [7], [1])
        y = Unsqueeze(d, [1]) }"""
    assert leaves(text) == ["Relu", "Pad", "Slice"]


def test_in_bodies():
    body = "a = Transpose(x)  b = Relu(a)  r = Transpose(b)"
    assert_rewrites(
        PASS,
        before=f"""g (bool c, float[2,T] x) => (float[2,T] y) {{
            y = If (c) <then_branch = t () => (float[2,T] r) {{ {body} }},
                        else_branch = e () => (float[2,T] n) {{ n = Neg(x) }}> }}""",
        after="""g (bool c, float[2,T] x) => (float[2,T] y) {
            y = If (c) <then_branch = t () => (float[2,T] r) { r = Relu(x) },
                        else_branch = e () => (float[2,T] n) { n = Neg(x) }> }""",
    )


def test_a_value_that_a_body_captures_is_brought_back():
    text = """g (bool c, float[2,T] x) => (float[2,T] y, float[T,2] z) {
        a = Transpose(x)  b = Relu(a)  y = Transpose(b)
        z = If (c) <then_branch = t () => (float[T,2] r) { r = Exp(b) },
                    else_branch = e () => (float[T,2] n) { n = Neg(b) }> }"""
    assert leaves(text).count("Transpose") <= 1


def test_an_overridable_initializer_is_not_laid_out():
    text = """<ir_version: 10, opset_import: ["" : 18]>
        g (float[N,4,5] x, float[5,4] w) => (float[N,4,5] y) <float[5,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,
            14,15,16,17,18,19,20}> {
            a = Transpose <perm = [0,2,1]> (x)  b = Add(a, w)  y = Transpose <perm = [0,2,1]> (b) }"""
    assert_rejects(PASS, text)


def test_unknown_rank_stays():
    assert_rejects(
        PASS,
        """g (float[N,4,5] x, float z) => (float[N,4,5] y) {
            r = Reshape(z, [5,4])  a = Transpose <perm = [0,2,1]> (x)  b = Add(a, r)
            y = Transpose <perm = [0,2,1]> (b) }""",
    )


@st.composite
def webs(draw):
    """Transposes, functions and sums of values that others share; all dims are equal."""
    values, lines = ["x", "z"], []
    for i in range(draw(st.integers(3, 14))):
        first, second = (draw(st.sampled_from(values[-5:])) for _ in range(2))
        kind = draw(st.sampled_from(["Transpose", "Transpose", "Relu", "Add", "Softmax", "Concat"]))
        if kind == "Transpose":
            lines.append(f"v{i} = Transpose <perm = [0,2,1]> ({first})")
        elif kind == "Concat":
            lines.append(f"c{i} = Concat <axis = 1> ({first}, {second})  v{i} = Slice(c{i}, [1], [4], [1])")
        elif kind == "Softmax":
            lines.append(f"v{i} = Softmax <axis = -1> ({first})")
        else:
            lines.append(f"v{i} = {kind}({first}{', ' + second if kind == 'Add' else ''})")
        values.append(f"v{i}")
    body = "  ".join(lines)
    return f"""g (float[N,3,3] x, float[N,3,3] z) => (float[N,3,3] y, float[N,3,3] w) {{
        {body}  y = Neg({values[-1]})  w = Identity({values[-2]}) }}"""


@given(webs())
@settings(max_examples=60, deadline=None)
def test_there_are_never_more_nodes_and_it_comes_to_rest(text):
    model = model_from_text(text)
    original = model.clone()
    run_pass("remove-dead-code", model)
    before = operators_of(model)
    trace = run_pass(PASS, model)
    after = operators_of(model)
    assert len(after) < len(before) if trace.firings else after == before
    assert not run_pass(PASS, model).firings
    assert_same_outputs(original, model, random_feeds(original), exact=False)


def test_cost_grows_with_the_graph():
    lines = ["a0 = Transpose <perm = [0,2,1]> (x)"]
    for i in range(600):
        lines.append(f"b{i} = Relu(a{i})  a{i + 1} = Add(b{i}, a{i})")
    text = " ".join(lines)
    model = model_from_text(
        f"g (float[N,4,5] x) => (float[N,4,5] y) {{ {text} y = Transpose <perm = [0,2,1]> (a600) }}"
    )
    run_pass(PASS, model)
    assert "Transpose" not in operators_of(model)


def test_an_axis_cut_to_nothing_is_no_fault():
    # Beside a dim of 0 no other can be told by how many elements it has.
    text = """g (float[1,N,4] x) => (float[a,b,c,d] y, float[e,f,g,h] z) {
      s = Slice (x, [1], [1], [1])  r = Reshape (s, [0,0,2,2])
      t = Transpose <perm = [0,2,1,3]> (r)  y = Relu (t)
      u = Transpose <perm = [0,2,3,1]> (r)  z = Neg (u) }"""
    leaves(text, sizes=[{}])
