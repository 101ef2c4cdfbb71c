"""Symbolic integer expressions for dims.

A `Dim` is an int or an `Expr`; an `Expr` is never constant. Expressions are canonical and
interned, so two that are found equal are one object: compare with `is` or `==`, both are cheap.

    >>> batch, seq = symbol("batch"), symbol("seq", low=1)
    >>> batch * seq + 2
    batch*seq + 2
    >>> floordiv(batch * seq, seq) is batch
    True
"""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.dims.bounds import at_most, high, is_nonnegative, low
from graphopt.ir.dims.choice import broadcast, cut_limits, if_not_empty, maximum, minimum
from graphopt.ir.dims.division import exact_quotient, floordiv, mod, quotient
from graphopt.ir.dims.expression import Atom, Dim, Expr, Kind, atom, of_atom, terms_of

__all__ = [
    "Atom",
    "Dim",
    "Expr",
    "Kind",
    "at_most",
    "broadcast",
    "cut_limits",
    "exact_quotient",
    "floordiv",
    "high",
    "if_not_empty",
    "is_nonnegative",
    "low",
    "maximum",
    "minimum",
    "mod",
    "product",
    "quotient",
    "substitute",
    "symbol",
    "symbols",
    "terms_of",
]


def symbol(name: str, low: int | None = 0, high: int | None = None) -> Dim:
    """The symbol of that name and range; the number itself where the range holds only one."""
    if low is not None and low == high:
        return low
    return of_atom(atom(Kind.SYMBOL, name, (), low, high))


def product(dims: tuple[Dim, ...]) -> Dim:
    """The number of elements of a tensor of these dims."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def symbols(dim: Dim) -> tuple[str, ...]:
    """The names of all symbols in it, sorted."""
    names: set[str] = set()
    pending = [dim]
    while pending:
        for monomial, _ in terms_of(pending.pop()):
            for factor in monomial:
                if factor.kind is Kind.SYMBOL:
                    names.add(factor.name)
                pending.extend(factor.args)
    return tuple(sorted(names))


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """The expression with symbols replaced, simplified again; a number where all are numbers.

    Raises:
        ZeroDivisionError: A divisor became 0.
        ValueError: Dims that do not broadcast came together.
    """
    if type(dim) is not Expr:
        return dim
    total: Dim = 0
    for monomial, weight in dim.terms:
        part: Dim = weight
        for factor in monomial:
            part = part * _substituted(factor, values)
        total = total + part
    return total


def _substituted(factor: Atom, values: Mapping[str, Dim]) -> Dim:
    if factor.kind is Kind.SYMBOL:
        found = values.get(factor.name)
        return of_atom(factor) if found is None else found
    args = [substitute(arg, values) for arg in factor.args]
    if factor.kind is Kind.FLOORDIV:
        return floordiv(args[0], args[1])
    join = {Kind.MIN: minimum, Kind.MAX: maximum, Kind.BROADCAST: broadcast}[factor.kind]
    result = args[0]
    for arg in args[1:]:
        result = join(result, arg)
    return result
