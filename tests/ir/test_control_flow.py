"""If, Loop and Scan: what is carried is widened to what holds in every iteration."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.dims import substitute
from graphopt.ir.inference import Facts


def parsed(text: str) -> tuple[ir.Model, Facts]:
    model = ir.serde.deserialize_model(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    )
    return model, Facts(model)


def outputs_of(text: str) -> list[str]:
    model, facts = parsed(text)
    found = [facts.describe(output) for output in model.graph.outputs]
    assert not facts.failures
    return found


def body_of(model: ir.Model, name: str = "body") -> ir.Graph:
    for node in model.graph:
        if name in node.attributes:
            return node.attributes[name].as_graph()
    raise AssertionError(name)


CACHE = """g (int64 n, bool c, float[1, 4] row, int64 start)
    => (float tokens, float cache, int64 at, float all) {
    empty = Constant<value = int64[2] {0, 4}>()
    cache0 = ConstantOfShape(empty)
    one = Constant<value = int64 {1}>()
    first = Constant<value = float[1] {0}>()
    tokens, cache, at, all = Loop(n, c, first, cache0, start) <body = b
        (int64 i, bool go, float[1] tokens_in, float[0, 4] cache_in, int64 at_in)
        => (bool go_out, float[2] tokens_out, float[1, 4] cache_out, int64 at_out, float[1, 4] each) {
            cache_out = Concat<axis = 0>(cache_in, row)
            new = Constant<value = float[1] {1}>()
            tokens_out = Concat<axis = 0>(tokens_in, new)
            at_out = Add(at_in, one)
            each = Identity(row)
            go_out = Identity(go)
        }>
}"""


def test_a_growing_cache_is_as_long_as_the_loop_has_run():
    # The body's inputs are declared with the shapes of the first step, as torch does.
    found = outputs_of(CACHE)
    assert found == ["float32[trips#0 + 1]", "float32[trips#0, 4]", "int64[]", "float32[trips#0, 1, 4]"]


def test_inside_the_body_the_cache_has_one_row_an_iteration():
    model, facts = parsed(CACHE)
    body = body_of(model)
    # Asked from inside, before anything outside.
    assert [facts.describe(value) for value in body.inputs] == [
        "int64[]",
        "bool[]",
        "float32[iteration#0 + 1]",
        "float32[iteration#0, 4]",
        "int64[]",
    ]
    assert [facts.describe(value) for value in body.outputs[1:3]] == [
        "float32[iteration#0 + 2]",
        "float32[iteration#0 + 1, 4]",
    ]
    assert facts.elements(body.inputs[0]) is not None


def test_the_trip_count_is_known_where_nothing_else_ends_the_loop():
    text = CACHE.replace("bool c, ", "").replace("Loop(n, c,", "Loop(n, ,")
    text = text.replace("go_out = Identity(go)", "go_out = Constant<value = bool {1}>()")
    assert outputs_of(text)[0] == "float32[trips#0 + 1]"
    fixed = text.replace("(int64 n, float", "(float").replace(
        "one = Constant", "n = Constant<value = int64 {5}>() one = Constant", 1
    )
    assert outputs_of(fixed) == ["float32[6]", "float32[5, 4]", "int64[]", "float32[5, 1, 4]"]


def test_loops_give_what_was_inferred():
    import onnxruntime

    onnx_model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {CACHE}')
    session = onnxruntime.InferenceSession(onnx_model.SerializeToString())
    model, facts = parsed(CACHE)
    for trips in (0, 1, 4):
        feeds = {
            "n": np.int64(trips),
            "c": np.array(True),
            "row": np.ones((1, 4), np.float32),
            "start": np.int64(3),
        }
        feeds = {name: np.asarray(value) for name, value in feeds.items()}
        for output, found in zip(model.graph.outputs, session.run(None, feeds), strict=True):
            dims = facts.dims(output)
            assert dims is not None
            assert tuple(substitute(dim, {"trips#0": trips}) for dim in dims) == found.shape


def loop(
    before: str, carried: str, body_inputs: str, body_outputs: str, body: str, inputs: str = "float[N, 4] x"
) -> str:
    names = ", ".join(f"y{i}" for i in range(carried.count(",") + 1))
    types = ", ".join(f"float y{i}" for i in range(carried.count(",") + 1))
    return f"""g (int64 n, bool c, {inputs}) => ({types}) {{
        {before}
        {names} = Loop(n, c, {carried}) <body = b (int64 i, bool go, {body_inputs})
        => (bool go_out, {body_outputs}) {{
            {body}
            go_out = Identity(go)
        }}>
    }}"""


def test_what_does_not_change_keeps_its_dims():
    text = loop(
        "", "x, x", "float a, float b", "float a_out, float b_out", "a_out = Relu(b)  b_out = Add(a, b)"
    )
    assert outputs_of(text) == ["float32[N, 4]", "float32[N, 4]"]


def test_what_doubles_is_unknown_and_equal_things_stay_equal():
    text = loop(
        "",
        "x, x, x",
        "float a, float b, float d",
        "float a_out, float b_out, float d_out",
        "a_out = Concat<axis = 0>(a, b)  b_out = Concat<axis = 0>(b, a)  d_out = Concat<axis = 0>(d, a, b)",
    )
    first, second, third = outputs_of(text)
    assert first == second == "float32[carried#2, 4]" or first == second
    assert first != third


def test_dims_that_are_exchanged_are_not_taken_for_constant():
    text = loop(
        "",
        "x, z",
        "float a, float b",
        "float a_out, float b_out",
        "a_out = Identity(b)  b_out = Identity(a)",
        "float[N, 4] x, float[M, 4] z",
    )
    first, second = outputs_of(text)
    assert "N" not in first and "M" not in second and first != second


def test_a_rank_that_changes_is_unknown():
    text = loop(
        "", "x", "float a", "float a_out", "z = Constant<value = int64[1] {0}>()  a_out = Unsqueeze(a, z)"
    )
    assert outputs_of(text) == ["float32[...]"]


def test_contents_that_change_are_unknown_and_those_that_stay_are_known():
    text = """g (int64 n, bool c) => (float y0, float y1) {
        two = Constant<value = int64[1] {2}>()
        three = Constant<value = int64[1] {3}>()
        a, b = Loop(n, c, two, three) <body = l (int64 i, bool go, int64[1] p, int64[1] q)
            => (bool go_out, int64[1] p_out, int64[1] q_out) {
                p_out = Mul(p, p)  q_out = Identity(q)  go_out = Identity(go)
            }>
        y0 = ConstantOfShape(a)
        y1 = ConstantOfShape(b)
    }"""
    assert outputs_of(text) == ["float32[filled#0]", "float32[3]"]


def test_a_loop_in_a_loop():
    text = """g (int64 n, bool c, float[1, 4] x) => (float y) {
        y = Loop(n, c, x) <body = outer (int64 i, bool go, float[1, 4] a)
        => (bool go_out, float[1, 4] a_out) {
            a_out = Loop(n, c, a) <body = inner (int64 j, bool on, float[1, 4] b)
            => (bool on_out, float[2, 4] b_out) {
                b_out = Concat<axis = 0>(b, x)
                on_out = Identity(on)
            }>
            go_out = Identity(go)
        }>
    }"""
    (found,) = outputs_of(text)
    assert found.startswith("float32[carried#")


def test_sizes_of_one_iteration_do_not_get_out():
    text = """g (int64 n, bool c, float[N] x) => (float y, float z) {
        y, z = Loop(n, c, x) <body = b (int64 i, bool go, float[N] a)
        => (bool go_out, float[N] a_out, float each) {
            found = NonZero(a)
            zero = Constant<value = int64 {0}>()
            each = Gather<axis = 0>(found, zero)
            a_out = Cast<to = 1>(each)
            go_out = Identity(go)
        }>
    }"""
    y, z = outputs_of(text)
    assert "nonzero" not in y and "nonzero" not in z


@pytest.mark.parametrize(
    ("then", "otherwise", "expected"),
    [
        ("Relu(x)", "Neg(x)", "float32[N, 4]"),
        ("Relu(x)", "Transpose(x)", "float32[either#0, either#1]"),
        ("Relu(x)", "ReduceSum<keepdims = 0>(x)", "float32[...]"),
        ("Relu(x)", "Cast<to = 11>(x)", "?[N, 4]"),
    ],
)
def test_if_has_what_both_branches_have(then, otherwise, expected):
    text = f"""g (bool c, float[N, 4] x) => (float y) {{
        y = If(c) <then_branch = t () => (float a) {{ a = {then} }},
                   else_branch = e () => (float b) {{ b = {otherwise} }}>
    }}"""
    assert outputs_of(text) == [expected]


def test_a_known_condition_takes_its_branch():
    text = """g (float[N, 1] x) => (float y) {
        s = Shape<start = 1>(x)
        zero = Constant<value = int64 {0}>()
        one = Constant<value = int64 {1}>()
        size = Gather(s, zero)
        c = Equal(size, one)
        y = If(c) <then_branch = t () => (float a) {
            k = Constant<value = int64[1] {1}>()  a = Squeeze(x, k) },
                   else_branch = e () => (float b) { b = Identity(x) }>
    }"""
    assert outputs_of(text) == ["float32[N]"]


SCAN = """g (float[B, 8] h, float[T, B, 4] x) => (float last, float all) {
    last, all = Scan(h, x) <num_scan_inputs = 1, body = b (float[B, 8] a, float[B, 4] v)
        => (float[B, 8] a_out, float[B, 2] w) {
        a_out = Relu(a)
        k = Constant<value = int64[2] {1, 2}>()
        w = Tile(v, k)
    }>
}"""


def test_scan():
    last, every = outputs_of(SCAN)
    assert last == "float32[B, 8]"
    # The batch is certain only where there is a step at all.
    assert every == "float32[T, scanned#0, 8]"
    fixed = SCAN.replace("float[T, B, 4] x", "float[5, B, 4] x").replace(
        "<num_scan_inputs = 1,", "<num_scan_inputs = 1, scan_output_axes = [1],"
    )
    assert outputs_of(fixed) == ["float32[B, 8]", "float32[B, 5, 8]"]


def test_forgetting_what_a_body_captures():
    text = CACHE.replace("float[1, 4] row, ", "float[1, 4] given, ").replace(
        "one = Constant", "row = Relu(given) one = Constant", 1
    )
    model, facts = parsed(text)
    assert facts.describe(model.graph.outputs[1]) == "float32[trips#0, 4]"
    row = next(node for node in model.graph if node.op_type == "Relu")
    facts.forget(row.outputs[0])
    assert facts.describe(model.graph.outputs[1]) == "float32[trips#1, 4]"


def test_sequences():
    text = """g (float[N, 4] x, float[M, 4] z, int64 k) => (float a, float b, float d, float e, int64 f) {
        empty = SequenceEmpty()
        one = SequenceInsert(empty, x)
        two = SequenceInsert(one, x)
        three = SequenceInsert(two, z)
        a = SequenceAt(two, k)
        b = SequenceAt(three, k)
        d = ConcatFromSequence<axis = 0>(three)
        e = ConcatFromSequence<axis = 0, new_axis = 1>(two)
        f = SequenceLength(three)
    }"""
    assert outputs_of(text) == [
        "float32[N, 4]",
        "float32[element#0, 4]",
        "float32[concatenated#0, 4]",
        "float32[concatenated#1, N, 4]",
        "int64[]",
    ]


def test_splitting_to_a_sequence():
    text = """g (float[N, 6] x, int64 k) => (float a, float b, float d) {
        two = Constant<value = int64 {2}>()
        p = SplitToSequence<axis = 1>(x, two)
        q = SplitToSequence<axis = 0, keepdims = 0>(x)
        r = SplitToSequence<axis = 0>(x, two)
        a = SequenceAt(p, k)
        b = SequenceAt(q, k)
        d = SequenceAt(r, k)
    }"""
    assert outputs_of(text) == ["float32[N, 2]", "float32[6]", "float32[element#0, 6]"]


def test_optionals():
    text = """g (float[N] x) => (float y, bool b) {
        o = Optional(x)
        y = OptionalGetElement(o)
        b = OptionalHasElement(o)
    }"""
    assert outputs_of(text) == ["float32[N]", "bool[]"]
