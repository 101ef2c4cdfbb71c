"""Which symbols a run knows the value of by now."""

from __future__ import annotations

from graphopt.ir.dims import Dim, Expr, Kind, high, low, substitute, symbols
from graphopt.ir.dims.expression import of_atom

__all__ = ["SymbolTable", "linear_in"]


class SymbolTable:
    """Symbols that are defined, or are expressions over such."""

    def __init__(self) -> None:
        self._defined: set[str] = set()
        self._known: dict[str, Dim] = {}

    def resolved(self, dim: Dim) -> Dim:
        """The expression in symbols that are defined, as far as they are known."""
        if type(dim) is not Expr or not self._known:
            return dim
        names = [name for name in symbols(dim) if name in self._known]
        return substitute(dim, {name: self._known[name] for name in names}) if names else dim

    def is_defined(self, dim: Dim) -> bool:
        """Whether a run knows all symbols of it by now."""
        return type(dim) is int or all(name in self._defined for name in symbols(dim))

    def define(self, dim: Dim) -> tuple[str, Dim, Dim] | None:
        """Take a size as found; (symbol, weight, rest) where it tells one: dim = weight * symbol + rest."""
        if type(dim) is not Expr:
            return None
        unknown = [name for name in symbols(dim) if name not in self._defined]
        parts = linear_in(dim, unknown[0]) if len(unknown) == 1 else None
        if parts is None:
            return None
        self._defined.add(unknown[0])
        return unknown[0], *parts

    def undefine(self, name: str) -> None:
        """Take a definition back."""
        self._defined.discard(name)

    def equate(self, declared: Dim, same: Dim) -> None:
        """Note that a size is also called `declared`."""
        if type(declared) is not Expr or declared is same or not self.is_defined(same):
            return
        unknown = [n for n in symbols(declared) if n not in self._defined and n not in self._known]
        parts = linear_in(declared, unknown[0]) if len(unknown) == 1 else None
        if parts is not None and parts[0] == 1:
            self._known[unknown[0]] = self.resolved(same - parts[1])

    def scope(self) -> tuple[set[str], dict[str, Dim]]:
        """What is known now, for `leave`."""
        return set(self._defined), dict(self._known)

    def leave(self, scope: tuple[set[str], dict[str, Dim]]) -> None:
        """Forget what was defined since."""
        self._defined, self._known = scope


def linear_in(dim: Expr, name: str) -> tuple[Dim, Dim] | None:
    """(weight, rest) where dim = weight * symbol + rest; None if it is not linear, or the weight may be 0."""
    weight: Dim = 0
    rest: Dim = 0
    for monomial, number in dim.terms:
        own = [factor for factor in monomial if name in symbols(of_atom(factor))]
        others: Dim = number
        for factor in monomial:
            if factor not in own:
                others = others * of_atom(factor)
        if not own:
            rest = rest + others
        elif len(own) == 1 and own[0].kind is Kind.SYMBOL:
            weight = weight + others
        else:
            return None
    least, most = low(weight), high(weight)
    is_never_zero = (least is not None and least > 0) or (most is not None and most < 0)
    return (weight, rest) if is_never_zero else None
