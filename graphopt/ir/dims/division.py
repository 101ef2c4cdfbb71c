"""FLOORDIV, MOD and exact quotients."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

from graphopt.ir.dims.bounds import at_most, high, low
from graphopt.ir.dims.expression import (
    CACHED_RESULTS,
    Atom,
    Dim,
    Expr,
    Kind,
    Monomial,
    atom,
    expression,
    of_atom,
    terms_of,
)

__all__ = ["exact_quotient", "floordiv", "mod", "quotient"]


def floordiv(a: Dim, b: Dim) -> Dim:
    """a divided by b, rounded down, as Python's //.

    x*y // y is x only where y is proven not to be 0.

    Raises:
        ZeroDivisionError: b is the number 0.
    """
    if type(b) is int:
        if b == 1:
            return a
        if type(a) is int:
            return a // b
        return _by_number(a, b) if b > 0 else _by_number(-a, -b) if b < 0 else 1 // 0
    return _by_expression(a, b, False)


def quotient(a: Dim, b: Dim) -> Dim:
    """a // b at a place that a legal program reaches only with b >= 1, so x*y // y is x."""
    return floordiv(a, b) if type(b) is int else _by_expression(a, b, True)


def mod(a: Dim, b: Dim) -> Dim:
    """The rest of `floordiv`: it has the sign of b, as Python's %. Written as a - b * (a // b)."""
    return a - b * floordiv(a, b)


def exact_quotient(a: Dim, b: Dim) -> Dim | None:
    """q with q * b = a whatever the values of the symbols; None where there is no such polynomial.

    It is the only quotient wherever b is not 0; where b may be 0 the caller must know better.
    """
    if a is b:
        return 1
    if isinstance(b, int):
        if b == 0:
            return None
        if isinstance(a, int):
            return a // b if a % b == 0 else None
        if any(weight % b for _, weight in a.terms):
            return None
        return expression({monomial: weight // b for monomial, weight in a.terms})
    return _polynomial_quotient(a, b)


@lru_cache(CACHED_RESULTS)
def _polynomial_quotient(a: Dim, b: Expr) -> Dim | None:
    """Long division by the leading term in graded lexicographic order; exact or None."""
    leading, leading_weight = min(b.terms, key=_degree_order)
    found: Dim = 0
    while a != 0:
        monomial, weight = min(terms_of(a), key=_degree_order)
        rest = _without(monomial, leading)
        if rest is None or weight % leading_weight:
            return None
        part = expression({rest: weight // leading_weight})
        found = found + part
        a = a - part * b
    return found


def _degree_order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return (-len(term[0]), [factor.key for factor in term[0]])


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    """The monomial without the factors of another; None where one is missing."""
    rest = list(monomial)
    for factor in divisor:
        if factor not in rest:
            return None
        rest.remove(factor)
    return tuple(rest)


@lru_cache(CACHED_RESULTS)
def _by_number(a: Dim, k: int) -> Dim:
    """a // k, k >= 1: whole multiples stand outside, the rest is as small as it gets."""
    if type(a) is not Expr or k == 1:
        return a // k if type(a) is int else a
    outside: dict[Monomial, int] = {}
    inside: dict[Monomial, int] = {}
    constant = 0
    for monomial, weight in a.terms:
        if not monomial:
            whole, constant = divmod(weight, k)
        else:
            whole = weight // k if weight > 0 else -(-weight // k)
            if weight - whole * k:
                inside[monomial] = weight - whole * k
        outside[monomial] = whole
    result = expression(outside)
    if not inside:
        return result
    # (2x + 3) // 4 = (x + 1) // 2
    shared = gcd(k, *inside.values())
    if shared > 1:
        inside = {monomial: weight // shared for monomial, weight in inside.items()}
        k, constant = k // shared, constant // shared
    if constant:
        inside[()] = constant
    return result + _reduced_by_number(expression(inside), k)


def _reduced_by_number(a: Dim, k: int) -> Dim:
    """a // k with weights below k."""
    if type(a) is not Expr or k == 1:
        return _by_number(a, k)
    # One of two spellings of rounding up: -((-x) // k) = (x + k - 1) // k.
    if a.terms[0][1] < 0:
        return -_by_number(-a + (k - 1), k)
    # (x // m + n) // k = (x + m*n) // (m*k)
    for monomial, weight in a.terms:
        if weight == 1 and len(monomial) == 1 and monomial[0].kind is Kind.FLOORDIV:
            numerator, divisor = monomial[0].args
            if type(divisor) is int:
                rest = a - of_atom(monomial[0])
                return _by_number(numerator + rest * divisor, divisor * k)
    lower, upper = low(a), high(a)
    if lower is not None and upper is not None and lower // k == upper // k:
        return lower // k
    return of_atom(atom(Kind.FLOORDIV, "", (a, k)))


@lru_cache(CACHED_RESULTS)
def _by_expression(a: Dim, b: Expr, reached: bool) -> Dim:
    """a // b; `reached`: the place is reached with b >= 1 only."""
    if a == 0:
        return 0
    positive = reached or (low(b) or 0) >= 1
    if positive or (high(b) or 0) <= -1:
        exact = exact_quotient(a, b)
        if exact is not None:
            return exact
    if not positive:
        return _cancelled(a, b, False)
    if len(b.terms) == 1 and type(a) is Expr:
        monomial, weight = b.terms[0]
        whole: dict[Monomial, int] = {}
        for term, term_weight in a.terms:
            rest = _without(term, monomial)
            if rest is not None and term_weight % weight == 0:
                whole[rest] = term_weight // weight
        if whole:
            outside = expression(whole)
            return outside + _by_expression(a - outside * b, b, reached)
    if (low(a) or 0) >= 0 and low(a) is not None and at_most(a + 1, b):
        return 0
    return _cancelled(a, b, reached)


def _cancelled(a: Dim, b: Expr, reached: bool) -> Dim:
    """The atom of a // b without common factors that are known to be positive."""
    terms = [*terms_of(a), *b.terms]
    shared = gcd(*(weight for _, weight in terms))
    factors = [
        factor
        for factor in _common(terms)
        if (reached and _at_least_zero(factor)) or (low(of_atom(factor)) or 0) >= 1
    ]
    if shared > 1 or factors:
        a, divisor = _divided(a, shared, factors), _divided(b, shared, factors)
        return quotient(a, divisor) if reached else floordiv(a, divisor)
    return of_atom(atom(Kind.FLOORDIV, "", (a, b)))


def _at_least_zero(factor: Atom) -> bool:
    """Whether a factor of b is positive where b is: it can't be negative."""
    bound = low(of_atom(factor))
    return bound is not None and bound >= 0


def _common(terms: list[tuple[Monomial, int]]) -> list[Atom]:
    """The factors, with repeats, that all monomials share."""
    shared = list(terms[0][0])
    for monomial, _ in terms[1:]:
        rest = list(monomial)
        kept = []
        for factor in shared:
            if factor in rest:
                rest.remove(factor)
                kept.append(factor)
        shared = kept
    return shared


def _divided(a: Dim, number: int, factors: list[Atom]) -> Dim:
    weights: dict[Monomial, int] = {}
    for monomial, weight in terms_of(a):
        rest = _without(monomial, tuple(factors))
        assert rest is not None, "common factors divide every term"
        weights[rest] = weight // number
    return expression(weights)
