import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.movement.merge_movement import NO_SHORTER
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "merge-movement"
SIZES = [{}, {"B": 0}, {"T": 0}, {"B": 1, "T": 1}]


def test_keys_are_transposed_in_four_dims():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,T,4] k) => (float[B,2,4,T] y) {
            s = Shape(k)  b = Gather(s, [0])  t = Gather(s, [2])  first = Concat <axis = 0> ([-1], t, [4])
            last = Concat <axis = 0> (b, [2], [4], t)
            a = Reshape(k, first)  c = Transpose <perm = [0,2,1]> (a)  y = Reshape(c, last) }""",
        after="g (float[B,2,T,4] k) => (float[B,2,4,T] y) { y = Transpose <perm = [0,1,3,2]> (k) }",
        sizes=[{}, {"B": 0}, {"B": 1, "T": 1}],
    )


def test_two_transposes_are_one():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,T] x) => (float[T,B,2] y) {
            a = Transpose <perm = [1,2,0]> (x)  y = Transpose <perm = [1,2,0]> (a) }""",
        after="g (float[B,2,T] x) => (float[T,B,2] y) { y = Transpose <perm = [2,0,1]> (x) }",
        sizes=SIZES,
    )


def test_two_transposes_are_none():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,T] x) => (float[B,2,T] y) {
            a = Transpose(x)  b = Transpose(a)  y = Relu(b) }""",
        after="g (float[B,2,T] x) => (float[B,2,T] y) { y = Relu(x) }",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("perm", "mode"),
    [([0, 1, 4, 2, 5, 3], "CRD"), ([0, 3, 4, 1, 5, 2], "DCR")],
)
def test_pixel_shuffle(perm, mode):
    cut = "[0,3,2,2,4,5]" if mode == "CRD" else "[0,2,2,3,4,5]"
    attribute = f', mode = "{mode}"' if mode != "DCR" else ""
    assert_rewrites(
        PASS,
        before=f"""g (float[B,12,4,5] x) => (float[B,3,8,10] y) {{
            a = Reshape(x, {cut})  b = Transpose <perm = {perm}> (a)  y = Reshape(b, [0,3,8,10]) }}""",
        after=f"""g (float[B,12,4,5] x) => (float[B,3,8,10] y) {{
            y = DepthToSpace <blocksize = 2{attribute}> (x) }}""",
        sizes=[{}, {"B": 0}],
    )


def test_no_depth_to_space_of_integers():
    model = """g (int32[B,12,4,5] x) => (int32[B,3,8,10] y) {
        a = Reshape(x, [0,3,2,2,4,5])  b = Transpose <perm = [0,1,4,2,5,3]> (a)
        y = Reshape(b, [0,3,8,10]) }"""
    assert_rejects(PASS, model, NO_SHORTER)


def test_space_to_depth():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,8,10] x) => (float[B,12,4,5] y) {
            a = Reshape(x, [0,3,4,2,5,2])  b = Transpose <perm = [0,3,5,1,2,4]> (a)
            y = Reshape(b, [0,12,4,5]) }""",
        after="g (float[B,3,8,10] x) => (float[B,12,4,5] y) { y = SpaceToDepth <blocksize = 2> (x) }",
    )


def test_transpose_of_ones_is_a_reshape():
    assert_rewrites(
        PASS,
        before="g (float[B,1,7] x) => (float[B,7,1] y) { y = Transpose <perm = [0,2,1]> (x) }",
        after="g (float[B,1,7] x) => (float[B,7,1] y) { y = Reshape(x, [0,7,1]) }",
        sizes=[{}, {"B": 0}],
    )


def test_transpose_of_ones_stays_where_the_shape_would_have_to_be_computed():
    # Two dims move to other places: neither can be copied.
    assert_rejects(PASS, "g (float[1,B,T] x) => (float[T,1,B] y) { y = Transpose <perm = [2,0,1]> (x) }")


def test_ones_are_put_in_by_the_reshape_that_is_left():
    assert_rewrites(
        PASS,
        before="""g (float[B,T,8] x) => (float[B,8,1,T] y) {
            a = Unsqueeze(x, [1])  b = Transpose <perm = [0,3,1,2]> (a)  c = Squeeze(b, [2])
            y = Unsqueeze(c, [2]) }""",
        after="""g (float[B,T,8] x) => (float[B,8,1,T] y) {
            a = Transpose <perm = [0,2,1]> (x)  y = Unsqueeze(a, [2]) }""",
        sizes=SIZES,
    )


def test_shared_value_stays():
    assert_rejects(
        PASS,
        """g (float[B,2,T] x) => (float[T,B,2] y, float[2,T,B] z) {
            a = Transpose <perm = [1,2,0]> (x)  z = Relu(a)  y = Transpose <perm = [1,2,0]> (a) }""",
        HAS_OTHER_CONSUMERS,
    )


def test_inner_graph_output_stays():
    assert_rejects(
        PASS,
        """g (float[B,2,T] x) => (float[T,B,2] y, float[2,T,B] a) {
            a = Transpose <perm = [1,2,0]> (x)  y = Transpose <perm = [1,2,0]> (a) }""",
        HAS_OTHER_CONSUMERS,
    )


def test_shared_value_before_an_inverse_pair():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,T] x) => (float[B,2,T] y, float[2,T,B] z) {
            a = Transpose <perm = [1,2,0]> (x)  z = Relu(a)  b = Transpose <perm = [2,0,1]> (a)
            y = Neg(b) }""",
        after="""g (float[B,2,T] x) => (float[B,2,T] y, float[2,T,B] z) {
            a = Transpose <perm = [1,2,0]> (x)  z = Relu(a)  y = Neg(x) }""",
    )


def test_real_reshape_between_transposes_stays():
    assert_rejects(
        PASS,
        """g (float[8,6] x) => (float[12,4] y) {
            a = Transpose(x)  b = Reshape(a, [4,12])  y = Transpose(b) }""",
    )


def test_in_bodies():
    body = "a = Transpose(x)  b = Transpose(a)  r = Relu(b)"
    assert_rewrites(
        PASS,
        before=f"""g (bool c, float[2,T] x) => (float[2,T] y) {{
            y = If (c) <then_branch = t () => (float[2,T] r) {{ {body} }},
                        else_branch = e () => (float[2,T] n) {{ n = Neg(x) }}> }}""",
        after="""g (bool c, float[2,T] x) => (float[2,T] y) {
            y = If (c) <then_branch = t () => (float[2,T] r) { r = Relu(x) },
                        else_branch = e () => (float[2,T] n) { n = Neg(x) }> }""",
    )


def test_unknown_rank_stays():
    assert_rejects(PASS, "g (float[2,3] x, int64[K] s) => (float y) { a = Reshape(x, s)  y = Transpose(a) }")


@st.composite
def movement_chains(draw):
    """A chain of Transposes and Reshapes over a dynamic first dim."""
    shape: list[int | str] = ["N", *draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3))]
    source, lines, value = list(shape), [], "x"
    for i in range(draw(st.integers(2, 5))):
        if draw(st.booleans()):
            perm = draw(st.permutations(range(len(shape))))
            shape = [shape[axis] for axis in perm]
            lines.append(f"v{i} = Transpose <perm = {list(perm)}> ({value})")
        else:
            at = shape.index("N")
            before, after = int(np.prod(shape[:at])), int(np.prod(shape[at + 1 :]))
            first, second = draw(st.sampled_from(_cuts(before))), draw(st.sampled_from(_cuts(after)))
            shape = [*first, "N", *second]
            # -1 infers the dynamic dim; the others are at least 1.
            target = [-1 if d == "N" else d for d in shape]
            lines.append(f"v{i} = Reshape({value}, {target})")
        value = f"v{i}"
    dims = ",".join(str(d) for d in source)
    out = ",".join(str(d) for d in shape)
    return f"g (float[{dims}] x) => (float[{out}] y) {{ {' '.join(lines)} y = Identity({value}) }}"


def _cuts(size):
    return [[size], [1, size], *([f, size // f] for f in range(2, size) if size % f == 0)]


@given(movement_chains())
@settings(max_examples=60, deadline=None)
def test_never_changes_an_answer(text):
    model = model_from_text(text)
    original = model.clone()
    before = len(operators_of(model))
    run_pass(PASS, model)
    assert len(operators_of(model)) <= before
    for size in (0, 1, 3):
        assert_same_outputs(original, model, random_feeds(original, {"N": size}))
