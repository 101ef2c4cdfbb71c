import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-if-to-select"


def choice(then: str, other: str, kind: str = "bool") -> str:
    return f"""g (bool c, float a, float b) => ({kind} y) {{
        y = If (c) <then_branch = t () => ({kind} u) {{ u = {then} }}, else_branch = e () => ({kind} w) {{ w = {other} }}> }}"""


def result(body: str, kind: str = "bool") -> str:
    return f"g (bool c, float a, float b) => ({kind} y) {{ {body} }}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (choice("Less(a, b)", "Constant <value = bool {0}> ()"), result("l = Less(a, b)  y = And(c, l)")),
        (choice("Constant <value = bool {1}> ()", "Less(a, b)"), result("l = Less(a, b)  y = Or(c, l)")),
        (choice("Exp(a)", "Neg(b)", "float"), result("l = Exp(a)  r = Neg(b)  y = Where(c, l, r)", "float")),
    ],
)
def test_tiny_branches_are_computed_both(before, after):
    assert_rewrites(PASS, before=before, after=after)


def test_the_condition_itself_is_false_where_the_else_branch_gives_it():
    text = """g (bool p, float a, float b) => (bool y) {
        c = Not(p)
        y = If (c) <then_branch = t () => (bool u) { u = Less(a, b) },
                    else_branch = e () => (bool w) { w = Identity(c) }> }"""
    assert_rewrites(
        f"({PASS},remove-dead-code)",
        before=text,
        after="g (bool p, float a, float b) => (bool y) { c = Not(p)  l = Less(a, b)  y = And(c, l) }",
    )


def test_a_choice_of_bools_that_is_no_and_stays():
    assert_rejects(PASS, choice("Less(a, b)", "Less(b, a)"))


def test_long_branches_stay():
    text = choice("Exp(a)", "Neg(b)", "float").replace(
        "u = Exp(a)", "p = Exp(a) q = Abs(p) r = Neg(q) u = Relu(r)"
    )
    assert_rejects(PASS, text)


def test_large_values_stay():
    text = """g (bool c, float[N] a) => (float[N] y) {
        y = If (c) <then_branch = t () => (float[N] u) { u = Exp(a) }, else_branch = e () => (float[N] w) { w = Neg(a) }> }"""
    assert_rejects(PASS, text)


def test_branches_that_can_fail_stay():
    text = """g (bool c, float[3] a, int64 n) => (float y) {
        y = If (c) <then_branch = t () => (float u) { u = Gather(a, n) },
                    else_branch = e () => (float w) { w = Constant <value = float {0}> () }> }"""
    assert_rejects(PASS, text)
