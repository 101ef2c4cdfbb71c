"""Chains of Reshape, Flatten, Squeeze and Unsqueeze."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.shapes.remove_repeated_reshapes import NEEDS_MIDDLE
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites, assert_same_outputs, model_from_text, run_pass

PASS = "remove-repeated-reshapes"
B_SIZES = [{"B": 3}, {"B": 1}, {"B": 0}]


@pytest.mark.parametrize(
    ("chain", "result", "single"),
    [
        ("a = Reshape(x, [6,4])  y = Reshape(a, [2,12])", "2,12", "y = Reshape(x, [2,12])"),
        ("a = Flatten <axis = 2> (x)  y = Reshape(a, [4,6])", "4,6", "y = Reshape(x, [4,6])"),
        ("a = Unsqueeze(x, [0])  y = Unsqueeze(a, [-1])", "1,2,3,4,1", "y = Unsqueeze(x, [0,4])"),
        ("a = Unsqueeze(x, [1])  b = Reshape(a, [2,12])  y = Unsqueeze(b, [0])", "1,2,12",
         "y = Reshape(x, [1,2,12])"),
        ("a = Reshape(x, [2,1,3,4])  y = Squeeze(a, [1])", "2,3,4", "y = Identity(x)"),
        ("y = Reshape(x, [2,3,4])", "2,3,4", "y = Identity(x)"),
    ],
)  # fmt: skip
def test_chain_becomes_one(chain, result, single):
    before = f"g (float[2,3,4] w) => (float[{result}] y) {{ x = Relu(w)  {chain} }}"
    after = f"g (float[2,3,4] w) => (float[{result}] y) {{ x = Relu(w)  {single} }}"
    if "Identity" in single:
        after = f"g (float[2,3,4] w) => (float[{result}] y) {{ y = Relu(w) }}"
    assert_rewrites(PASS, before, after)


def test_copying_zero_of_a_value_inside_is_written_from_the_dims():
    assert_rewrites(
        PASS,
        before="""g (float[B,6,4] x) => (float[B,6,2,2] y) {
            a = Reshape(x, [0,24])  y = Reshape(a, [0,6,2,2]) }""",
        after="g (float[B,6,4] x) => (float[B,6,2,2] y) { y = Reshape(x, [0,6,2,2]) }",
        sizes=B_SIZES,
    )


def test_there_and_back_is_nothing_on_a_dynamic_batch():
    assert_rewrites(
        PASS,
        before="""g (float[B,6,4] w) => (float[B,6,4] y) {
            x = Relu(w)  a = Reshape(x, [-1,4])  s = Shape(x)  y = Reshape(a, s) }""",
        after="g (float[B,6,4] w) => (float[B,6,4] y) { y = Relu(w) }",
        sizes=B_SIZES,
    )


def test_flatten_says_what_a_constant_target_can_not():
    assert_rewrites(
        PASS,
        before="g (float[B,S,4,3] x) => (float[B,R] y) { a = Flatten <axis = 2> (x)  s = Shape(x) "
        " b = Reshape(a, s)  y = Flatten <axis = 1> (b) }",
        after="g (float[B,S,4,3] x) => (float[B,R] y) { y = Flatten <axis = 1> (x) }",
        sizes=[{"B": 2, "S": 3}, {"B": 0, "S": 3}],
    )


def test_a_runtime_target_without_copies_is_kept():
    assert_rewrites(
        PASS,
        before="g (float[N,M] x) => (float[3,Q] y) { a = Reshape(x, [1,-1])  y = Reshape(a, [3,-1]) }",
        after="g (float[N,M] x) => (float[3,Q] y) { y = Reshape(x, [3,-1]) }",
        sizes=[{"N": 3, "M": 2}, {"N": 1, "M": 6}, {"N": 6, "M": 1}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("""g (float[N,M,K] x) => (float[P,1,Q] y) {
            a = Flatten <axis = 2> (x)  y = Reshape(a, [0,1,-1]) }""", NEEDS_MIDDLE),
        ("g (float[6] x) => (float[1,6] y, float[2,3] a) { a = Reshape(x, [2,3])  y = Reshape(a, [1,6]) }",
         HAS_OTHER_CONSUMERS),
        ("""g (float[6] x) => (float[1,6] y, float[2,3] r) {
            a = Reshape(x, [2,3])  r = Relu(a)  y = Reshape(a, [1,6]) }""", HAS_OTHER_CONSUMERS),
    ],
)  # fmt: skip
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)


def test_shared_inner_value_does_not_keep_a_round_trip():
    assert_rewrites(
        PASS,
        before="""g (float[2,3] w) => (float[2,3] y, float[6] r) {
            x = Relu(w)  a = Reshape(x, [6])  r = Abs(a)  b = Reshape(a, [2,3])  y = Neg(b) }""",
        after="""g (float[2,3] w) => (float[2,3] y, float[6] r) {
            x = Relu(w)  a = Reshape(x, [6])  r = Abs(a)  y = Neg(x) }""",
    )


def test_in_a_loop_body():
    assert_rewrites(
        PASS,
        before="""g (float[B,4] x, int64 n, bool c) => (float[B,4] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool ci, float[B,4] p) => (bool co, float[B,4] q) {
                co = Identity(ci)  u = Unsqueeze(p, [1])  v = Reshape(u, [-1,4])  q = Neg(v) }> }""",
        after="""g (float[B,4] x, int64 n, bool c) => (float[B,4] y) {
            y = Loop (n, c, x) <body = b (int64 i, bool ci, float[B,4] p) => (bool co, float[B,4] q) {
                co = Identity(ci)  q = Neg(p) }> }""",
        sizes=B_SIZES,
    )


def test_axes_as_attributes():
    assert_rewrites(
        PASS,
        before="""g (float[B,4] x) => (float[B,1,4,1] y) {
            a = Unsqueeze <axes = [1]> (x)  y = Unsqueeze <axes = [3]> (a) }""",
        after="g (float[B,4] x) => (float[B,1,4,1] y) { y = Unsqueeze <axes = [1,3]> (x) }",
        opset=11,
        sizes=B_SIZES,
    )


SIZES = st.sampled_from([0, 1, 2, 3, 5])


@st.composite
def chains(draw):
    """A random chain over a tensor of rank 3 with a dynamic first dim; each step is legal for its size."""
    size = draw(SIZES)
    shape = [size, draw(SIZES), draw(SIZES)]
    declared = f"float[B,{shape[1]},{shape[2]}]"
    steps, current = [], list(shape)
    for place in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["Unsqueeze", "Squeeze", "Reshape", "Flatten"]))
        source = f"v{place}"
        if kind == "Unsqueeze":
            axis = draw(st.integers(0, len(current)))
            current.insert(axis, 1)
            steps.append(f"v{place + 1} = Unsqueeze({source}, [{axis}])")
        elif kind == "Squeeze" and 1 in current[1:]:
            axis = current.index(1, 1)
            if steps or axis:
                current.pop(axis)
                steps.append(f"v{place + 1} = Squeeze({source}, [{axis}])")
        elif kind == "Flatten" or 0 in current:
            axis = draw(st.integers(0, len(current)))
            current = [int(np.prod(current[:axis])), int(np.prod(current[axis:]))]
            steps.append(f"v{place + 1} = Flatten <axis = {axis}> ({source})")
        else:
            target = [draw(st.sampled_from([0, -1])), *current[1:]]
            steps.append(f"v{place + 1} = Reshape({source}, {target})")
        if len(steps) <= place:
            steps.append(f"v{place + 1} = Identity({source})")
    body = "  ".join(steps)
    last = len(steps)
    rank = ",".join(f"D{i}" for i in range(len(current)))
    return f"g ({declared} w) => (float[{rank}] y) {{ v0 = Relu(w)  {body}  y = Neg(v{last}) }}", shape


@settings(max_examples=60, deadline=None)
@given(chains())
def test_never_changes_an_answer(chain):
    text, shape = chain
    model = model_from_text(text)
    original = model.clone()
    run_pass(PASS, model)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert_same_outputs(original, model, {"w": x})


def test_numbers_between_computed_dims_are_free():
    assert_rewrites(
        PASS,
        before="""g (float[P,12] x, float[B,S] z) => (float[B,S,3,4] y) {
            b = Shape <start = 0, end = 1> (z)  n = Shape <start = 1, end = 2> (z)
            t = Concat <axis = 0> (b, n, [3], [4], [1])  a = Reshape(x, t)  y = Squeeze(a, [4]) }""",
        after="""g (float[P,12] x, float[B,S] z) => (float[B,S,3,4] y) {
            b = Shape <start = 0, end = 1> (z)  n = Shape <start = 1, end = 2> (z)
            t = Concat <axis = 0> (b, n, [3,4])  y = Reshape(x, t) }""",
        sizes=[{"P": 6, "B": 2, "S": 3}, {"P": 0, "B": 0, "S": 3}],
    )


def test_a_computed_target_after_an_unsqueeze_is_taken():
    assert_rewrites(
        PASS,
        before="""g (float[P,12] x, float[B,S] z) => (float[B,S,12] y) {
            s = Shape(z)  t = Concat <axis = 0> (s, [12])  a = Unsqueeze(x, [1])  y = Reshape(a, t) }""",
        after="""g (float[P,12] x, float[B,S] z) => (float[B,S,12] y) {
            s = Shape(z)  t = Concat <axis = 0> (s, [12])  y = Reshape(x, t) }""",
        sizes=[{"P": 6, "B": 2, "S": 3}, {"P": 0, "B": 0, "S": 3}],
    )


def test_shared_by_reshapes_only():
    assert_rewrites(
        PASS,
        before="""g (float[B] x) => (float[B,1,1] y, float[1,B,1] z) {
            a = Unsqueeze(x, [0])  y1 = Unsqueeze(a, [2])  y = Reshape(y1, [-1,1,1])  z = Unsqueeze(a, [2]) }""",
        after="""g (float[B] x) => (float[B,1,1] y, float[1,B,1] z) {
            y = Unsqueeze(x, [1,2])  z = Unsqueeze(x, [0,2]) }""",
        sizes=B_SIZES,
    )
