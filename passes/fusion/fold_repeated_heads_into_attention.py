"""Let Attention share key and value heads between query heads (grouped queries) by itself.

before   Attention(q, Reshape(Expand(Unsqueeze(k, 2), g)), Reshape(Expand(Unsqueeze(v, 2), g)))
after    Attention(q, k, v)      with fewer key and value heads than query heads
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.operands import producer_of
from graphopt.rewriting import Match, Pass, op, rule_on


def _unrepeated(m: Match, value: ir.Value | None) -> ir.Value | None:
    """(batch, groups, length, size), each group of it repeated: (batch, groups * times, length, size)."""
    reshape = producer_of(value, "Reshape")
    expand = producer_of(reshape.inputs[0], "Expand") if reshape is not None else None
    unsqueeze = producer_of(expand.inputs[0], "Unsqueeze", "Reshape") if expand is not None else None
    source = unsqueeze.inputs[0] if unsqueeze is not None else None
    if reshape is None or expand is None or unsqueeze is None or source is None:
        return None
    before, single = m.dims(source), m.dims(unsqueeze.outputs[0])
    repeated, after = m.dims(expand.outputs[0]), m.dims(reshape.outputs[0])
    if before is None or single is None or repeated is None or after is None or len(before) != 4:
        return None
    batch, groups, length, size = before
    if single != (batch, groups, 1, length, size) or len(repeated) != 5 or not isinstance(groups, int):
        return None
    times = repeated[2]
    if repeated != (batch, groups, times, length, size) or not isinstance(times, int):
        return None
    return source if after == (batch, groups * times, length, size) else None


@rule_on("Attention", opset=23, depth=5)
def repeated_heads(m: Match) -> ir.Value | None:
    """Attention(q, repeat(k), repeat(v)) -> Attention(q, k, v)."""
    if m.rank(m.root.inputs[0]) != 4 or len(m.root.outputs) > 1 or len(m.root.inputs) > 4:  # type: ignore[arg-type]
        return None
    keys, values = _unrepeated(m, m.root.inputs[1]), _unrepeated(m, m.root.inputs[2])
    if keys is None or values is None:
        return None
    return op.Attention(m.root.inputs[0], keys, values, *m.root.inputs[3:], **m.root.attributes)


@dataclass(frozen=True)
class FoldRepeatedHeadsIntoAttention(Pass):
    """Fold the repetition of key and value heads into Attention."""

    name = "fold-repeated-heads-into-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    rules = (repeated_heads,)
