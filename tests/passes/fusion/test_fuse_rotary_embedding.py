from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.passes.fusion.fuse_rotary_embedding import NOT_DOUBLED, NOT_HALVES, SHAPES_DIFFER
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

PASS = "fuse-rotary-embedding"
HEAD = "g (float[B,2,S,8] x, float[B,S,4] f) => (float[B,2,S,8] y)"
SIZES = [{"B": 2, "S": 3}, {"B": 1, "S": 1}]
ANGLES = "d = Concat <axis = -1> (f, f)  c3 = Cos (d)  s3 = Sin (d)  c = Unsqueeze (c3, [1])  s = Unsqueeze (s3, [1])"
CUT = "x1 = Slice (x, [0], [4], [3], [1])  x2 = Slice (x, [4], [9223372036854775807], [3], [1])"
TURN = "n = Neg (x2)  r = Concat <axis = -1> (n, x1)"
SUM = "a = Mul (x, c)  b = Mul (r, s)  y = Add (a, b)"
AFTER = "c = Cos (f)  s = Sin (f)  y = RotaryEmbedding (x, c, s)"


def graph(angles: str = ANGLES, cut: str = CUT, turn: str = TURN, total: str = SUM, head: str = HEAD) -> str:
    return f"{head} {{ {angles} {cut} {turn} {total} }}"


def rewrites(before: str, after: str = f"{HEAD} {{ {AFTER} }}", *, opset: int = 23) -> None:
    assert_rewrites(PASS, before, after, opset=opset, exact=False, sizes=SIZES)


@pytest.mark.parametrize(
    "cut",
    [
        CUT,
        "x1 = Slice (x, [0], [4], [-1])  x2 = Slice (x, [4], [8], [-1])",
        "x1 = Slice (x, [-8], [-4], [3])  x2 = Slice (x, [-4], [100], [3])",
        "x1 = Slice (x, [-100], [4], [3])  x2 = Slice (x, [4], [100], [3])",
        "x1, x2 = Split <axis = -1> (x, [4, 4])",
        "x1, x2 = Split <axis = 3, num_outputs = 2> (x)",
    ],
)
@pytest.mark.parametrize("total", [SUM, "a = Mul (c, x)  b = Mul (s, r)  y = Add (b, a)"])
def test_spellings(cut, total):
    rewrites(graph(cut=cut, total=total))


@pytest.mark.parametrize(
    ("angles", "after"),
    [
        (
            "d = Concat <axis = 2> (f, f)  u = Unsqueeze (d, [1])  c = Cos (u)  s = Sin (u)",
            AFTER,
        ),
        (
            "d = Concat <axis = -1> (f, f)  c3 = Cos (d)  s3 = Sin (d)  c4 = Mul (c3, 1.5)  s4 = Mul (1.5, s3)"
            "  c = Unsqueeze (c4, [-3])  s = Unsqueeze (s4, [1])",
            "c3 = Cos (f)  c = Mul (c3, 1.5)  s3 = Sin (f)  s = Mul (s3, 1.5)  y = RotaryEmbedding (x, c, s)",
        ),
        (
            "d = Concat <axis = -1> (f, f)  c3 = Cos (d)  s3 = Sin (d)  c4 = Unsqueeze (c3, [1])"
            "  s = Unsqueeze (s3, [1])  c = Mul (c4, k)",
            "c3 = Cos (f)  c = Mul (c3, 1.5)  s = Sin (f)  y = RotaryEmbedding (x, c, s)",
        ),
        (
            "h = Cast <to = 11> (f)  d = Concat <axis = -1> (h, h)  c3 = Cos (d)  s3 = Sin (d)"
            "  c4 = Cast <to = 1> (c3)  s4 = Cast <to = 1> (s3)  c = Unsqueeze (c4, [1])  s = Unsqueeze (s4, [1])",
            "h = Cast <to = 11> (f)  c3 = Cos (h)  c = Cast <to = 1> (c3)  s3 = Sin (h)  s = Cast <to = 1> (s3)"
            "  y = RotaryEmbedding (x, c, s)",
        ),
    ],
)
def test_spellings_of_the_angles(angles, after):
    number = " <float[1,1,1,1] k = {1.5}>" if " k)" in angles else ""
    head = HEAD + number
    rewrites(graph(angles, head=head), f"{head} {{ {after} }}")


def test_raises_the_opset():
    after = f"{HEAD} {{ {AFTER} }}"
    assert_rewrites(PASS, graph(), after, opset=17, raised_to=23, exact=False, sizes=SIZES)


@pytest.mark.parametrize(
    "cut",
    [
        "x1 = Slice (x, [0], [3], [3])  x2 = Slice (x, [3], [8], [3])",
        "x1 = Slice (x, [4], [8], [3])  x2 = Slice (x, [0], [4], [3])",
        "x2, x1 = Split <axis = -1> (x, [4, 4])",
        "x1, x2 = Split <axis = -1> (x, [3, 5])",
        "x1 = Slice (x, [0], [8], [3], [2])  x2 = Slice (x, [1], [8], [3], [2])",
        "x1 = Slice (x, [0], [4], [3])  x2 = Slice (x, [-12], [4], [3])",
    ],
)
def test_not_the_two_halves(cut):
    reason = None if cut.startswith("x2, x1") else NOT_HALVES
    assert_rejects(PASS, graph(cut=cut), reason, opset=23)


@pytest.mark.parametrize(
    "turn",
    [
        "n = Neg (x1)  r = Concat <axis = -1> (n, x2)",
        "n = Neg (x2)  r = Concat <axis = -1> (x1, n)",
        "n = Neg (x2)  r = Concat <axis = -1> (n, n)",
        "n = Abs (x2)  r = Concat <axis = -1> (n, x1)",
    ],
)
def test_other_rotations(turn):
    assert_rejects(PASS, graph(turn=turn), opset=23)


def test_interleaved_halves_of_another_axis():
    head = "g (float[B,2,8,8] x, float[B,8,4] f) => (float[B,2,8,8] y)"
    cut = "x1 = Slice (x, [0], [4], [2])  x2 = Slice (x, [4], [8], [2])"
    turn = "n = Neg (x2)  r = Concat <axis = 2> (n, x1)"
    assert_rejects(PASS, graph(cut=cut, turn=turn, head=head), opset=23)


@pytest.mark.parametrize(
    "angles",
    [
        "d = Concat <axis = -1> (f, g0)  c3 = Cos (d)  s3 = Sin (d)  c = Unsqueeze (c3, [1])  s = Unsqueeze (s3, [1])",
        "c3 = Cos (h)  s3 = Sin (h)  c = Unsqueeze (c3, [1])  s = Unsqueeze (s3, [1])",
        "d = Concat <axis = -1> (f, f)  c3 = Cos (d)  s3 = Mul (d, h)  c = Unsqueeze (c3, [1])  s = Unsqueeze (s3, [1])",
        # Each half has noise of its own.
        "d = Concat <axis = -1> (f, f)  e = Abs (d)  i = Clip (e, 0.0, 1.0)  j = Bernoulli (i)"
        "  c = Unsqueeze (j, [1])  s = Unsqueeze (d, [1])",
        "d = Concat <axis = -1> (f, f)  c3 = Softmax (d)  s3 = Sin (d)  c = Unsqueeze (c3, [1])  s = Unsqueeze (s3, [1])",
    ],
)
def test_halves_of_the_angles_that_may_differ(angles):
    head = HEAD.replace(") =>", ", float[B,S,4] g0, float[B,S,8] h) =>")
    assert_rejects(PASS, graph(angles, head=head), NOT_DOUBLED, opset=23)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float[B,S,4] f", "float[C,S,4] f"),
        ("float[B,S,4] f", "float[2,S,4] f"),
        ("float[B,S,4] f", "float[B,1,4] f"),
        ("float[B,2,S,8] x", "float[1,2,S,8] x"),
        ("float[B,S,4] f", "float[B,S,W] f"),
    ],
)
def test_angles_of_another_batch_or_length(old, new):
    assert_rejects(PASS, graph(head=HEAD.replace(old, new)), SHAPES_DIFFER, opset=23)


def test_angles_that_all_batch_items_share():
    head = HEAD.replace("float[B,S,4] f", "float[1,S,4] f")
    count = "b = Shape <start = 0, end = 1> (x)  e = Concat <axis = 0> (b, [1, 1])"
    after = (
        f"c1 = Cos (f)  s1 = Sin (f)  {count}  c = Expand (c1, e)  {count.replace('b =', 'b2 =').replace('(b,', '(b2,').replace('e =', 'e2 =')}"
        "  s = Expand (s1, e2)  y = RotaryEmbedding (x, c, s)"
    )
    rewrites(graph(head=head), f"{head} {{ {after} }}")
    static = head.replace("[B,2", "[3,2")
    after = "c1 = Cos (f)  s1 = Sin (f)  c = Expand (c1, [3, 1, 1])  s = Expand (s1, [3, 1, 1])"
    rewrites(graph(head=static), f"{static} {{ {after} y = RotaryEmbedding (x, c, s) }}")


def test_angles_lifted_elsewhere():
    angles = ANGLES.replace("(c3, [1])", "(c3, [2])").replace("(s3, [1])", "(s3, [2])")
    head = HEAD.replace("B,2,S,8] x", "B,S,2,8] x").replace("B,2,S,8] y", "B,S,2,8] y")
    assert_rejects(PASS, graph(angles, head=head), NOT_DOUBLED, opset=23)


@pytest.mark.parametrize("value", ["a", "b", "r", "n"])
def test_inner_value_has_another_consumer(value):
    width = "4" if value == "n" else "8"
    head = HEAD.replace(" y)", f" y, float[B,2,S,{width}] z)")
    assert_rejects(PASS, graph(total=f"{SUM} z = Exp ({value})", head=head), HAS_OTHER_CONSUMERS, opset=23)


def test_rank_three():
    head = "g (float[B,S,8] x, float[B,S,4] f) => (float[B,S,8] y)"
    angles = "d = Concat <axis = -1> (f, f)  c = Cos (d)  s = Sin (d)"
    cut = CUT.replace("[3]", "[2]")
    assert_rejects(PASS, graph(angles, cut, head=head), opset=23)


@settings(max_examples=25)
@given(st.data())
def test_random_configurations(data):
    batch, heads, length, half = (data.draw(st.integers(1, 4)) for _ in range(4))
    b, n, s = (
        data.draw(st.sampled_from([str(size), name]))
        for size, name in ((batch, "B"), (heads, "H"), (length, "S"))
    )
    head = (
        f"g (float[{b},{n},{s},{2 * half}] x, float[{b},{s},{half}] f) => (float[{b},{n},{s},{2 * half}] y)"
    )
    cut = f"x1 = Slice (x, [0], [{half}], [3])  x2 = Slice (x, [{half}], [100], [3])"
    model = model_from_text(graph(cut=cut, head=head), opset=23)
    original = model.clone()
    run_pass(PASS, model)
    assert operators_of(model) == ["Cos", "Sin", "RotaryEmbedding"]
    sizes = {"B": batch, "H": heads, "S": length}
    assert_same_outputs(original, model, random_feeds(original, sizes), exact=False)
