"""Expressions taken apart: common factors, straight lines through another expression, quotients."""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import gcd

from graphopt.ir.dims.bounds import low
from graphopt.ir.dims.division import exact_quotient
from graphopt.ir.dims.expression import Atom, Dim, Expr, Kind, expression, terms_of

__all__ = ["content", "divisions", "line", "lines", "number_and_modulus", "numerator_and_divisor"]


def content(dim: Dim) -> tuple[int, Dim]:
    """The greatest number that divides all weights, negative if they all are, and the rest."""
    weights = [weight for _, weight in terms_of(dim)]
    factor = gcd(*weights) * (-1 if max(weights) < 0 else 1)
    if factor == 1:
        return 1, dim
    rest = exact_quotient(dim, factor)
    assert rest is not None, "every weight is a multiple"
    return factor, rest


def lines(elements: Sequence[Dim], dims: Sequence[Dim]) -> list[tuple[int, int]] | None:
    """What turns each dim into its element, if all can be and one is needed."""
    found: list[tuple[int, int]] = []
    for element, dim in zip(elements, dims, strict=True):
        pair = line(element, dim)
        if pair is None:
            return None
        found.append(pair)
    return found if any(factor for factor, _ in found) else None


def line(element: Dim, dim: Dim) -> tuple[int, int] | None:
    """(factor, offset) with element = factor * dim + offset; None where there are none."""
    if type(element) is int:
        return (1, element - dim) if type(dim) is int else (0, element)
    if type(dim) is int:
        return None
    weights = dict(terms_of(element))
    monomial, weight = terms_of(dim)[0]
    factor, over = divmod(weights.get(monomial, 0), weight)
    rest = element - dim * factor
    return (factor, rest) if not over and factor and type(rest) is int else None


def numerator_and_divisor(element: Dim, atoms: Container[Atom]) -> tuple[Dim, int] | None:
    """Numerator and divisor of an element that is one atom of these, floor(n / k) with n >= 0; else None."""
    terms = terms_of(element)
    if type(element) is not Expr or len(terms) != 1 or terms[0][1] != 1 or len(terms[0][0]) != 1:
        return None
    factor = terms[0][0][0]
    if factor.kind is not Kind.FLOORDIV or factor not in atoms:
        return None
    numerator, divisor = factor.args
    least = low(numerator)
    return (numerator, divisor) if type(divisor) is int and least is not None and least >= 0 else None


def number_and_modulus(element: Dim, atoms: Container[Atom]) -> tuple[Dim, int] | None:
    """x and k of an element that is x - k * (x // k), the quotient among the atoms; None where it is none."""
    for monomial, weight in terms_of(element):
        if len(monomial) == 1 and monomial[0].kind is Kind.FLOORDIV and monomial[0] in atoms:
            whole, divisor = monomial[0].args
            rest = element - expression({monomial: weight})
            if type(divisor) is int and weight == -divisor and rest == whole:
                return whole, divisor
    return None


def divisions(dim: Dim) -> frozenset[Atom]:
    """The quotients in an expression, those within others too."""
    found: set[Atom] = set()
    pending = [dim]
    while pending:
        for monomial, _ in terms_of(pending.pop()):
            for factor in monomial:
                if factor.kind is Kind.FLOORDIV:
                    found.add(factor)
                pending.extend(factor.args)
    return frozenset(found)
