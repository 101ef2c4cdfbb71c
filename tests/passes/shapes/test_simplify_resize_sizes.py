"""Sizes of a Resize as constants."""

import pytest

from graphopt.passes.shapes.simplify_resize_sizes import NEEDS_RUN, NO_SIZES, OTHER_FORM
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "simplify-resize-sizes"

GRAPH = """g (float[B,3,4,4] x) => (float[B,3,{h},{w}] y) {{
    s = Shape(x)  b = Slice(s, [0], [2])  t = Concat <axis = 0> (b, {tail})
    y = Resize <{attributes}> (x, , , t) }}"""


@pytest.mark.parametrize(
    "attributes",
    [
        'mode = "nearest"',
        'mode = "linear", coordinate_transformation_mode = "align_corners"',
        'mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel"',
    ],
)
def test_only_the_axes_that_change(attributes):
    assert_rewrites(
        PASS,
        before=GRAPH.format(h=7, w=2, tail="[7,2]", attributes=attributes),
        after=f"""g (float[B,3,4,4] x) => (float[B,3,7,2] y) {{
            y = Resize <{attributes}, axes = [2,3]> (x, , , [7,2]) }}""",
        sizes=[{"B": 2}, {"B": 1}],
    )


def test_the_opset_is_raised():
    assert_rewrites(
        PASS,
        before=GRAPH.format(h=8, w=4, tail="[8,4]", attributes='mode = "nearest"'),
        after="""g (float[B,3,4,4] x) => (float[B,3,8,4] y) {
            y = Resize <mode = "nearest", axes = [2]> (x, , , [8]) }""",
        opset=13,
        raised_to=18,
        sizes=[{"B": 2}, {"B": 1}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("g (float[B,3,4,4] x) => (float[2,3,8,8] y) { y = Resize(x, , , [2,3,8,8]) }", NO_SIZES),
        ("g (float[B,3,4,4] x) => (float[B,3,8,8] y) { y = Resize(x, , [1.0,1.0,2.0,2.0]) }", NO_SIZES),
        (
            GRAPH.format(
                h=7, w=7, tail="[7,7]", attributes='mode = "linear", keep_aspect_ratio_policy = "not_larger"'
            ),
            OTHER_FORM,
        ),
        (
            """g (float[B,3,4,4] x, float[P,Q] z) => (float[B,3,P,Q] y) {
                s = Shape(x)  b = Slice(s, [0], [2])  r = Shape(z)  t = Concat <axis = 0> (b, r)
                y = Resize(x, , , t) }""",
            NEEDS_RUN,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
