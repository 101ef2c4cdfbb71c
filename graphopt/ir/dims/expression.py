"""Canonical polynomials over atoms: the data structure, addition, multiplication, printing.

An `Expr` is a sum of integer-weighted products of atoms, kept sorted; an `Atom` is a symbol or
an operation that polynomials can't say (FLOORDIV, MIN, MAX, BROADCAST; MOD is written with
FLOORDIV, so that `x mod 4 + 4*(x // 4)` and `x` are one). Both are interned in weak tables:
equal expressions are one object, so equality is identity and hashing is free.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TypeAlias
from weakref import WeakValueDictionary

__all__ = ["Atom", "Dim", "Expr", "Kind", "Monomial", "Terms", "atom", "expression", "of_atom", "terms_of"]

# A body's work on one shape touches the same few sums and products again and again; the tables
# below keep that many results alive (about 1 MB).
CACHED_RESULTS = 8192


class Kind(Enum):
    """What an atom is."""

    SYMBOL = "symbol"
    FLOORDIV = "floordiv"
    MIN = "min"
    MAX = "max"
    BROADCAST = "broadcast"


class Atom:
    """A symbol (name and range) or an operation on expressions (arguments)."""

    __slots__ = ("__weakref__", "args", "high", "key", "kind", "low", "name", "size")

    kind: Kind
    name: str
    args: tuple[Dim, ...]
    low: int | None
    high: int | None
    key: str
    size: int

    def __reduce__(self) -> tuple[object, ...]:
        return (atom, (self.kind, self.name, self.args, self.low, self.high))

    def __repr__(self) -> str:
        return f"Atom({self.key})"


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = tuple[tuple[Monomial, int], ...]


class Expr:
    """A canonical integer expression that is not a constant.

    Attributes:
        terms: Its monomials with their weights, sorted, the constant last.
        size: How many terms, symbols and operations it is made of, arguments included.
    """

    # _low and _high are filled by graphopt.ir.dims.bounds on first use.
    __slots__ = ("__weakref__", "_high", "_low", "_text", "size", "terms")

    terms: Terms
    size: int

    def __add__(self, other: Dim) -> Dim:
        if type(other) is Expr:
            return _sum(self, other)
        return _shifted(self, other) if isinstance(other, int) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _scaled(self, -1)

    def __sub__(self, other: Dim) -> Dim:
        if other is self:
            return 0
        if type(other) is Expr:
            return _sum(self, _scaled(other, -1))
        return _shifted(self, -other) if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: int) -> Dim:
        return _shifted(_scaled(self, -1), other) if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Dim) -> Dim:
        if type(other) is Expr:
            return _product(self, other)
        if not isinstance(other, int):
            return NotImplemented
        return _scaled(self, other) if other else 0

    __rmul__ = __mul__

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Expr:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return (expression, (dict(self.terms),))

    def __str__(self) -> str:
        text: str | None = getattr(self, "_text", None)
        if text is None:
            text = self._text = _print(self.terms)
        return text

    __repr__ = __str__


Dim: TypeAlias = int | Expr

_atoms: WeakValueDictionary[tuple[object, ...], Atom] = WeakValueDictionary()
_expressions: WeakValueDictionary[Terms, Expr] = WeakValueDictionary()


def atom(
    kind: Kind, name: str, args: tuple[Dim, ...] = (), low: int | None = None, high: int | None = None
) -> Atom:
    """The one atom of this description; arguments must be canonical already."""
    identity = (kind, name, args, low, high)
    found = _atoms.get(identity)
    if found is None:
        found = Atom()
        found.kind, found.name, found.args, found.low, found.high = identity
        found.size = 1 + sum(arg.size if type(arg) is Expr else 1 for arg in args)
        found.key = _print_atom(found)
        if kind is Kind.SYMBOL:
            # Symbols of one name and different ranges still need an order that no run changes.
            found.key += f"\0{low}\0{high}"
        _atoms[identity] = found
    return found


def of_atom(only: Atom) -> Expr:
    """The atom as an expression."""
    return _interned((((only,), 1),))


def expression(weights: dict[Monomial, int]) -> Dim:
    """The canonical form of a sum; monomials must be sorted by key."""
    terms = [(monomial, weight) for monomial, weight in weights.items() if weight]
    if not terms:
        return 0
    if len(terms) == 1:
        monomial, weight = terms[0]
        return weight if not monomial else _interned(((monomial, weight),))
    terms.sort(key=_order)
    return _interned(tuple(terms))


def terms_of(dim: Dim) -> Terms:
    """The terms of an expression or a number."""
    if type(dim) is Expr:
        return dim.terms
    return (((), dim),) if dim else ()  # type: ignore[return-value]


def _order(term: tuple[Monomial, int]) -> tuple[bool, list[str]]:
    """Constants last, the rest by the names in them."""
    monomial = term[0]
    return (not monomial, [factor.key for factor in monomial])


def _interned(terms: Terms) -> Expr:
    found = _expressions.get(terms)
    if found is None:
        found = Expr()
        found.terms = terms
        found.size = sum([1 + sum([factor.size for factor in monomial]) for monomial, _ in terms])
        _expressions[terms] = found
    return found


@lru_cache(CACHED_RESULTS)
def _sum(a: Expr, b: Expr) -> Dim:
    weights = dict(a.terms)
    for monomial, weight in b.terms:
        weights[monomial] = weights.get(monomial, 0) + weight
    return expression(weights)


@lru_cache(CACHED_RESULTS)
def _product(a: Expr, b: Expr) -> Dim:
    weights: dict[Monomial, int] = {}
    for left, left_weight in a.terms:
        for right, right_weight in b.terms:
            monomial = tuple(sorted(left + right, key=_key)) if left and right else left or right
            weights[monomial] = weights.get(monomial, 0) + left_weight * right_weight
    return expression(weights)


def _key(factor: Atom) -> str:
    return factor.key


def _scaled(a: Expr, factor: int) -> Expr:
    """a * factor, factor not 0: the order of terms stays."""
    if factor == 1:
        return a
    return _interned(tuple([(monomial, weight * factor) for monomial, weight in a.terms]))


def _shifted(a: Expr, constant: int) -> Expr:
    """a + constant: only the last term changes."""
    if constant == 0:
        return a
    last, weight = a.terms[-1]
    if last:
        return _interned((*a.terms, ((), int(constant))))
    weight += constant
    return _interned((*a.terms[:-1], ((), weight)) if weight else a.terms[:-1])


def _print(terms: Terms) -> str:
    text = ""
    for monomial, weight in terms:
        factors = [_print_factor(factor, len(monomial) > 1 or abs(weight) != 1) for factor in monomial]
        if abs(weight) != 1 or not factors:
            factors.insert(0, str(abs(weight)))
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        text += sign + "*".join(factors)
    return text


def _print_factor(factor: Atom, in_product: bool) -> str:
    text = _print_atom(factor)
    return f"({text})" if in_product and factor.kind is Kind.FLOORDIV else text


def _print_atom(factor: Atom) -> str:
    if factor.kind is Kind.SYMBOL:
        return factor.name
    if factor.kind is Kind.FLOORDIV:
        return "//".join(_print_operand(arg) for arg in factor.args)
    return f"{factor.kind.value}({', '.join(str(arg) for arg in factor.args)})"


def _print_operand(arg: Dim) -> str:
    simple = type(arg) is not Expr or (
        len(arg.terms) == 1
        and len(arg.terms[0][0]) == 1
        and arg.terms[0][1] == 1
        and arg.terms[0][0][0].kind is not Kind.FLOORDIV
    )
    return str(arg) if simple else f"({arg})"
