import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-equal-sizes"


def test_sizes_computed_in_two_ways_become_one():
    assert_rewrites(
        f"({PASS},remove-dead-code)",
        before="""g (float[N,4] x) => (float[M] a, float[M] b) {
            s = Shape(x)  n = Gather(s, 0)  m = Add(n, 2)
            p = Pad(x, [0, 0, 2, 0])  s2 = Shape(p)  m2 = Gather(s2, 0)
            f = Cast <to = 1> (m)  a = Range(0.0, f, 1.0)
            f2 = Cast <to = 1> (m2)  r = Range(0.0, f2, 1.0)  b = Neg(r) }""",
        after="""g (float[N,4] x) => (float[M] a, float[M] b) {
            s = Shape(x)  n = Gather(s, 0)  m = Add(n, 2)
            f = Cast <to = 1> (m)  a = Range(0.0, f, 1.0)
            f2 = Cast <to = 1> (m)  r = Range(0.0, f2, 1.0)  b = Neg(r) }""",
        sizes=[{"N": 0}, {"N": 1}, {"N": 5}],
    )


@pytest.mark.parametrize(
    "second",
    [
        "t = Shape(y)  m = Gather(t, 0)",  # another symbol
        "m = Gather(s, 1)",  # a number, which folding takes
        "t = Gather(s, [0])  m = Squeeze(t, [0])  u = Cast <to = 6> (m)",  # the same, but see below
    ],
)
def test_other_contents_stay(second):
    text = (
        f"g (float[N,4] x, float[M,4] y) => (int64 n, int64 m) {{ s = Shape(x)  n = Gather(s, 0)  {second} }}"
    )
    if "Cast" in second:
        text = text.replace("int64 m)", "int32 u)").replace(
            "m = Squeeze(t, [0])  u = Cast <to = 6> (m)", "w = Cast <to = 6> (t)  u = Squeeze(w, [0])"
        )
    assert_rejects(PASS, text)


def test_another_rank_is_another_value():
    assert_rejects(
        PASS,
        "g (float[N,4] x) => (int64 n, int64[1] m) { s = Shape(x)  n = Gather(s, 0)  m = Gather(s, [0]) }",
    )


def test_in_a_body():
    body = """y = If (c) <then_branch = t () => (int64[1] u) { s = Shape(x)  n = Gather(s, [0])  %s  u = Add(n, m) },
                      else_branch = e () => (int64[1] w) { w = Constant <value = int64[1] {0}> () }>"""
    assert_rewrites(
        f"({PASS},remove-dead-code)",
        before="g (bool c, float[N,4] x) => (int64[1] y) { "
        + body % "m = Shape <start = 0, end = 1> (x)"
        + " }",
        after="g (bool c, float[N,4] x) => (int64[1] y) { "
        + (body % "").replace("Add(n, m)", "Add(n, n)")
        + " }",
    )


def test_a_size_that_went_with_its_only_consumer_is_not_used_again():
    assert_rewrites(
        f"({PASS},remove-dead-code)",
        before="""g (float[N,4] x) => (int64 a, int64 b, int64 c) {
            s = Shape(x)  n = Gather(s, 0)  first = Add(n, 3)
            t = Shape(x)  m = Gather(t, 0)  plus = Add(m, 1)  second = Add(plus, 2)
            a = Neg(first)  b = Abs(second)  again = Add(n, 1)  c = Sign(again) }""",
        after="""g (float[N,4] x) => (int64 a, int64 b, int64 c) {
            s = Shape(x)  n = Gather(s, 0)  first = Add(n, 3)
            a = Neg(first)  b = Abs(first)  again = Add(n, 1)  c = Sign(again) }""",
        sizes=[{"N": 0}, {"N": 5}],
    )
