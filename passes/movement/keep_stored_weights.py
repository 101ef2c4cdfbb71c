"""Let Gemm read a large weight as the source has it, rather than transposed.

    before   Gemm(x, w')             w' is w transposed, to be computed when the result is saved
    after    Gemm(x, w, transB=1)

Folding has made w' of a Transpose. Gemm reads either order in the same time, and what lies in a file as it is
wanted is copied inside the kernel; another operator that takes w itself then shares it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import constant as constant_of
from graphopt.ir.lazy import Transposed
from graphopt.rewriting import Match, Pass, Rejection, constant, rule_on
from graphopt.rewriting.weights import copy_of

OTHER_CONSUMERS = "another operator takes the transposed weight"
IS_COMPUTED = "what is transposed has to be computed as well"

_GEMMS = frozenset({("", "Gemm"), ("com.microsoft", "FusedGemm")})


@rule_on("Gemm", depth=1)
def transposed_weight(m: Match) -> ir.Value | Rejection | None:
    """Gemm(x, Transpose(w)) -> Gemm(x, w, transB=1)."""
    return _on_stored_weight(m)


@rule_on("FusedGemm", domain="com.microsoft", depth=1)
def transposed_weight_of_fused(m: Match) -> ir.Value | Rejection | None:
    """FusedGemm(x, Transpose(w)) -> FusedGemm(x, w, transB=1)."""
    return _on_stored_weight(m)


def _on_stored_weight(m: Match) -> ir.Value | Rejection | None:
    weight = m.root.inputs[1]
    tensor = None if weight is None else constant_of(weight)
    if weight is None or not isinstance(tensor, Transposed) or tensor.perm != (1, 0) or m.opset < 7:
        return None
    consumers = weight.uses()
    if any((use.node.domain, use.node.op_type) not in _GEMMS or use.idx != 1 for use in consumers):
        return Rejection(OTHER_CONSUMERS, weight)
    if weight.is_graph_output():
        return Rejection(OTHER_CONSUMERS, weight)
    if isinstance(tensor.source, ir.LazyTensor):
        return Rejection(IS_COMPUTED, weight)
    x, _, *rest = m.root.inputs
    transposed = {} if m.attribute(m.root, "transB") else {"transB": 1}
    return copy_of(m.root, [x, _stored(m, tensor.source), *rest], without=("transB",), **transposed)


def _stored(m: Match, tensor: ir.TensorProtocol) -> ir.Value:
    """The tensor as a value: the one that it came from, where it is still there."""
    graph = m.root.graph
    if graph is not None and m.editor.regions[graph].function is None:
        for value in m.editor.model.graph.initializers.values():
            if constant_of(value) is tensor:
                return value
    return constant(tensor)


@dataclass(frozen=True)
class KeepStoredWeights(Pass):
    """Let Gemm read a large weight as the source has it, rather than transposed."""

    name = "keep-stored-weights"
    family = "movement"
    stage = "finish"
    level = 2
    bound = "float32 within a few units in the last place: a kernel may sum the products in another order"
    rules = (transposed_weight, transposed_weight_of_fused)
