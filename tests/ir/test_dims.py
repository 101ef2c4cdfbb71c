"""Symbolic dims: canonical, and equal in value to what was asked for."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.dims import (
    Expr,
    at_most,
    broadcast,
    cut_limits,
    exact_quotient,
    floordiv,
    high,
    if_not_empty,
    low,
    maximum,
    minimum,
    mod,
    product,
    quotient,
    substitute,
    symbol,
    symbols,
)

a, b, c = symbol("a"), symbol("b"), symbol("c", low=1)
signed = symbol("signed", low=None)
NAMES = {"a": (0, 12), "b": (0, 12), "c": (1, 12), "signed": (-12, 12)}


def plain_broadcast(x, y):
    if x == y or y == 1:
        return x
    if x == 1:
        return y
    raise ValueError("dims do not broadcast")


OPERATIONS = {
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "sub": (lambda x, y: x - y, lambda x, y: x - y),
    "mul": (lambda x, y: x * y, lambda x, y: x * y),
    "floordiv": (floordiv, lambda x, y: x // y),
    "mod": (mod, lambda x, y: x % y),
    "min": (minimum, min),
    "max": (maximum, max),
    "broadcast": (broadcast, plain_broadcast),
}
LEAVES = st.one_of(st.sampled_from(sorted(NAMES)), st.integers(-9, 9))
TREES = st.recursive(
    LEAVES, lambda inner: st.tuples(st.sampled_from(sorted(OPERATIONS)), inner, inner), max_leaves=9
)
VALUES = st.fixed_dictionaries({name: st.integers(*ends) for name, ends in NAMES.items()})
ATOMS = {"a": a, "b": b, "c": c, "signed": signed}


def build(tree):
    if isinstance(tree, tuple):
        return OPERATIONS[tree[0]][0](build(tree[1]), build(tree[2]))
    return ATOMS.get(tree, tree)


def evaluate(tree, values):
    if isinstance(tree, tuple):
        return OPERATIONS[tree[0]][1](evaluate(tree[1], values), evaluate(tree[2], values))
    return values.get(tree, tree)


@given(TREES, st.lists(VALUES, min_size=1, max_size=8))
def test_an_expression_has_the_value_of_what_it_was_built_from(tree, points):
    try:
        found = build(tree)
    except (ZeroDivisionError, ValueError):
        return  # numbers alone that are not defined
    for values in points:
        try:
            expected = evaluate(tree, values)
        except (ZeroDivisionError, ValueError):
            continue  # not defined here: anything may stand for it
        assert substitute(found, values) == expected
        assert (low(found) is None or low(found) <= expected) and (
            high(found) is None or expected <= high(found)
        )


@given(TREES, TREES)
def test_sums_and_products_do_not_depend_on_their_order(x, y):
    try:
        left, right = build(x), build(y)
    except (ZeroDivisionError, ValueError):
        return
    assert left + right == right + left
    assert left * right == right * left
    assert (left + right) - right == left
    assert (left - right) * 3 == left * 3 - right * 3
    assert minimum(left, right) == minimum(right, left)
    assert maximum(left, right) == maximum(right, left)


@given(st.permutations([a, b, c, a * 2, broadcast(a, b)]))
def test_broadcasting_is_commutative_associative_and_idempotent(order):
    total = 1
    for dim in order:
        total = broadcast(total, dim)
    assert total is broadcast(broadcast(a * 2, c), broadcast(b, a))


@pytest.mark.parametrize(
    ("dim", "wanted"),
    [
        (broadcast(a, minimum(a, b)), a),
        (broadcast(a + b, minimum(a + b, c)), a + b),
        (broadcast(broadcast(a, minimum(a, b)), c), broadcast(a, c)),
        (broadcast(a, minimum(b, c)), broadcast(a, minimum(b, c))),
        (broadcast(a, b), broadcast(a, b)),
        (minimum(a, b), minimum(a, b)),
        (7, 7),
    ],
)
def test_what_is_cut_to_a_length_broadcasts_to_it_where_nothing_is_empty(dim, wanted):
    assert if_not_empty(dim) is wanted


@given(st.integers(1, 5), st.integers(1, 5))
def test_where_nothing_is_empty_a_legal_broadcast_keeps_its_value(x, y):
    cut = min(x, y)
    if cut in (1, x) or x == 1:
        assert substitute(if_not_empty(broadcast(a, minimum(a, b))), {"a": x, "b": y}) == max(x, cut)


@given(TREES, VALUES, VALUES)
def test_substituting_twice_is_substituting_once(tree, first, second):
    try:
        dim = build(tree)
        halfway = substitute(dim, {"a": first["a"]})
        whole = substitute(dim, {**second, "a": first["a"]})
    except (ZeroDivisionError, ValueError):
        return
    assert substitute(halfway, second) == whole


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (b * a + 2, "a*b + 2"),
        (2 - a * a, "-a*a + 2"),
        (floordiv(a + 1, 2) * b, "((a + 1)//2)*b"),
        (floordiv(floordiv(a, b), 3), "(a//b)//3"),
        (floordiv(a, 3) - 1, "a//3 - 1"),
        (minimum(a, 5), "min(5, a)"),
        (maximum(a - 5, 0), "max(5, a) - 5"),
        (broadcast(a, b), "broadcast(a, b)"),
        (a * 1, "a"),
    ],
)
def test_printed(dim, text):
    assert str(dim) == text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (a - a, 0),
        (a * 0, 0),
        ((a + b) * (a - b), a * a - b * b),
        # division
        (floordiv(a * 6, 3), a * 2),
        (floordiv(a * 5, 2), a * 2 + floordiv(a, 2)),
        (floordiv(a * 2 + 1, 2), a),
        (floordiv(a * 2 + 3, 4), floordiv(a + 1, 2)),
        (floordiv(floordiv(a + 1, 2) + 1, 2), floordiv(a + 3, 4)),
        (floordiv(floordiv(a, 2) + b, 3), floordiv(a + b * 2, 6)),
        (-floordiv(-a, 4), floordiv(a + 3, 4)),
        (floordiv(a * c, c), a),
        (floordiv(a * c + b, c), a + floordiv(b, c)),
        (floordiv((a + 1) * (b + 1), b + 1), a + 1),
        (floordiv(a * c * 4, c * 2), a * 2),
        (floordiv(minimum(a, 3), 4), 0),
        (floordiv(a, -2), floordiv(-a, 2)),
        # rests; padding to a multiple of 8, as windowed attention does
        (mod(a * 4, 4), 0),
        (mod(a, 4) + floordiv(a, 4) * 4, a),
        (mod(mod(a, 8), 8), mod(a, 8)),
        (mod(8 - mod(a, 8), 8), mod(-a, 8)),
        (floordiv(a + mod(-a, 8), 8), floordiv(a + 7, 8)),
        # order
        (minimum(a, a + 1), a),
        (maximum(a, 0), a),
        (minimum(maximum(a, 0), a + b), a),
        (minimum(a * 2, b * 2), minimum(a, b) * 2),
        (minimum(a + 3, b + 5) - 3, minimum(a, b + 2)),
        (maximum(0, minimum(a, b)), minimum(a, b)),
        (maximum(a - floordiv(a, 2), 0), a - floordiv(a, 2)),
        # broadcasting
        (broadcast(a, 1), a),
        (broadcast(a, 7), 7),
        (broadcast(a, 0), 0),
        (broadcast(a, b + 2), b + 2),
        (broadcast(minimum(512, a), a), a),
        (product((a, 2, b)), a * b * 2),
    ],
)
def test_canonical(found, expected):
    assert found is expected or (isinstance(found, int) and found == expected)


def test_what_may_be_zero_is_not_cancelled():
    assert floordiv(a * b, b) is not a
    assert quotient(a * b, b) is a  # reached with b >= 1 only
    assert quotient(a * b * 12, b * 4) is a * 3
    assert exact_quotient(a * b, b) is a


def test_maximum_is_not_broadcasting():
    with pytest.raises(ValueError, match="do not broadcast"):
        broadcast(2, 3)
    assert substitute(broadcast(a, b), {"a": 1, "b": 0}) == 0
    assert substitute(maximum(a, b), {"a": 1, "b": 0}) == 1


def test_a_minimum_of_one_is_kept_in_a_broadcast():
    # min(1, a) and a = 5 broadcast to 5, but a = 0 beside 1 would be 0.
    assert broadcast(minimum(1, a), b) is not b
    assert cut_limits(minimum(512, a), (minimum(512, a), a)) == (512 - a,)


@given(TREES, TREES)
def test_exact_quotients_multiply_back(x, y):
    try:
        left, right = build(x), build(y)
    except (ZeroDivisionError, ValueError):
        return
    found = exact_quotient(left, right)
    assert found is None or found * right == left
    if right != 0:
        assert exact_quotient(left * right, right) == left


def test_an_expression_is_never_constant_and_constants_are_plain():
    assert type(a - a + 3) is int
    assert isinstance(a + 3, Expr)
    assert symbol("one", 1, 1) == 1


def test_ranges_tell_symbols_apart():
    assert symbol("a") is a
    assert symbol("a", 1) is not a
    assert symbol("a", 1) + a == a + symbol("a", 1)


def test_bounds():
    small = symbol("small", 1, 8)
    assert (low(small * 2 + 3), high(small * 2 + 3)) == (5, 19)
    assert (low(a - b), high(a - b)) == (None, None)
    assert (low(mod(a, 4)), high(mod(a, 4))) == (0, 3)
    assert (low(a - floordiv(a, 2)), low(a - minimum(a, b))) == (0, 0)
    assert (low(floordiv(a, c)), high(floordiv(small, c))) == (0, 8)
    assert low(a - floordiv(a, c)) == 0
    assert at_most(minimum(a, b), a)
    assert not at_most(a, minimum(a, b))


def test_names_of_symbols():
    assert symbols(floordiv(a * b, c) + minimum(signed, 3)) == ("a", "b", "c", "signed")
    assert symbols(7) == ()


def test_expressions_no_longer_used_are_forgotten():
    from graphopt.ir.dims import expression

    before = len(expression._expressions)
    made = [symbol(f"gone{i}", high=99) + i for i in range(200)]
    assert len(expression._expressions) >= before + 200
    del made
    for cached in (expression._sum, expression._product):
        cached.cache_clear()
    gc.collect()
    assert len(expression._expressions) < before + 200


def test_copies_and_pickles_are_the_same_object():
    dim = floordiv(a * b + 1, 3) + minimum(a, 4)
    assert copy.deepcopy(dim) is dim
    assert pickle.loads(pickle.dumps(dim)) is dim
