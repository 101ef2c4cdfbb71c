import pytest

from graphopt.rewriting import WOULD_NEED_IDENTITY
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-identity"


def test_identity_is_removed():
    assert_rewrites(
        PASS,
        before="g (float[N] x) => (float[N] y) { a = Identity(x)  y = Exp(a) }",
        after="g (float[N] x) => (float[N] y) { y = Exp(x) }",
        sizes=[{"N": 0}, {"N": 3}],
    )


def test_output_keeps_its_name():
    assert_rewrites(
        PASS,
        before="g (float[N] x) => (float[N] y) { a = Exp(x)  y = Identity(a) }",
        after="g (float[N] x) => (float[N] y) { y = Exp(x) }",
    )


@pytest.mark.parametrize("operator", ["Sum", "Max", "Min", "Mean", "Concat <axis = 0>"])
def test_variadic_operator_with_one_input_is_removed(operator):
    name, _, attributes = operator.partition(" ")
    assert_rewrites(
        PASS,
        before=f"g (float[2] x) => (float[2] y) {{ a = {name} {attributes} (x)  y = Exp(a) }}",
        after="g (float[2] x) => (float[2] y) { y = Exp(x) }",
    )


def test_variadic_operator_with_two_inputs_stays():
    assert_rejects(PASS, "g (float[2] x) => (float[2] y) { y = Max(x, x) }")


@pytest.mark.parametrize(
    "graph",
    [
        "g (float[N] x) => (float[N] y) { y = Identity(x) }",
        "g (float[N] x) => (float[N] y, float[N] z) { y = Exp(x)  z = Identity(y) }",
    ],
)
def test_identity_between_two_names_of_the_signature_stays(graph):
    assert_rejects(PASS, graph, WOULD_NEED_IDENTITY)


def test_identity_that_hands_a_captured_value_out_of_a_branch_stays():
    assert_rejects(
        PASS,
        """g (float[N] x, bool c) => (float[N] y) {
            a = Exp(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Identity(a) },
                else_branch = e () => (float[N] q) { q = Neg(a) }
            >
        }""",
        WOULD_NEED_IDENTITY,
    )


def test_value_captured_by_a_body_follows():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, bool c) => (float[N] y) {
            a = Identity(x)
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Exp(a) },
                else_branch = e () => (float[N] q) { b = Identity(a)  q = Neg(b) }
            >
        }""",
        after="""g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { p = Exp(x) },
                else_branch = e () => (float[N] q) { q = Neg(x) }
            >
        }""",
    )
