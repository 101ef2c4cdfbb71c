"""Repeat once what is repeated twice.

    before   Tile(Tile(x, [2, 1]), [3, 2])          after   Tile(x, [6, 2])
    before   Expand(Expand(x, [4, 1]), [4, n])      after   Expand(x, [4, n])

Two Tiles along one axis are one by the product. An Expand alone does what two did if the last target, with x
itself, gives the same shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim, broadcast
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule

UNKNOWN_REPEATS = "the numbers of repeats are not constants"
NEEDS_MIDDLE = "the last target alone does not provably give the same shape"


@rule
def tile_once(x, first, second):
    """Tile(Tile(x, a), b) -> Tile(x, a * b)."""
    return op.Tile(op.Tile(x, first), second)


@tile_once.when
def product(m: Match) -> np.ndarray | Rejection:
    first, second = m.array("first"), m.array("second")
    if first is None or second is None:
        return Rejection(UNKNOWN_REPEATS, m["first"])
    return np.asarray(first * second, np.int64)


@tile_once.rewrite
def with_product(m: Match, repeats: np.ndarray) -> ir.Value:
    return op.Tile(m["x"], repeats)


@rule
def expand_once(x, first, second):
    """Expand(Expand(x, a), b) -> Expand(x, b)."""
    return op.Expand(op.Expand(x, first).shared(), second)


@expand_once.when
def same_shape(m: Match) -> Rejection | None:
    before, after = m.dims(m["x"]), m.dims(m.output)
    target = m.facts.elements(m["second"])
    if before is None or after is None or target is None or _joined(before, target) != after:
        return Rejection(NEEDS_MIDDLE, m.output)
    middle = m.root.inputs[0]
    # With another consumer the first one stays: then there is nothing to gain.
    return (
        None if middle is not None and m.has_one_consumer(middle) else Rejection(HAS_OTHER_CONSUMERS, middle)
    )


def _joined(dims: tuple[Dim, ...], target: tuple[object, ...]) -> tuple[Dim | None, ...]:
    """Dims after broadcasting with a target, aligned at the end; None where the target is not known."""
    rank = max(len(dims), len(target))
    padded = (1,) * (rank - len(dims)) + dims
    wanted = (1,) * (rank - len(target)) + target
    return tuple(
        None if t is None or isinstance(t, float | str) else broadcast(d, t)  # type: ignore[arg-type]
        for d, t in zip(padded, wanted, strict=True)
    )


@expand_once.rewrite
def to_last_target(m: Match) -> ir.Value:
    return op.Expand(m["x"], m["second"])


@dataclass(frozen=True)
class MergeRepeats(Pass):
    """Merge a Tile of a Tile, and an Expand of an Expand."""

    name = "merge-repeats"
    family = "movement"
    rules = (tile_once, expand_once)
