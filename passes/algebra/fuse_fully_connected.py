"""MatMul, bias and activation as one operator of graphopt's own engine.

    before   MatMul(x[..., K], w[K,N]) -> Add(b[N]) -> Relu
    after    ai.graphopt.FullyConnectedRelu(x, w, b)

The operator is a model-local function of just these nodes, so any other runtime runs it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, own_operators
from graphopt.rewriting import Match, Pass, Rejection, constant, gopt, op, rule, rule_on
from graphopt.rewriting.weights import parameter, transposed

NOT_CONSTANT = "the weight is no constant matrix of float32"
OTHER_BIAS = "what is added is no constant vector over the columns"
OTHER_FORM = "the Gemm scales, or reads its first operand transposed"
NOT_STANDARD = "the opset is too old for the activation"


def _is_own(m: Match) -> bool:
    """Whether the root stands in a function of our own: its body is what the operator means."""
    region = m.editor.where.region_of(m.root)
    return (
        region is not None and region.function is not None and region.function.domain == own_operators.DOMAIN
    )


def _columns(m: Match, weight: ir.Value, axis: int) -> int | Rejection:
    tensor = m.tensor(weight)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(constants.shape_of(tensor)) != 2:
        return Rejection(NOT_CONSTANT, weight)
    return constants.shape_of(tensor)[axis]


def _vector(m: Match, bias: ir.Value | None, columns: int) -> ir.Value | np.ndarray | None:
    """The bias as a vector; None if it is no constant one."""
    tensor = m.tensor(bias)
    if tensor is None or tensor.size != columns or tensor.dtype != ir.DataType.FLOAT:
        return None
    shape = constants.shape_of(tensor)
    if len(shape) == 1:
        return bias
    return np.asarray(tensor.numpy()).reshape(-1) if shape and shape[-1] == columns else None


def _connected(
    m: Match, x: ir.Value, w: ir.Value, b: ir.Value | np.ndarray, activation: str = "", **attributes: object
) -> ir.Value:
    name = own_operators.define_fully_connected(m.editor.model, activation)
    bias = constant(b) if isinstance(b, np.ndarray) else b
    result: ir.Value = gopt[name](x, w, bias, **attributes)
    return result


@rule
def matmul_with_bias(x, w, b):
    """Add(MatMul(x, w), b) -> FullyConnected(x, w, b)."""
    return op.Add(op.MatMul(x, w).named("product"), b)


@matmul_with_bias.when
def constant_parameters(m: Match) -> ir.Value | np.ndarray | Rejection:
    columns = Rejection(NOT_CONSTANT, m["w"]) if _is_own(m) else _columns(m, m["w"], 1)
    if isinstance(columns, Rejection):
        return columns
    bias, rank = _vector(m, m["b"], columns), m.rank(m["product"])
    if bias is None or rank is None or rank < (m.rank(m["b"]) or 0):
        return Rejection(OTHER_BIAS, m["b"])
    return bias


@matmul_with_bias.rewrite
def as_fully_connected(m: Match, bias: ir.Value | np.ndarray) -> ir.Value:
    return _connected(m, m["x"], m["w"], bias)


@rule_on("Gemm", depth=1)
def gemm_as_fully_connected(m: Match) -> ir.Value | Rejection | None:
    """Gemm(x, w, b) -> FullyConnected(x, w, b)."""
    x, w, *rest = m.root.inputs
    if not rest or x is None or w is None or _is_own(m):
        return None
    if m.attribute(m.root, "transA") or m.attribute(m.root, "alpha") != 1 or m.attribute(m.root, "beta") != 1:
        return Rejection(OTHER_FORM, m.output)
    is_transposed = bool(m.attribute(m.root, "transB"))
    columns = _columns(m, w, 0 if is_transposed else 1)
    if isinstance(columns, Rejection):
        return columns
    bias = _vector(m, rest[0], columns)
    if bias is None or (is_transposed and parameter(w) is None):
        return Rejection(OTHER_BIAS, rest[0])
    return _connected(m, x, transposed(w) if is_transposed else w, bias)


@rule
def activation_of_fully_connected(x, w, b):
    """Relu(FullyConnected(x, w, b)) -> FullyConnectedRelu(x, w, b)."""
    inner = gopt[own_operators.fully_connected()](x, w, b)
    return op[tuple(own_operators.ACTIVATIONS)](inner)


@activation_of_fully_connected.when
def activation_is_standard(m: Match) -> Rejection | None:
    return (
        Rejection(NOT_STANDARD, m.output)
        if m.opset < own_operators.ACTIVATIONS_SINCE.get(m.root.op_type, 7)
        else None
    )


@activation_of_fully_connected.rewrite
def with_activation(m: Match) -> ir.Value:
    kind = m.root.op_type
    attributes = {name: m.attribute(m.root, name) for name in own_operators.ACTIVATIONS[kind]}
    return _connected(m, m["x"], m["w"], m["b"], kind, **attributes)


@dataclass(frozen=True)
class FuseFullyConnected(Pass):
    """Fuse MatMul, bias and activation into FullyConnected, for graphopt's own engine."""

    name = "fuse-fully-connected"
    family = "algebra"
    stage = "target"
    level = 2
    targets = ("graphopt",)
    bound = "float32 within a few units in the last place: the bias may be added before the products"
    rules = (matmul_with_bias, gemm_as_fully_connected, activation_of_fully_connected)
