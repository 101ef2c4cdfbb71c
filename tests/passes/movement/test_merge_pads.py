import pytest

from graphopt.passes.movement.merge_pads import LOST_VALUES, OTHER_VALUES
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-pads"
SIZES = [{}, {"N": 0}, {"N": 1}]


def test_pad_behind_a_slice():
    assert_rewrites(
        PASS,
        before="""g (float[N,8] x) => (float[N,8] y) {
            a = Slice(x, [3], [99], [1])  y = Pad(a, [0,0,0,3]) }""",
        after="g (float[N,8] x) => (float[N,8] y) { y = Pad(x, [0,-3,0,3]) }",
        sizes=SIZES,
    )


def test_pad_of_pad():
    assert_rewrites(
        PASS,
        before="""g (float[N,M] x) => (float[P,Q] y) {
            a = Pad(x, [1,0,2,0], 0.5)  y = Pad(a, [2,3], 0.5, [-1]) }""",
        after="g (float[N,M] x) => (float[P,Q] y) { y = Pad(x, [1,2,2,3], 0.5) }",
        sizes=SIZES,
    )


def test_slice_of_pad():
    assert_rewrites(
        PASS,
        before="""g (float[N,4] x) => (float[N,8] y) {
            a = Pad(x, [0,3,0,3])  y = Slice(a, [1], [-1], [1]) }""",
        after="g (float[N,4] x) => (float[N,8] y) { y = Pad(x, [0,2,0,2]) }",
        sizes=SIZES,
    )


def test_old_spelling():
    assert_rewrites(
        PASS,
        before="""g (float[N,4] x) => (float[N,8] y) {
            a = Pad <pads = [0,1,0,0]> (x)  y = Pad <pads = [0,0,0,3]> (a) }""",
        after="g (float[N,4] x) => (float[N,8] y) { y = Pad <pads = [0,1,0,3]> (x) }",
        opset=9,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Slice(x, [3], [99], [1])  y = Pad(a, [0,3,0,0])", LOST_VALUES),
        ("a = Pad(x, [0,1,0,0], 1.0)  y = Pad(a, [0,1,0,0], 2.0)", OTHER_VALUES),
        ("a = Pad(x, [0,1,0,0], -0.0)  y = Pad(a, [0,1,0,0])", OTHER_VALUES),
        ("a = Pad(x, [0,-1,0,0])  y = Pad(a, [0,1,0,0])", LOST_VALUES),
        # The first step may take away more than there is.
        ("a = Slice(x, [3], [9223372036854775807], [0])  y = Pad(a, [0,0,3,0])", None),
        ('a = Pad <mode = "edge"> (x, [0,1,0,0])  y = Pad <mode = "edge"> (a, [0,1,0,0])', None),
        ("a = Slice(x, [0], [8], [1], [2])  y = Pad(a, [0,1,0,0])", None),
    ],
)
def test_leaves_alone(body, reason):
    assert_rejects(PASS, f"g (float[N,8] x) => (float[P,Q] y) {{ {body} }}", reason)


def test_shared_slice_stays():
    graph = """g (float[N,8] x) => (float[N,8] y, float[N,5] a) {
        a = Slice(x, [3], [8], [1])  y = Pad(a, [0,0,0,3]) }"""
    assert_rejects(PASS, graph, HAS_OTHER_CONSUMERS)
