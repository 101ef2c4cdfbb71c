"""Convolutions over one value whose results are stacked, as one convolution.

before   Concat(Conv(x, v), Conv(x, w), axis = 1)
after    Conv(x, [v; w])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.convolutions import geometry_of
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, Rejection, constant, rule_on
from graphopt.rewriting.weights import LAZY_BYTES, copy_of, parameter

NOT_ALIKE = "the parts are not convolutions of one value that read it in one way"
NOT_CONSTANT = "weights or biases are no constants, or others need them too"


@rule_on("Concat", depth=2)
def stacked_convolutions(m: Match) -> ir.Value | Rejection | None:
    """Concat(Conv(x, v), Conv(x, w)) -> Conv(x, [v; w])."""
    nodes = [v.producer() for v in m.root.inputs if v is not None]
    first = nodes[0] if nodes else None
    if first is None or first.op_type != "Conv" or len(nodes) != len(m.root.inputs) or len(nodes) < 2:
        return None
    rank, axis = m.rank(m.output), m.attribute(m.root, "axis")
    if rank is None or axis not in (1, 1 - rank):
        return None
    geometry = geometry_of(first)
    convs = [n for n in nodes if n is not None and n.op_type == "Conv" and n.domain == ""]
    if geometry is None or geometry.groups != 1 or len(convs) != len(nodes):
        return Rejection(NOT_ALIKE, m.output)
    for conv in convs:
        if conv.inputs[0] is not first.inputs[0] or geometry_of(conv) != geometry:
            return Rejection(NOT_ALIKE, conv.outputs[0])
        if not m.has_one_consumer(conv.outputs[0]):
            return Rejection(NOT_ALIKE, conv.outputs[0])
    weights = [parameter(conv.inputs[1]) for conv in convs]
    biases = [input_of(conv, 2) for conv in convs]
    arrays = [m.array(bias) for bias in biases]
    missing = any(b is not None and a is None for b, a in zip(biases, arrays, strict=True))
    kept = [w for w in weights if w is not None and w.dtype in FLOATS]
    if missing or len(kept) != len(convs) or len({w.dtype for w in kept}) != 1:
        return Rejection(NOT_CONSTANT, m.output)
    return copy_of(first, [first.inputs[0], _stacked(kept), _stacked_bias(kept, arrays)])


def _stacked(weights: list[ir.TensorProtocol]) -> ir.Value:
    shapes = [constants.shape_of(w) for w in weights]
    dims = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    found = lazy.mapped(weights, lambda *arrays: np.concatenate(arrays), weights[0].dtype, dims)
    return constant(found if found.nbytes > LAZY_BYTES else found.numpy())


def _stacked_bias(weights: list[ir.TensorProtocol], biases: list[np.ndarray | None]) -> np.ndarray | None:
    if all(bias is None for bias in biases):
        return None
    dtype = weights[0].dtype.numpy()
    counts = [constants.shape_of(w)[0] for w in weights]
    return np.concatenate(
        [np.zeros(n, dtype) if b is None else b for n, b in zip(counts, biases, strict=True)]
    )


@dataclass(frozen=True)
class MergeStackedConvolutions(Pass):
    """Merge convolutions over one value whose results are stacked."""

    name = "merge-stacked-convolutions"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place: a runtime may take another path for more channels"
    rules = (stacked_convolutions,)
