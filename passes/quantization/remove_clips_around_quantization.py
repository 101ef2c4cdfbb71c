"""Remove clips that quantization does by itself.

    before   Relu(x) -> QuantizeLinear(zero point 0 of uint8)       DequantizeLinear(zero point 0) -> Relu
    after    x -> QuantizeLinear                                    DequantizeLinear

Quantizing ends at the lowest and the highest integer. A bound that is quantized to one of them, or lies
beyond it, takes nothing away; nor does one beyond every number that comes out of a DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.quantization import Quantization, is_dequantize, quantization
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, rule_on
from graphopt.rewriting.weights import copy_of

NOT_KNOWN = "scale, zero point or a bound is not one constant number"
WITHIN = "a bound lies within what the integers can say"

CLIPS = ("Relu", "Clip")


def _bounds(m: Match, node: ir.Node) -> tuple[float, float] | None:
    """Lower and upper bound of a Relu or Clip; infinite where there is none."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    found: list[float] = []
    for index, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = node.inputs[index] if index < len(node.inputs) else None
        number = m.attribute(node, name, default) if given is None else m.scalar(given)
        if not isinstance(number, int | float):
            return None
        found.append(float(number))
    return found[0], found[1]


def _one_scale(m: Match, node: ir.Node) -> Quantization | None:
    found = quantization(node, m.facts)
    if found is None or found.axis is not None or found.wide != ir.DataType.FLOAT:
        return None
    return found if 0.0 < float(found.scale.reshape(()).item()) < np.inf else None


@rule_on("QuantizeLinear", depth=2)
def clip_before_quantization(m: Match) -> ir.Value | Rejection | None:
    """QuantizeLinear(Relu(x)) -> QuantizeLinear(x)."""
    value = m.root.inputs[0]
    clip = value.producer() if value is not None else None
    if clip is None or clip.op_type not in CLIPS or clip.domain != "" or clip.inputs[0] is None:
        return None
    assert value is not None
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    bounds, found = _bounds(m, clip), _one_scale(m, m.root)
    if bounds is None or found is None:
        return Rejection(NOT_KNOWN, value)
    # Rounding keeps order: what a bound cuts off would have become the same integer.
    if found.integer_of(bounds[0]) > found.lowest or found.integer_of(bounds[1]) < found.highest:
        return Rejection(WITHIN, value)
    return copy_of(m.root, [clip.inputs[0], *m.root.inputs[1:]])


@rule_on(*CLIPS, depth=2)
def clip_after_dequantization(m: Match) -> ir.Value | Rejection | None:
    """Relu(DequantizeLinear(q)) -> DequantizeLinear(q)."""
    value = m.root.inputs[0]
    source = value.producer() if value is not None else None
    if source is None or not is_dequantize(source):
        return None
    bounds, found = _bounds(m, m.root), _one_scale(m, source)
    if bounds is None or found is None:
        return Rejection(NOT_KNOWN, value)
    scale, zero = np.float32(found.scale.reshape(())), int(found.zero_point.reshape(()))
    lowest, highest = (np.float32(end - zero) * scale for end in (found.lowest, found.highest))
    if lowest < np.float32(bounds[0]) or highest > np.float32(bounds[1]):
        return Rejection(WITHIN, value)
    return value


@dataclass(frozen=True)
class RemoveClipsAroundQuantization(Pass):
    """Remove Relus and Clips that the range of the integers makes needless."""

    name = "remove-clips-around-quantization"
    family = "quantization"
    rules = (clip_before_quantization, clip_after_dequantization)
