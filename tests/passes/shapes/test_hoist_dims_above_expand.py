"""Leading dims of 1 above an Expand."""

import pytest

from graphopt.passes.shapes.hoist_dims_above_expand import OTHER_DIMS
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "hoist-dims-above-expand"
SIZES = [{"H": 2, "W": 3}, {"H": 1, "W": 1}, {"H": 0, "W": 3}]


def test_a_grid_of_positions():
    assert_rewrites(
        PASS,
        before="""g (float[H] x, float[H,W] z) => (float[1,H,W] y) {
            a = Unsqueeze(x, [1])  t = Shape(z)  b = Expand(a, t)  y = Unsqueeze(b, [0]) }""",
        after="""g (float[H] x, float[H,W] z) => (float[1,H,W] y) {
            a = Unsqueeze(x, [0,2])  t = Shape(z)  y = Expand(a, t) }""",
        sizes=SIZES,
    )


def test_after_another_operator():
    assert_rewrites(
        PASS,
        before="""g (float[W] x, float[H,W] z) => (float[1,H,W] y) {
            b = Relu(x)  c = Reshape(b, [1,-1])  t = Shape(z)  d = Expand(c, t)
            y = Unsqueeze(d, [0]) }""",
        after="""g (float[W] x, float[H,W] z) => (float[1,H,W] y) {
            b = Relu(x)  c = Unsqueeze(b, [0,1])  t = Shape(z)  y = Expand(c, t) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            """g (float[H] x, float[H,W] z) => (float[H,1,W] y) {
                a = Unsqueeze(x, [1])  t = Shape(z)  b = Expand(a, t)  y = Unsqueeze(b, [1]) }""",
            OTHER_DIMS,
        ),
        (
            """g (float[H] x, float[H,W] z) => (float[1,H,W] y, float[H,W] r) {
                a = Unsqueeze(x, [1])  t = Shape(z)  b = Expand(a, t)  y = Unsqueeze(b, [0])  r = Abs(b) }""",
            HAS_OTHER_CONSUMERS,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
