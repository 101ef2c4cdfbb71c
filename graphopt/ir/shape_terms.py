"""Nodes that do not exist yet, which compute a small integer tensor from the dims of values.

A term is such a node: Shape of a value, a Gather from it, a product of two terms. Equal terms are one object,
so that a set of terms counts the nodes that a set of tensors needs together.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim

__all__ = ["Source", "Term", "cost"]

ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"})


@dataclass(frozen=True, slots=True)
class Source:
    """A value whose dims may be read, and the place in the graph after which it is there (-1: everywhere)."""

    value: ir.Value
    dims: tuple[Dim, ...]
    place: int


class Term:
    """A node to be made, or a constant.

    Attributes:
        op_type: The operator; "" for a constant.
        inputs: Terms that it takes.
        numbers: Contents of a constant, indices of a Gather, bounds of a Shape, axes, the dtype of a Cast.
        source: The value that Shape or Size reads.
        elements: What it gives, row-major.
        rank: 0 or 1; of a Reshape, the length of `numbers`.
        place: Where it can stand: after the node of this number.
        nodes: All terms that cost a node, this one included.
    """

    __slots__ = ("elements", "inputs", "nodes", "numbers", "op_type", "place", "rank", "source")

    def __init__(
        self,
        op_type: str,
        inputs: tuple[Term, ...],
        numbers: tuple[int, ...],
        source: Source | None,
        elements: tuple[Dim, ...],
        rank: int,
    ) -> None:
        self.op_type = op_type
        self.inputs = inputs
        self.numbers = numbers
        self.source = source.value if source is not None else None
        self.elements = elements
        self.rank = rank
        self.place: int = max([source.place if source is not None else -1, *(term.place for term in inputs)])
        below: frozenset[Term] = frozenset().union(*(term.nodes for term in inputs))
        self.nodes: frozenset[Term] = below | {self} if op_type else below

    def __repr__(self) -> str:
        given = [str(term) for term in self.inputs] + ([self.source.name or "?"] if self.source else [])
        return f"{self.op_type}{list(self.numbers)}({', '.join(given)})"


def cost(way: Term, known: Container[Term]) -> tuple[int, int, int, int]:
    """New nodes; nodes; those that compute rather than read and join; place. Small is good."""
    arithmetic = sum(term.op_type in ARITHMETIC for term in way.nodes)
    return sum(term not in known for term in way.nodes), len(way.nodes), arithmetic, way.place
