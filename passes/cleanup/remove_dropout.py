"""Remove Dropout where it does nothing: at inference.

    before   y, mask = Dropout(x)
    after    y = x, mask = all true

Before opset 7 an attribute tells inference from training; from 12 on an input does, false where it is absent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.constants import uniform
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

TRAINS = "it may run in training mode"
MASK_IS_NEEDED = "the mask is needed and its size is not known"

# Above this a mask of ones is better made at run time.
LARGEST_MASK = 4096


def _trains(m: Match) -> bool:
    node = m.root
    if m.opset < 7:
        return m.attribute(node, "is_test", 0) == 0
    mode = node.inputs[2] if m.opset >= 12 and len(node.inputs) > 2 else None
    return mode is not None and uniform(mode) is not False


@rule_on("Dropout", depth=1)
def at_inference(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """Dropout(x) -> x."""
    x = m.root.inputs[0]
    assert x is not None
    if _trains(m):
        return Rejection(TRAINS, x)
    found = {m.output: x}
    for mask in m.root.outputs[1:]:
        if mask.uses() or mask.is_graph_output():
            # What the mask holds at inference is written down from opset 12 on.
            dims = m.dims(x)
            sizes = [d for d in dims or () if isinstance(d, int)]
            if m.opset < 12 or dims is None or len(sizes) < len(dims) or np.prod(sizes) > LARGEST_MASK:
                return Rejection(MASK_IS_NEEDED, mask)
            ones = np.ones(sizes, np.bool_)
            found[mask] = op.Constant(value=ir.tensor(ones)) if mask.is_graph_output() else constant(ones)
    return found


@dataclass(frozen=True)
class RemoveDropout(Pass):
    """Remove Dropout at inference."""

    name = "remove-dropout"
    family = "cleanup"
    rules = (at_inference,)
