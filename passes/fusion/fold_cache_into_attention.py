"""Let Attention append to the key and value caches by itself.

before   k' = Concat(past_k, k); v' = Concat(past_v, v); Attention(q, k', v', mask)
after    Attention(q, k, v, mask, past_k, past_v), k' and v' its present outputs
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on

__all__ = ["FoldCacheIntoAttention"]

IS_CAUSAL = "a causal mask is aligned otherwise where there is a cache"


def _appended(m: Match, value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """Cache and new part of a Concat of two along the length."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Concat" or node.domain != "" or node.graph is not m.root.graph:
        return None
    if len(node.inputs) != 2 or m.attribute(node, "axis") not in (2, -2) or m.rank(node.outputs[0]) != 4:
        return None
    past, new = node.inputs
    return None if past is None or new is None else (past, new)


@rule_on("Attention", opset=23, depth=3)
def cache_into_attention(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """Attention(q, Concat(past_k, k), Concat(past_v, v)) -> Attention(q, k, v, past_k, past_v)."""
    query, keys, values, mask, *further = (*m.root.inputs, None, None)[: max(4, len(m.root.inputs))]
    # Past keys, past values, and (since 24) the numbers of keys that are no padding.
    if any(value is not None for value in further) or len(m.root.outputs) > 1:
        return None
    found_keys, found_values = _appended(m, keys), _appended(m, values)
    if found_keys is None or found_values is None or keys is None or values is None:
        return None
    if m.attribute(m.root, "is_causal", 0):
        return Rejection(IS_CAUSAL, m.output)
    for value in (keys, values):
        # A consumer may stand before the Attention, which makes the value from now on.
        if any(use.node is not m.root for use in value.uses()):
            return Rejection(HAS_OTHER_CONSUMERS, value)
    attention, present_keys, present_values = op.Attention(
        query,
        found_keys[1],
        found_values[1],
        mask,
        found_keys[0],
        found_values[0],
        outputs=3,
        **m.root.attributes,
    )
    return {m.output: attention, keys: present_keys, values: present_values}


@dataclass(frozen=True)
class FoldCacheIntoAttention(Pass):
    """Fold the growing of key and value caches into Attention."""

    name = "fold-cache-into-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    rules = (cache_into_attention,)
