"""MIN, MAX and BROADCAST."""

from __future__ import annotations

from functools import lru_cache, reduce
from math import gcd

from graphopt.ir.dims.bounds import at_most, low
from graphopt.ir.dims.expression import (
    CACHED_RESULTS,
    Dim,
    Expr,
    Kind,
    Monomial,
    atom,
    expression,
    of_atom,
    terms_of,
)

__all__ = ["broadcast", "cut_limits", "if_not_empty", "maximum", "minimum"]


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two."""
    if a is b:
        return a
    if type(a) is int and type(b) is int:
        return min(a, b)
    return _extreme(Kind.MIN, a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two."""
    if a is b:
        return a
    if type(a) is int and type(b) is int:
        return max(a, b)
    return _extreme(Kind.MAX, a, b)


def broadcast(a: Dim, b: Dim) -> Dim:
    """The dim that numpy's broadcasting gives for two dims.

    1 gives way; a number other than 1, or an expression proven >= 2, is the result (the other
    must be 1 or equal where the program is legal). Everything else is an atom, commutative,
    associative and idempotent. MAX would be wrong: 1 and 0 give 0.

    Raises:
        ValueError: Two numbers can't be broadcast together.
    """
    if a is b or (type(b) is int and b == 1):
        return a
    if type(a) is int:
        if a == 1:
            return b
        if type(b) is int and a != b:
            raise ValueError(f"dims {a} and {b} do not broadcast")
        return a
    if type(b) is int:
        return b
    return _broadcast(a, b)


@lru_cache(CACHED_RESULTS)
def _broadcast(a: Dim, b: Dim) -> Dim:
    args = _flat(Kind.BROADCAST, (a, b))
    for arg in args:
        if (low(arg) or 0) >= 2:
            return arg
    args = tuple([arg for arg in args if not cut_limits(arg, args)])
    return args[0] if len(args) == 1 else of_atom(atom(Kind.BROADCAST, "", args))


def cut_limits(arg: Dim, args: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """What is not negative if `arg` broadcasts with `args` and is min(x, y) of one of them, x, with y >= 2.

    A position table of 512 rows, cut to the length of the input it is added to: arg is x, as x > y >= 2
    would not broadcast. () where arg is no such minimum.
    """
    cut = _inner(Kind.MIN, arg)
    for x in cut or ():
        others = [y for y in cut or () if y is not x]
        if type(x) is Expr and x in args and all((low(y) or 0) >= 2 for y in others):
            return tuple([y - x for y in others])
    return ()


def if_not_empty(dim: Dim) -> Dim:
    """The dim in a program where it is legal and no dim is 0: broadcast(x, min(x, y)) is x.

    The smaller one broadcasts only if it is 1 or as large; and beside x = 1 it is 1 too, unless it is 0.
    """
    args = _inner(Kind.BROADCAST, dim) or ()
    kept = [arg for arg in args if not any(x in args for x in _inner(Kind.MIN, arg) or ())]
    return dim if len(kept) in (0, len(args)) else reduce(broadcast, kept)


@lru_cache(CACHED_RESULTS)
def _extreme(kind: Kind, a: Dim, b: Dim) -> Dim:
    """MIN or MAX, without what another argument dominates; common parts stand outside."""
    shared = _shared_terms((a, b))
    if shared != 0:
        return shared + (minimum if kind is Kind.MIN else maximum)(a - shared, b - shared)
    kept: list[Dim] = []
    for arg in _flat(kind, (a, b)):
        if any(_dominates(kind, other, arg) for other in kept):
            continue
        kept = [other for other in kept if not _dominates(kind, arg, other)]
        kept.append(arg)
    if len(kept) == 1:
        return kept[0]
    # min(2x, 2y) = 2 min(x, y), and the smallest constant outside: max(x - 5, 0) = max(x, 5) - 5.
    shift = min(_constant(arg) for arg in kept)
    kept = [arg - shift for arg in kept]
    factor = gcd(*(weight for arg in kept for _, weight in terms_of(arg)))
    if factor > 1:
        kept = [_without_factor(arg, factor) for arg in kept]
    return of_atom(atom(kind, "", tuple(sorted(kept, key=_text)))) * factor + shift


def _dominates(kind: Kind, winner: Dim, loser: Dim) -> bool:
    return at_most(winner, loser) if kind is Kind.MIN else at_most(loser, winner)


def _flat(kind: Kind, args: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The arguments, those of nested atoms of the kind in their place; sorted, without repeats."""
    flat: dict[Dim, None] = {}
    for arg in args:
        inner = _inner(kind, arg)
        flat.update(dict.fromkeys((arg,) if inner is None else inner))
    return tuple(sorted(flat, key=_text))


def _inner(kind: Kind, arg: Dim) -> tuple[Dim, ...] | None:
    """The arguments of `factor * atom(kind) + shift`, factor and shift put into them; else None."""
    if type(arg) is not Expr or len(arg.terms) > 2:
        return None
    monomial, factor = arg.terms[0]
    shift = arg.terms[1] if len(arg.terms) == 2 else ((), 0)
    if len(monomial) != 1 or monomial[0].kind is not kind or shift[0] or factor < 1:
        return None
    if kind is Kind.BROADCAST and (factor != 1 or shift[1]):
        return None
    return tuple(inner * factor + shift[1] for inner in monomial[0].args)


def _shared_terms(args: tuple[Dim, Dim]) -> Dim:
    """The non-constant terms that both arguments have with equal weights."""
    others = dict(terms_of(args[1]))
    shared: dict[Monomial, int] = {}
    for monomial, weight in terms_of(args[0]):
        if monomial and others.get(monomial) == weight:
            shared[monomial] = weight
    return expression(shared) if shared else 0


def _constant(arg: Dim) -> int:
    if type(arg) is not Expr:
        return arg  # type: ignore[return-value]
    monomial, weight = arg.terms[-1]
    return 0 if monomial else weight


def _without_factor(arg: Dim, factor: int) -> Dim:
    return expression({monomial: weight // factor for monomial, weight in terms_of(arg)})


def _text(arg: Dim) -> tuple[str, list[str]]:
    if type(arg) is not Expr:
        return str(arg), []
    # The text alone does not tell symbols of one name and different ranges apart.
    return str(arg), [factor.key for monomial, _ in arg.terms for factor in monomial]
