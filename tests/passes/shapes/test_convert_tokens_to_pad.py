"""Class tokens as rows of zeros."""

import pytest

from graphopt.passes.shapes.convert_tokens_to_pad import NEGATIVE_ZERO, NOT_ROWS, OTHER_SIZES
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-tokens-to-pad"
SIZES = [{"B": 2}, {"B": 1}, {"B": 0}]

GRAPH = """g (float[B,2,2] x) => (float[B,3,2] y) {{
    token = Constant <value = float[1,1,2] {{{token}}}> ()
    position = Constant <value = float[1,{rows},2] {{{position}}}> ()
    s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, [1,1])
    e = Expand(token, t)  c = Concat <axis = 1> ({parts})  y = Add(c, position) }}"""


def test_token_before():
    assert_rewrites(
        PASS,
        before=GRAPH.format(token="0.5, 1.5", rows=3, position="1, 2, 3, 4, 5, 6", parts="e, x"),
        after="""g (float[B,2,2] x) => (float[B,3,2] y) {
            p = Constant <value = float[1,3,2] {1.5, 3.5, 3, 4, 5, 6}> ()
            d = Pad(x, [0,1,0,0,0,0])  y = Add(d, p) }""",
        sizes=SIZES,
    )


def test_tokens_on_both_sides_and_one_row_for_all():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,2] x) => (float[B,4,2] y) {
            a = Constant <value = float[2] {0.5, 1.5}> ()  b = Constant <value = float[1,1,1] {7}> ()
            position = Constant <value = float[2] {1, 2}> ()
            s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, [1,1])
            u = Concat <axis = 0> (s, [1,2])
            e = Expand(a, t)  f = Expand(b, u)  c = Concat <axis = 1> (e, x, f)  y = Add(position, c) }""",
        after="""g (float[B,2,2] x) => (float[B,4,2] y) {
            p = Constant <value = float[1,4,2] {1.5, 3.5, 1, 2, 1, 2, 8, 9}> ()
            d = Pad(x, [0,1,0,0,1,0])  y = Add(d, p) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (GRAPH.format(token="-1, -0.0", rows=3, position="1, -0.0, 3, 4, 5, 6", parts="e, x"), NEGATIVE_ZERO),
        (GRAPH.format(token="1, 2", rows=3, position="1, 2, 3, 4, 5, 6", parts="x, e, x"), NOT_ROWS),
        (
            """g (float[B,2,2] x, float[1,1,2] token) => (float[B,3,2] y) {
                s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, [1,1])
                e = Expand(token, t)  c = Concat <axis = 1> (e, x)  y = Add(c, [1.0,2.0]) }""",
            NOT_ROWS,
        ),
        (
            """g (float[B,2,2] x) => (float[1,B,3,2] y) {
                s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, [1,2])
                token = Constant <value = float[1,1,2] {1, 2}> ()
                position = Constant <value = float[1,1,3,2] {1, 2, 3, 4, 5, 6}> ()
                e = Expand(token, t)  c = Concat <axis = 1> (e, x)  y = Add(c, position) }""",
            OTHER_SIZES,
        ),
        (
            """g (float[B,2,2] x) => (float[B,3,2] y, float[B,3,2] c) {
                s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, [1,1])
                token = Constant <value = float[1,1,2] {1, 2}> ()
                e = Expand(token, t)  c = Concat <axis = 1> (e, x)  y = Add(c, [1.0,2.0]) }""",
            HAS_OTHER_CONSUMERS,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
