"""Operator facts, one file an operator family: everything that asks "may I" asks here.

An operator without an entry is impure: it is neither folded, merged, moved nor dropped.
"""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.facts.registry import (
    InferenceContext,
    Operator,
    Results,
    all_operators,
    find,
    operator,
    register,
)
from graphopt.ir.graphs import bodies

__all__ = [
    "InferenceContext",
    "Operator",
    "Results",
    "all_operators",
    "can_fail",
    "find",
    "is_elementwise",
    "is_movement",
    "is_pure",
    "is_random",
    "lookup",
    "operator",
    "register",
]


def lookup(node: ir.Node) -> Operator | None:
    """The entry of the node's operator; None: unknown, so impure."""
    return find(node.domain, node.op_type)


def is_pure(node: ir.Node) -> bool:
    """Whether the outputs depend on inputs and attributes alone, and nothing else happens.

    An operator with bodies is as pure as the nodes in them.
    """
    entry = find(node.domain, node.op_type)
    if entry is None or not (entry.pure or _is_deterministic(entry, node)):
        return False
    return all(is_pure(inner) for body in bodies(node) for inner in body)


def is_random(node: ir.Node) -> bool:
    """Whether the outputs differ from run to run; bodies count."""
    entry = find(node.domain, node.op_type)
    if entry is not None and entry.random and not _is_deterministic(entry, node):
        return True
    return any(is_random(inner) for body in bodies(node) for inner in body)


def is_elementwise(node: ir.Node) -> bool:
    """Whether each output element depends on one element of each (broadcast) input."""
    entry = find(node.domain, node.op_type)
    return entry is not None and entry.elementwise


def is_movement(node: ir.Node) -> bool:
    """Whether the node only moves elements."""
    entry = find(node.domain, node.op_type)
    return entry is not None and entry.movement


def can_fail(node: ir.Node) -> bool:
    """Whether the node may raise at run time for inputs of legal types; unknown operators may."""
    entry = find(node.domain, node.op_type)
    if entry is None or entry.can_fail:
        return True
    return any(can_fail(inner) for body in bodies(node) for inner in body)


def _is_deterministic(entry: Operator, node: ir.Node) -> bool:
    return entry.deterministic is not None and entry.deterministic(node)
