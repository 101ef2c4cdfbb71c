"""Interval bounds of expressions, and what follows from them: a <= b.

Bounds hold wherever the expression is defined (no division by 0) and, for BROADCAST, wherever
the broadcast is legal.
"""

from __future__ import annotations

from math import inf

from graphopt.ir.dims.expression import Atom, Dim, Expr, Kind, Monomial, expression

__all__ = ["at_most", "high", "is_nonnegative", "low"]

# Rounds of replacing a composite atom by a linear bound. Chains of convolutions nest to five
# divisions, but differences that matter (size - size // 2, padding to a multiple) need two.
REFINEMENTS = 3


def low(dim: Dim) -> int | None:
    """The largest number proven to be at most `dim`; None: unbounded."""
    if type(dim) is not Expr:
        return dim  # type: ignore[return-value]
    try:
        return dim._low  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        bound = _finite(_sum_bound(dim, REFINEMENTS))
        dim._low = bound  # type: ignore[attr-defined]
        return bound


def is_nonnegative(dim: Dim) -> bool:
    """Whether it is at least 0 whatever its symbols are."""
    bound = low(dim)
    return bound is not None and bound >= 0


def high(dim: Dim) -> int | None:
    """The smallest number proven to be at least `dim`; None: unbounded."""
    if type(dim) is not Expr:
        return dim  # type: ignore[return-value]
    try:
        return dim._high  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        negated = -dim
        assert type(negated) is Expr, "the negative of no constant is no constant"
        bound = _finite(-_sum_bound(negated, REFINEMENTS))
        dim._high = bound  # type: ignore[attr-defined]
        return bound


def at_most(a: Dim, b: Dim) -> bool:
    """Whether a <= b is proven for all values of the symbols."""
    if a is b:
        return True
    bound = low(b - a)
    return bound is not None and bound >= 0


def _finite(bound: float) -> int | None:
    return None if bound in (inf, -inf) else int(bound)


def _sum_bound(dim: Expr, refinements: int) -> float:
    """The lower bound of a sum: of its terms' intervals, or better through linear bounds of atoms."""
    best: float = 0
    signs = 0
    composite = False
    for monomial, weight in dim.terms:
        lower, upper = _product_interval(monomial)
        best += _times(lower if weight > 0 else upper, weight)
        if monomial:
            signs |= 1 if weight > 0 else 2
            composite = composite or any(factor.kind is not Kind.SYMBOL for factor in monomial)
    # Terms that pull in one direction only gain nothing: x // 2 is at least 0 already.
    if not composite or refinements == 0 or (signs != 3 and best != -inf):
        return best
    for scaled, divisor in _relaxations(dim):
        bound = _sum_bound(scaled, refinements - 1) if type(scaled) is Expr else float(scaled)  # type: ignore[arg-type]
        if bound != -inf:
            best = max(best, bound if bound == inf else -(-int(bound) // divisor))
    return best


def _relaxations(dim: Expr) -> list[tuple[Dim, int]]:
    """Pairs (e, k) with e <= k * dim in which one composite atom is replaced by a linear bound."""
    found: list[tuple[Dim, int]] = []
    for monomial, weight in dim.terms:
        for position, factor in enumerate(monomial):
            if factor.kind is Kind.SYMBOL:
                continue
            others = monomial[:position] + monomial[position + 1 :]
            if _product_interval(others)[0] < 0:
                continue
            rest = dim - expression({monomial: weight})
            cofactor = expression({others: weight})
            bounds = _lower_bounds(factor) if weight > 0 else _upper_bounds(factor)
            found.extend((rest * divisor + cofactor * bound, divisor) for bound, divisor in bounds)
    return found


def _lower_bounds(factor: Atom) -> list[tuple[Dim, int]]:
    """Pairs (e, k) with e <= k * factor."""
    if factor.kind is Kind.FLOORDIV:
        numerator, divisor = factor.args
        return [(numerator - (divisor - 1), divisor)] if type(divisor) is int else []
    if factor.kind is Kind.MAX or (
        factor.kind is Kind.BROADCAST and all((low(arg) or 0) >= 1 for arg in factor.args)
    ):
        return [(arg, 1) for arg in factor.args]
    return []


def _upper_bounds(factor: Atom) -> list[tuple[Dim, int]]:
    """Pairs (e, k) with k * factor <= e."""
    if factor.kind is Kind.FLOORDIV:
        numerator, divisor = factor.args
        if type(divisor) is int:
            return [(numerator, divisor)]
        positive = (low(numerator) or -1) >= 0 or low(numerator) == 0
        return [(numerator, 1)] if positive and (low(divisor) or 0) >= 0 and low(divisor) is not None else []
    if factor.kind is Kind.MIN:
        return [(arg, 1) for arg in factor.args]
    return []


def _product_interval(monomial: Monomial) -> tuple[float, float]:
    lower: float = 1
    upper: float = 1
    for factor in monomial:
        other_lower, other_upper = _atom_interval(factor)
        if lower >= 0 and other_lower >= 0:
            lower, upper = _times(lower, other_lower), _times(upper, other_upper)
        else:
            corners = [_times(x, y) for x in (lower, upper) for y in (other_lower, other_upper)]
            lower, upper = min(corners), max(corners)
    return lower, upper


def _times(a: float, b: float) -> float:
    # A bound of 0 times an unbounded factor is 0, not the NaN of floats.
    return 0 if a == 0 or b == 0 else a * b


def _interval(dim: Dim) -> tuple[float, float]:
    lower, upper = low(dim), high(dim)
    return (-inf if lower is None else lower, inf if upper is None else upper)


def _atom_interval(factor: Atom) -> tuple[float, float]:
    if factor.kind is Kind.SYMBOL:
        return (-inf if factor.low is None else factor.low, inf if factor.high is None else factor.high)
    if factor.kind is Kind.FLOORDIV:
        return _quotient_interval(*factor.args)
    intervals = [_interval(arg) for arg in factor.args]
    lowers = [interval[0] for interval in intervals]
    uppers = [interval[1] for interval in intervals]
    if factor.kind is Kind.MIN:
        return min(lowers), min(uppers)
    if factor.kind is Kind.MAX:
        return max(lowers), max(uppers)
    # BROADCAST is one of its arguments; the largest where none can be 0.
    return (max(lowers) if min(lowers) >= 1 else min(lowers)), max(uppers)


def _quotient_interval(numerator: Dim, divisor: Dim) -> tuple[float, float]:
    lower, upper = _interval(numerator)
    least, most = _interval(divisor)
    if least < 0:
        return -inf, inf
    least = max(least, 1)  # not defined for 0
    if lower >= 0:
        quotient_lower = 0 if most == inf else lower if lower == inf else int(lower) // int(most)
    else:
        quotient_lower = lower if lower == -inf else int(lower) // int(least)
    if upper >= 0:
        quotient_upper = upper if upper == inf else int(upper) // int(least)
    else:
        quotient_upper = -1 if most == inf else int(upper) // int(most)
    return quotient_lower, quotient_upper
