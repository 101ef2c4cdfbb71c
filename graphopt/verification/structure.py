"""How the sizes of dynamic dims may depend on each other.

A model says that two dims are equal only where it gives them one name, and exporters often do not: `total` is
`past + seq`, and three batch dims carry three names. A structure is one guess of such dependences; the finest
that the original accepts is used, as different sizes tell most.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from graphopt.verification.signature import Input

MAX_PAIRED = 6  # up to so many dims every pair is tried as equal


@dataclass(frozen=True, slots=True)
class Structure:
    """Every dynamic dim as the sum of free ones.

    Attributes:
        parts: The free dims that each dim is the sum of; itself alone where it is free.
        batch: The free dims that stand first in an input.
    """

    parts: dict[str, tuple[str, ...]]
    batch: frozenset[str] = field(default_factory=frozenset)

    @property
    def free(self) -> tuple[str, ...]:
        """The dims to choose, in order of appearance."""
        return tuple(dict.fromkeys(p for parts in self.parts.values() for p in parts))

    def sizes(self, chosen: dict[str, int]) -> dict[str, int]:
        """Sizes of all dims, those written as expressions ("past + seq") computed."""
        found = {name: sum(chosen[p] for p in parts) for name, parts in self.parts.items()}
        for name in found:
            value = evaluate(name, found)
            if value is not None:
                found[name] = value
        return found


def all_equal(inputs: Sequence[Input]) -> Structure:
    """The last guess: every dynamic dim has the same size."""
    names = list(dict.fromkeys(s for i in inputs for s in i.symbols))
    return Structure(dict.fromkeys(names, (names[0],)))


def structures(inputs: Sequence[Input]) -> Iterator[Structure]:
    """Guesses, the finest first; `all_equal` is not among them."""
    names = list(dict.fromkeys(s for i in inputs for s in i.symbols))
    seen: list[dict[str, tuple[str, ...]]] = []
    for parts in _guesses(names, inputs):
        if parts not in seen:
            seen.append(parts)
            yield Structure(parts, _batch(parts, inputs))


def _guesses(names: list[str], inputs: Sequence[Input]) -> Iterator[dict[str, tuple[str, ...]]]:
    own = {n: n for n in names}
    leading = _merge(own, [[i.dims[0] for i in inputs if i.dims]])
    caches = _merge(leading, _alike([i for i in inputs if any(isinstance(d, int) for d in i.dims or ())]))
    alike = _merge(caches, _alike(inputs))
    for tied in (own, leading, caches, alike):
        yield _each(tied)
    batch = {leading[d] for i in inputs if i.dims for d in i.dims[:1] if isinstance(d, str)}
    for tied in (caches, alike):
        yield from _sums(tied, batch)
    if len(names) <= MAX_PAIRED:
        for pair in itertools.combinations(names, 2):
            yield _each(_merge(own, [pair]))
    yield _each(_merge(alike, [[n for n in names if alike[n] not in batch]]))


def _each(tied: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: (root,) for name, root in tied.items()}


def _merge(tied: dict[str, str], groups: Sequence[Sequence[int | str]]) -> dict[str, str]:
    """Make the dims of each group equal; the earliest name stands for all."""
    found = dict(tied)
    order = list(tied)
    for group in groups:
        roots = {found[d] for d in group if isinstance(d, str)}
        if roots:
            first = min(roots, key=order.index)
            found = {n: first if root in roots else root for n, root in found.items()}
    return found


def _alike(inputs: Sequence[Input]) -> list[list[int | str]]:
    """Dims at the same place of inputs of one type and rank: the caches of layers, ids beside token types."""
    groups: dict[tuple[object, ...], list[int | str]] = {}
    for i in inputs:
        fixed = tuple(d if isinstance(d, int) else None for d in i.dims or ())
        for axis, dim in enumerate(i.dims or ()):
            groups.setdefault((i.dtype, fixed, axis), []).append(dim)
    return list(groups.values())


def _sums(tied: dict[str, str], batch: set[str]) -> Iterator[dict[str, tuple[str, ...]]]:
    """One length as the sum of two others: a mask is as long as the cache and the new tokens together."""
    roots = [r for r in dict.fromkeys(tied.values()) if r not in batch]
    if len(roots) > MAX_PAIRED:
        return
    for total in roots:
        for pair in itertools.combinations([r for r in roots if r != total], 2):
            yield {n: pair if root == total else (root,) for n, root in tied.items()}


def _batch(parts: dict[str, tuple[str, ...]], inputs: Sequence[Input]) -> frozenset[str]:
    # A vector's only dim is a batch only where something larger begins with it too.
    first = [i.dims[0] for i in inputs if i.dims and (len(i.dims) > 1 or len(inputs) == 1)]
    return frozenset(p for d in first if isinstance(d, str) for p in parts[d])


def evaluate(text: str, sizes: dict[str, int]) -> int | None:
    """The value of a dim's name that is an expression over other names; None where it is a plain name."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return None if isinstance(tree, ast.Name) else _value(tree, sizes)


_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int | None]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: max(a - b, 0),
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a // b if b else None,
    ast.FloorDiv: lambda a, b: a // b if b else None,
}


def _value(tree: ast.expr, sizes: dict[str, int]) -> int | None:
    if isinstance(tree, ast.Constant):
        return tree.value if isinstance(tree.value, int) else None
    if isinstance(tree, ast.Name):
        return sizes.get(tree.id)
    if not isinstance(tree, ast.BinOp) or type(tree.op) not in _OPERATIONS:
        return None
    a, b = _value(tree.left, sizes), _value(tree.right, sizes)
    return None if a is None or b is None else _OPERATIONS[type(tree.op)](a, b)
