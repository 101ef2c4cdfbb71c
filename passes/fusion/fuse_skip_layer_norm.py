"""A sum and the LayerNormalization after it as onnxruntime's SkipLayerNormalization, where that is asked for.

    before   LayerNormalization(Sum(x, bias, residual), scale, shift)
    after    SkipLayerNormalization(x, residual, scale, shift, bias)

Fewer operators, but slower: its CPU kernel takes three to four times as long as the two, so that a BERT takes
1.10 of its time. No default pipeline has it; other providers of onnxruntime may gain by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, ms, rule_on

NO_KERNEL = "the values are not float32 with three axes"
NOT_ALIKE = "two of the terms are not provably of the result's shape"
OTHER_AXES = "the normalization is not over the last axis alone, with constant vectors"
HAS_OUTPUTS = "the normalization gives mean or deviation too"


@rule_on("Sum", "Add", depth=1)
def normalized_sum(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """LayerNormalization(Sum(x, b, r), s, t) -> SkipLayerNormalization(x, r, s, t, b)."""
    users = [use.node for use in m.output.uses() if use.idx == 0]
    norm = next((n for n in users if n.op_type == "LayerNormalization" and n.domain == ""), None)
    if norm is None or norm.graph is not m.root.graph or m.output.is_graph_output():
        return None
    if m.rank(m.output) != 3 or m.dtype(m.output) is not ir.DataType.FLOAT:
        return Rejection(NO_KERNEL, m.output)
    if any(value.uses() or value.is_graph_output() for value in norm.outputs[1:]):
        return Rejection(HAS_OUTPUTS, norm.outputs[0])
    vectors = norm.inputs[1:]
    width = (m.dims(m.output) or ())[-1:]
    is_plain = m.attribute(norm, "axis") in (-1, 2) and all(
        v is None or (m.tensor(v) is not None and m.dims(v) == width) for v in vectors
    )
    if not is_plain:
        return Rejection(OTHER_AXES, norm.outputs[0])
    terms = [v for v in m.root.inputs if v is not None]
    biases = [v for v in terms if m.tensor(v) is not None and m.dims(v) == width]
    wide = [v for v in terms if v not in biases]
    if len(biases) > 1 or len(wide) != 2 or not all(m.facts.same_shape(v, m.output) for v in wide):
        return Rejection(NOT_ALIKE, m.output)
    scale, shift = (*vectors, None)[:2]
    normalized, _, _, total = ms.SkipLayerNormalization(
        *wide, scale, shift, *biases, epsilon=m.attribute(norm, "epsilon"), outputs=4
    )
    return {norm.outputs[0]: normalized, m.output: total}


@dataclass(frozen=True)
class FuseSkipLayerNorm(Pass):
    """Fuse a sum and LayerNormalization into onnxruntime's SkipLayerNormalization."""

    name = "fuse-skip-layer-norm"
    family = "fusion"
    stage = "on-request"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (normalized_sum,)
