"""Insert leading dims of 1 above an Expand, where another reshape stands there.

    before   Unsqueeze(Expand(Reshape(x, [-1,1]), [h,w]), 0)
    after    Expand(Reshape(x, [1,-1,1]), [h,w])

A target of Expand is aligned to the last axes, so it says the same of a tensor with more leading ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.operands import producer_of
from graphopt.ir.relabelling import RELABELLINGS, Relabelling, is_relabelling, relabelling
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.relabels import written

OTHER_DIMS = "it does more than insert leading dims of 1"


@rule_on(*RELABELLINGS, depth=3)
def leading_ones(m: Match) -> ir.Value | Rejection | None:
    """Unsqueeze(Expand(Reshape(x))) -> Expand(Reshape(x))."""
    expand = producer_of(m.root.inputs[0], "Expand")
    if expand is None:
        return None
    inner = expand.inputs[0].producer() if expand.inputs[0] is not None else None
    if inner is None or not is_relabelling(inner) or inner.inputs[0] is None:
        return None
    found = _above(m, expand, inner)
    if isinstance(found, Rejection):
        return found
    made = op.Expand(written(inner.inputs[0], found), expand.inputs[1])
    assert isinstance(made, ir.Value)
    return made


def _above(m: Match, expand: ir.Node, inner: ir.Node) -> Relabelling | Rejection:
    """The reshape that gives the Expand's input the leading dims."""
    expanded, result = m.dims(expand.outputs[0]), m.dims(m.output)
    source, given = m.dims(inner.inputs[0]), m.dims(inner.outputs[0])  # type: ignore[arg-type]
    if expanded is None or result is None or source is None or given is None:
        return Rejection(OTHER_DIMS, m.output)
    more = len(result) - len(expanded)
    if more < 1 or result != (1,) * more + expanded:
        return Rejection(OTHER_DIMS, m.output)
    for value in (expand.outputs[0], inner.outputs[0]):
        if not m.has_one_consumer(value):
            return Rejection(HAS_OTHER_CONSUMERS, value)
    found = relabelling(source, (1,) * (len(result) - len(given)) + given, m.opset)
    return Rejection(OTHER_DIMS, m.output) if found is None else found


@dataclass(frozen=True)
class HoistDimsAboveExpand(Pass):
    """Insert leading dims of 1 above an Expand, where another reshape stands there."""

    name = "hoist-dims-above-expand"
    family = "shapes"
    rules = (leading_ones,)
