import pytest

from graphopt.passes.movement.merge_slices import NEEDS_RUN, UNKNOWN_BOUNDS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-slices"
SIZES = [{}, {"N": 0}, {"N": 1}, {"N": 7}]


def test_different_axes():
    assert_rewrites(
        PASS,
        before="""g (float[N,8] x) => (float[M,4] y) {
            a = Slice(x, [1], [9223372036854775807], [0])  y = Slice(a, [1], [5], [1]) }""",
        after="""g (float[N,8] x) => (float[M,4] y) {
            y = Slice(x, [1,1], [9223372036854775807,5], [0,1]) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("[1], [6], [0]", "[1], [3], [0]", "[2], [4], [0]"),
        ("[0], [6], [0], [2]", "[1], [3], [0]", "[2], [6], [0], [2]"),
        ("[2], [9223372036854775807], [0]", "[-3], [-1], [0]", "[5], [7], [0]"),
        ("[-6], [-1], [0]", "[1], [9223372036854775807], [0]", "[3], [7], [0]"),
        ("[1], [8], [0], [3]", "[0], [3], [0], [2]", "[1], [8], [0], [6]"),
    ],
)
def test_the_same_axis(first, second, merged):
    assert_rewrites(
        PASS,
        before=f"g (float[8] x) => (float[M] y) {{ a = Slice(x, {first})  y = Slice(a, {second}) }}",
        after=f"g (float[8] x) => (float[M] y) {{ y = Slice(x, {merged}) }}",
    )


def test_old_spelling():
    assert_rewrites(
        PASS,
        before="""g (float[8,8] x) => (float[M,K] y) {
            a = Slice <starts = [1], ends = [8], axes = [0]> (x)
            y = Slice <starts = [1], ends = [4], axes = [1]> (a) }""",
        after="""g (float[8,8] x) => (float[M,K] y) {
            y = Slice <axes = [0,1], ends = [8,4], starts = [1,1]> (x) }""",
        opset=9,
    )


def test_shared_slice_is_read_past():
    assert_rewrites(
        PASS,
        before="""g (float[8,8] x) => (float[4,4] y, float[4,4] z) {
            a = Slice(x, [0], [8], [0], [2])  y = Slice(a, [0], [8], [1], [2])
            z = Slice(a, [1], [8], [1], [2]) }""",
        after="""g (float[8,8] x) => (float[4,4] y, float[4,4] z) {
            y = Slice(x, [0,0], [8,8], [0,1], [2,2])  z = Slice(x, [0,1], [8,8], [0,1], [2,2]) }""",
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        # Whether the last three are there decides where they begin.
        (
            """g (float[N] x) => (float[M] y) {
                a = Slice(x, [2], [9223372036854775807], [0])
                y = Slice(a, [-3], [9223372036854775807], [0]) }""",
            NEEDS_RUN,
        ),
        (
            """g (float[8] x) => (float[M] y) {
                a = Slice(x, [-1], [-9], [0], [-1])  y = Slice(a, [0], [3], [0]) }""",
            UNKNOWN_BOUNDS,
        ),
        (
            """g (float[8] x, int64[1] s) => (float[M] y) {
                a = Slice(x, s, [9], [0])  y = Slice(a, [0], [3], [0]) }""",
            UNKNOWN_BOUNDS,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)


def test_what_keeps_everything_is_left_out():
    assert_rewrites(
        PASS,
        before="""g (float[8,N] x) => (float[4,N] y) {
            a = Slice(x, [0], [9223372036854775807], [1])  y = Slice(a, [0], [4], [0]) }""",
        after="g (float[8,N] x) => (float[4,N] y) { y = Slice(x, [0], [4], [0]) }",
        sizes=SIZES,
    )


def test_one_element_is_gathered():
    assert_rewrites(
        PASS,
        before="g (float[N,4] x) => (float[4] y) { a = Slice(x, [1], [2], [0])  y = Squeeze(a, [0]) }",
        after="g (float[N,4] x) => (float[4] y) { y = Gather <axis = 0> (x, 1) }",
        sizes=[{}, {"N": 7}],
    )


def test_last_element_is_gathered():
    assert_rewrites(
        PASS,
        before="""g (float[4,5] x) => (float[4] y) {
            a = Slice(x, [-1], [9223372036854775807], [1])  y = Squeeze(a, [-1]) }""",
        after="g (float[4,5] x) => (float[4] y) { y = Gather <axis = 1> (x, 4) }",
    )


def test_shared_slice_of_one_stays():
    graph = """g (float[N,4] x) => (float[4] y, float[1,4] a) {
        a = Slice(x, [1], [2], [0])  y = Squeeze(a, [0]) }"""
    assert_rejects(PASS, graph, HAS_OTHER_CONSUMERS)


def test_squeeze_of_other_axes_stays():
    assert_rejects(
        PASS, "g (float[N,1,4] x) => (float[1,4] y) { a = Slice(x, [1], [2], [0])  y = Squeeze(a, [0,1]) }"
    )


def test_split_into_ones():
    assert_rewrites(
        PASS,
        before="""g (float[N,2] x) => (float[N] y, float[N] z) {
            a, b = Split <axis = -1> (x, [1,1])  y = Squeeze(a, [1])  z = Squeeze(b, [-1]) }""",
        after="""g (float[N,2] x) => (float[N] y, float[N] z) {
            y = Gather <axis = 1> (x, 0)  z = Gather <axis = 1> (x, 1) }""",
        sizes=SIZES,
    )


def test_split_with_another_use_stays():
    assert_rejects(
        PASS,
        """g (float[N,2] x) => (float[N] y, float[N,1] z) {
            a, b = Split <axis = -1> (x, [1,1])  y = Squeeze(a, [1])  z = Relu(b) }""",
    )
