import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-parallel-slices"


def test_parts_of_a_value():
    assert_rewrites(
        PASS,
        before="""g (float[N,12] x) => (float[N,4] a, float[N,4] b, float[N,4] c) {
            b = Slice(x, [4], [8], [1])  a = Slice(x, [0], [4], [-1])  c = Slice(x, [8], [99], [1]) }""",
        after="""g (float[N,12] x) => (float[N,4] a, float[N,4] b, float[N,4] c) {
            a, b, c = Split <axis = 1> (x, [4,4,4]) }""",
        sizes=[{}, {"N": 0}, {"N": 1}],
    )


def test_what_no_slice_keeps_is_a_part_too():
    assert_rewrites(
        PASS,
        before="""g (float[N,8] x) => (float[N,2] a, float[N,4] b) {
            a = Slice(x, [0], [2], [1])  b = Slice(x, [3], [7], [1]) }""",
        after="""g (float[N,8] x) => (float[N,2] a, float[N,4] b) {
            a, c, b, d = Split <axis = 1> (x, [2,1,4,1]) }""",
    )


@pytest.mark.parametrize(
    "slices",
    [
        "a = Slice(x, [0], [5], [1])  b = Slice(x, [4], [8], [1])",
        "a = Slice(x, [0], [1], [1])  b = Slice(x, [4], [5], [1])",
        "a = Slice(x, [0], [8], [1], [2])  b = Slice(x, [1], [8], [1], [2])",
        "a = Slice(x, [0], [2], [0])  b = Slice(x, [2], [9223372036854775807], [0])",
        "a = Slice(x, [0], [4], [1])  b = Relu(x)",
        "a = Slice(x, [0,0], [1,4], [0,1])  b = Slice(x, [0,4], [1,8], [0,1])",
    ],
)
def test_leaves_alone(slices):
    assert_rejects(PASS, f"g (float[N,8] x) => (float[M,K] a, float[P,Q] b) {{ {slices} }}")
