"""Leave out inputs that say what the operator does without them.

    before   LSTM(x, w, r, b, , zeros [2, N, H], zeros [2, N, H])
    after    LSTM(x, w, r, b)

Exporters fill the initial states of recurrent layers with zeros of the size of the batch, which takes half
a dozen operators; an absent state is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.uniform import uniform_contents
from graphopt.rewriting import Match, Pass, op, rule_on

STATES = (5, 6)


@rule_on("LSTM", "GRU", "RNN", depth=3)
def zero_state(m: Match) -> list[ir.Value] | None:
    """LSTM(..., initial_h=0) -> LSTM(...)."""
    node = m.root
    assert node.graph is not None
    opsets = m.editor.regions[node.graph].opsets
    inputs = list(node.inputs)
    for place in STATES:
        if place < len(inputs) and _is_zero(inputs[place], opsets):
            inputs[place] = None
    if inputs == list(node.inputs):
        return None
    return list(getattr(op, node.op_type)(*inputs, outputs=len(node.outputs), **node.attributes))


def _is_zero(value: ir.Value | None, opsets: dict[str, int]) -> bool:
    contents = uniform_contents(value, opsets)
    return contents is not None and not contents.any() and not np.signbit(contents)


@dataclass(frozen=True)
class RemoveDefaultInputs(Pass):
    """Leave out the initial states of recurrent layers where they are zero."""

    name = "remove-default-inputs"
    family = "cleanup"
    rules = (zero_state,)
