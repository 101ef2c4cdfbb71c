"""Make one node, or none, of a chain of Reshape, Flatten, Squeeze and Unsqueeze.

    before   x[batch,4,1,64] -> Squeeze(2) -> Reshape(0,256) -> Unsqueeze(1) -> y[batch,1,256]
    after    x[batch,4,1,64] -> Reshape(0,1,256) -> y

All of these leave the elements in their order, so only the first dims and the last ones count. Where those
are proven equal nothing is left. A target that copies a dim of a value inside the chain, or that has to be
computed, is written anew from the facts; where that can't be done with constants, and the last target copies
nothing, the last target itself is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import low
from graphopt.ir.relabelling import RELABELLINGS, Relabelling, is_relabelling, relabelling
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on

NEEDS_MIDDLE = "the last target can't be written without the value between"

# A chain is followed this far up; what lies above is seen when its lower part has become one node.
LONGEST_CHAIN = 8


@rule_on(*RELABELLINGS, depth=LONGEST_CHAIN)
def one_relabelling(m: Match) -> ir.Value | Rejection | None:
    """Reshape(Squeeze(x)) -> Reshape(x), or x where nothing is left to do."""
    sources = _sources(m.root)
    same = next((v for v in reversed(sources) if m.facts.same_shape(v, m.output)), None)
    if same is not None:
        return same
    if len(sources) < 2:
        return None
    inner = next((v for v in sources[:-1] if not m.has_one_consumer(v)), None)
    source = sources[-1] if inner is None else inner
    if source is sources[0]:
        return Rejection(HAS_OTHER_CONSUMERS, source)
    return _from(m, source)


def _sources(node: ir.Node) -> list[ir.Value]:
    """The values that the node's output is a relabelling of, from its own input upwards."""
    found: list[ir.Value] = []
    current: ir.Node | None = node
    while current is not None and is_relabelling(current) and len(found) < LONGEST_CHAIN:
        value = current.inputs[0]
        if value is None or current.graph is not node.graph:
            break
        found.append(value)
        current = value.producer()
    return found


def _from(m: Match, source: ir.Value) -> ir.Value | Rejection:
    """The root's value, straight from the source."""
    before, after = m.dims(source), m.dims(m.output)
    target = m.root.inputs[1] if m.root.op_type == "Reshape" and len(m.root.inputs) > 1 else None
    elements = (m.facts.elements(target) if target is not None else None) or ()
    if before is not None and after is not None:
        inferred = elements.index(-1) if -1 in elements else None
        found = relabelling(before, after, m.opset, inferred)
        if found is not None:
            return _written(source, found)
    if target is None or not elements or not all(_is_no_copy(m, e) for e in elements):
        return Rejection(NEEDS_MIDDLE, m.output)
    return op.Reshape(source, target, allowzero=m.attribute(m.root, "allowzero") or None)


def _is_no_copy(m: Match, element: object) -> bool:
    """Whether an element of the target says the same of whatever is reshaped."""
    if isinstance(element, int):
        return element != 0 or bool(m.attribute(m.root, "allowzero"))
    return element is not None and (low(element) or 0) >= 1  # type: ignore[arg-type]


def _written(source: ir.Value, found: Relabelling) -> ir.Value:
    numbers = list(found.numbers)
    if found.op_type == "Reshape":
        made = op.Reshape(source, numbers, allowzero=1 if found.allowzero else None)
    elif found.op_type == "Flatten":
        made = op.Flatten(source, axis=numbers[0])
    elif found.op_type == "Unsqueeze":
        made = op.Unsqueeze(source, numbers)
    else:
        made = op.Squeeze(source, numbers)
    assert isinstance(made, ir.Value)
    return made


@dataclass(frozen=True)
class RemoveRepeatedReshapes(Pass):
    """Make one node, or none, of a chain of Reshape, Flatten, Squeeze and Unsqueeze."""

    name = "remove-repeated-reshapes"
    family = "shapes"
    rules = (one_relabelling,)
