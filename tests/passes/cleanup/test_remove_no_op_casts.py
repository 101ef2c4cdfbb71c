import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-no-op-casts"


def test_cast_to_the_same_type_is_removed():
    assert_rewrites(
        PASS,
        before="g (float[N] x) => (float[N] y) { a = Cast <to = 1> (x)  y = Exp(a) }",
        after="g (float[N] x) => (float[N] y) { y = Exp(x) }",
    )


def test_cast_to_another_type_stays():
    assert_rejects(PASS, "g (float[N] x) => (float16[N] y) { y = Cast <to = 10> (x) }")


def test_cast_of_an_unknown_type_stays():
    assert_rejects(
        PASS,
        "g (float[N] x) => (float[N] y) { a = my.Thing(x)  y = Cast <to = 1> (a) }",
        domains={"my": 1},
    )


@pytest.mark.parametrize(("kind", "code"), [("float16", 10), ("int64", 7), ("double", 11)])
def test_cast_like_a_value_of_known_type_becomes_cast(kind, code):
    assert_rewrites(
        PASS,
        before=f"g (float[N] x, {kind} t) => ({kind}[N] y) {{ y = CastLike(x, t) }}",
        after=f"g (float[N] x, {kind} t) => ({kind}[N] y) {{ y = Cast <to = {code}> (x) }}",
    )


def test_cast_like_the_same_type_is_removed():
    assert_rewrites(
        PASS,
        before="g (float[N] x, float t) => (float[N] y) { a = CastLike(x, t)  y = Exp(a) }",
        after="g (float[N] x, float t) => (float[N] y) { y = Exp(x) }",
    )


def test_cast_like_keeps_its_saturation():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, float8e4m3fn t) => (float[N] y) {
            a = CastLike <saturate = 0> (x, t)  y = Cast <to = 1> (a)
        }""",
        after="""g (float[N] x, float8e4m3fn t) => (float[N] y) {
            a = Cast <saturate = 0, to = 17> (x)  y = Cast <to = 1> (a)
        }""",
        opset=19,
        runs=False,
    )


def test_cast_like_a_value_of_unknown_type_stays():
    assert_rejects(
        PASS,
        "g (float[N] x) => (float[N] y) { t = my.Thing(x)  y = CastLike(x, t) }",
        domains={"my": 1},
    )
