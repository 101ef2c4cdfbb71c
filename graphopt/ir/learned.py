"""What a legal run implies about sizes, beyond the ranges of symbols.

A dim of a tensor is not negative, whatever expression it came out as; a table of 512 rows cut to
`length` rows and added to something of `length` rows shows that length <= 512. Both hold in every
run that is legal, so they may be used for all values of the same scope and of those within.
"""

from __future__ import annotations

from graphopt.ir.dims import Dim, Expr, Kind, broadcast, floordiv, is_nonnegative, maximum, minimum
from graphopt.ir.dims.expression import Atom, of_atom

__all__ = ["Learned"]


class Learned:
    """Expressions that are not negative in any legal run of one scope."""

    __slots__ = ("_nonnegative", "_simplified")

    def __init__(self) -> None:
        self._nonnegative: dict[Expr, None] = {}
        self._simplified: dict[Dim, Dim] = {}

    def add(self, dim: Dim) -> None:
        """Remember that `dim` is not negative."""
        if type(dim) is Expr and dim not in self._nonnegative:
            self._nonnegative[dim] = None
            self._simplified.clear()

    def is_nonnegative(self, dim: Dim) -> bool:
        """Whether `dim` is proven to be at least 0: by the symbols' ranges, or by one learned expression."""
        if is_nonnegative(dim):
            return True
        return any(is_nonnegative(dim - known) for known in self._nonnegative)

    def simplified(self, dim: Dim) -> Dim:
        """The expression with MIN and MAX decided where what was learned decides them."""
        if type(dim) is not Expr or not self._nonnegative or dim.size < 3:
            return dim
        found = self._simplified.get(dim)
        if found is None:
            found = self._simplified[dim] = self._rebuilt(dim)
        return found

    def _rebuilt(self, dim: Expr) -> Dim:
        if all(factor.kind is Kind.SYMBOL for monomial, _ in dim.terms for factor in monomial):
            return dim
        total: Dim = 0
        for monomial, weight in dim.terms:
            part: Dim = weight
            for factor in monomial:
                part = part * self._decided(factor)
            total = total + part
        return total

    def _decided(self, factor: Atom) -> Dim:
        if factor.kind is Kind.SYMBOL:
            return of_atom(factor)
        args = [self.simplified(arg) for arg in factor.args]
        if factor.kind is Kind.FLOORDIV:
            return floordiv(args[0], args[1])
        if factor.kind is not Kind.BROADCAST:
            smallest = factor.kind is Kind.MIN
            args = self._undominated(args, smallest)
        join = {Kind.MIN: minimum, Kind.MAX: maximum, Kind.BROADCAST: broadcast}[factor.kind]
        result = args[0]
        for arg in args[1:]:
            result = join(result, arg)
        return result

    def _undominated(self, args: list[Dim], smallest: bool) -> list[Dim]:
        kept: list[Dim] = []
        for arg in args:
            if any(self._ordered(other, arg, smallest) for other in kept):
                continue
            kept = [other for other in kept if not self._ordered(arg, other, smallest)]
            kept.append(arg)
        return kept

    def _ordered(self, a: Dim, b: Dim, ascending: bool) -> bool:
        return self.is_nonnegative(b - a if ascending else a - b)
