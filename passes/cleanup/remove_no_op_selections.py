"""Remove selections that are decided.

    before   Where(true, x, y)   Where(c, x, x)   ScatterND(x, no indices, no updates)
    after    x                   x                x

Only where x alone has the shape that the selection gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import uniform
from graphopt.rewriting import Match, Pass, Rejection, rule_on

WIDENS = "the other operands may widen the value by broadcasting"


def _decided(m: Match, condition: ir.Value) -> bool | None:
    """The one truth value that a condition has everywhere; None: not known, or not one."""
    number = uniform(condition)
    if number is not None:
        return bool(number)
    elements = m.facts.elements(condition)
    if elements and all(e is elements[0] for e in elements) and isinstance(elements[0], bool):
        return elements[0]
    return None


@rule_on("Where", depth=1)
def decided_where(m: Match) -> ir.Value | Rejection | None:
    """Where(true, x, y) -> x; Where(c, x, x) -> x."""
    condition, x, y = m.root.inputs
    assert condition is not None and x is not None and y is not None
    if x is not y:
        choice = _decided(m, condition)
        if choice is None:
            return None
        x = x if choice else y
    return x if m.facts.same_shape(x, m.output) else Rejection(WIDENS, x)


@rule_on("ScatterND", "ScatterElements", "Scatter", depth=1)
def scatter_of_nothing(m: Match) -> ir.Value | None:
    """ScatterND(x, indices: [0, k], updates) -> x."""
    data, indices, *_ = m.root.inputs
    assert data is not None and indices is not None
    dims = m.dims(indices)
    return data if dims is not None and any(d == 0 for d in dims) else None


@dataclass(frozen=True)
class RemoveNoOpSelections(Pass):
    """Remove selections whose outcome is known."""

    name = "remove-no-op-selections"
    family = "cleanup"
    rules = (decided_where, scatter_of_nothing)
