"""Matrix products: MatMul, Gemm and FullyConnected of floats and integers.

A constant right side is packed into column panels in the form that `precision` asks for; it may be stored
transposed. Two operands that are both made at run time may be views of any strides. Bias, activation and an
added operand are part of the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_float
from graphopt.ir.constants import constant, shape_of
from graphopt.ir.dims import Dim
from graphopt.ir.element_types import UP_TO_FLOAT32
from graphopt.ir.own_operators import ACTIVATIONS, DOMAIN, fully_connected
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.operators.linear_quantized import emit_row_quantized
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__ = ["ACTIVATION_NUMBERS", "Activation", "activation_of"]

F16_LARGEST = 65504.0
MIN_QUANTIZED = 16  # rows and columns of weights that are quantized
_PLAIN = frozenset(
    {
        ir.DataType.DOUBLE,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)

# Numbers of kernels/ops/gemm_end.h.
ACTIVATION_NUMBERS = {
    "": 0,
    "Relu": 1,
    "Clip": 2,
    "LeakyRelu": 3,
    "Sigmoid": 4,
    "Tanh": 5,
    "Gelu": 6,
    "GeluTanh": 7,
    "Silu": 8,
    "HardSigmoid": 9,
    "HardSwish": 10,
    "Elu": 11,
    "Softplus": 12,
    "Mish": 13,
}
RESIDUAL_FIRST, TRANSPOSE_A, TRANSPOSE_B = 1, 2, 4

for _kernel in ("gemm", "gemm.f16", "gemm.bf16", "gemm.s8", "gemm.u4"):
    declare(_kernel, inputs={0: Layout.ANY, 3: Layout.ANY}, outputs=Layout.ROWS)
declare("matmul", inputs={0: Layout.ANY, 1: Layout.ANY, 3: Layout.ANY}, outputs=Layout.ROWS)


@dataclass(frozen=True, slots=True)
class Activation:
    """What follows a product, with its parameters."""

    number: int = 0
    p: float = 0.0
    q: float = 0.0


@dataclass(frozen=True, slots=True)
class Product:
    """end(alpha * a @ b + bias + beta * residual), each of them a register or ABSENT."""

    a: ir.Value
    b: ir.Value
    bias: int = ABSENT
    residual: int = ABSENT
    alpha: float = 1.0
    beta: float = 1.0
    transpose_a: bool = False
    transpose_b: bool = False
    activation: Activation = Activation()

    @property
    def floats(self) -> tuple[float, ...]:
        """Parameters of every kernel here."""
        return (self.alpha, self.activation.p, self.activation.q, self.beta)


def activation_of(node: ir.Node, kind: str) -> Activation:
    """The activation that a node of this kind is, by its attributes."""
    if kind == "Gelu" and attribute(node, "approximate", "none") == "tanh":
        kind = "GeluTanh"
    p, q = {"LeakyRelu": (0.01, 0.0), "HardSigmoid": (0.2, 0.5), "Elu": (1.0, 0.0), "Silu": (1.0, 0.0)}.get(
        kind, (0.0, 0.0)
    )
    return Activation(
        ACTIVATION_NUMBERS[kind], attribute_float(node, "alpha", p), attribute_float(node, "beta", q)
    )


@lowers("MatMul")
def matmul(build: Builder, node: ir.Node) -> NotLowered | None:
    """Numpy's matmul."""
    a, b = node.inputs
    assert a is not None and b is not None, "both operands are required"
    return _emit(build, node, Product(a, b))


@lowers("FusedMatMul", domain="com.microsoft")
def fused_matmul(build: Builder, node: ir.Node) -> NotLowered | None:
    """alpha * a' @ b'."""
    a, b = node.inputs
    assert a is not None and b is not None, "both operands are required"
    if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0):
        return NotLowered("batches are transposed")
    return _emit(
        build,
        node,
        Product(
            a,
            b,
            alpha=attribute_float(node, "alpha", 1.0),
            transpose_a=bool(attribute(node, "transA", 0)),
            transpose_b=bool(attribute(node, "transB", 0)),
        ),
    )


@lowers("Gemm")
def gemm(build: Builder, node: ir.Node) -> NotLowered | None:
    """alpha * a' @ b' + beta * c."""
    a, b, *rest = node.inputs
    assert a is not None and b is not None, "both operands are required"
    c = rest[0] if rest else None
    beta = attribute_float(node, "beta", 1.0)
    bias = residual = ABSENT
    if c is not None and beta != 0:
        bias = _bias(build, c, _columns(build, b, bool(attribute(node, "transB", 0))), beta)
        if bias == ABSENT:
            residual = build.register(c)
    return _emit(
        build,
        node,
        Product(
            a,
            b,
            bias,
            residual,
            attribute_float(node, "alpha", 1.0),
            beta,
            bool(attribute(node, "transA", 0)),
            bool(attribute(node, "transB", 0)),
        ),
    )


@lowers(*(fully_connected(activation) for activation in ("", *ACTIVATIONS)), domain=DOMAIN)
def fully_connected_with_activation(build: Builder, node: ir.Node) -> NotLowered | None:
    """activation(x @ w + b)."""
    x, w, b = node.inputs
    assert x is not None and w is not None and b is not None, "all operands are required"
    columns = _columns(build, w, False)
    bias = _bias(build, b, columns, 1.0)
    if bias == ABSENT:
        return NotLowered("the bias is no vector over the columns")
    kind = node.op_type.removeprefix(fully_connected())
    return _emit(build, node, Product(x, w, bias, activation=activation_of(node, kind)))


def _columns(build: Builder, b: ir.Value, transposed: bool) -> int | None:
    """Columns of a right side, if they are a number."""
    dims = build.dims(b)
    if dims is None or len(dims) < 2:
        return None
    columns = dims[-2 if transposed else -1]
    return columns if type(columns) is int else None


def _bias(build: Builder, c: ir.Value, columns: int | None, beta: float) -> int:
    """The register of a vector with one element a column; ABSENT where c is none."""
    dims = build.dims(c)
    if dims is None or columns is None or any(dim != 1 for dim in dims[:-1]):
        return ABSENT
    array = build.constant(c) if constant(c) is not None else None
    if array is not None and build.dtype(c) in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        if array.size not in (1, columns):
            return ABSENT
        if beta == 1 and array.shape == (columns,):
            return build.register(c)
        scaled = np.multiply(array.reshape(-1), beta, dtype=array.dtype)
        return build.constant_register(np.ascontiguousarray(np.broadcast_to(scaled, (columns,))))
    return build.register(c) if beta == 1 and dims == (columns,) else ABSENT


def _emit(build: Builder, node: ir.Node, product: Product) -> NotLowered | None:
    """The instruction of a product, by what is known of its operands."""
    dtype = build.dtype(product.a)
    if dtype not in UP_TO_FLOAT32 and dtype not in _PLAIN:
        return NotLowered(f"products of element type {dtype}")
    if dtype not in UP_TO_FLOAT32 and product.activation.number:
        return NotLowered("an activation of this element type")
    if build.dtype(product.b) != dtype:
        return NotLowered("operands of two element types")
    if dtype in UP_TO_FLOAT32 and constant(product.b) is not None and build.rank(product.b) == 2:
        return _emit_packed(build, node, product)
    flags = TRANSPOSE_A * product.transpose_a | TRANSPOSE_B * product.transpose_b | RESIDUAL_FIRST
    inputs = [build.register(product.a), build.register(product.b), product.bias, product.residual]
    ints = (product.activation.number, flags)
    build.emit("matmul", inputs, [build.output(node)], ints, product.floats)
    return None


def _emit_packed(build: Builder, node: ir.Node, product: Product) -> NotLowered | None:
    tensor = constant(product.b)
    assert tensor is not None, "only constants are packed"
    depth, columns = shape_of(tensor)[:: -1 if product.transpose_b else 1]
    a = build.register(product.a)
    if product.transpose_a:
        dims = build.dims(product.a)
        if dims is None:
            return NotLowered("the rank of a transposed operand is not known")
        strides = build.strides(a)
        a = build.look(a, _swapped(dims), _swapped(strides))
    if build.precision == "int8" and _is_quantizable(build, product):
        _emit_in_bytes(build, node, product, a)
        return None
    kernel, packer = _form(build, product.b)
    packed = build.packed(packer, [product.b], [int(product.transpose_b)])
    ints = (depth, columns, product.activation.number, RESIDUAL_FIRST)
    inputs = [a, packed, product.bias, product.residual]
    build.emit(kernel, inputs, [build.output(node)], ints, product.floats)
    return None


def _is_quantizable(build: Builder, product: Product) -> bool:
    """Whether a product is to run in 8 bits: the weights are worth a pass over the rows."""
    dims = build.dims(product.b)
    return (
        build.dtype(product.b) == ir.DataType.FLOAT
        and build.dims(product.a) is not None
        and not product.transpose_a
        and dims is not None
        and all(type(dim) is int and dim >= MIN_QUANTIZED for dim in dims)
    )


def _emit_in_bytes(build: Builder, node: ir.Node, product: Product, a: int) -> None:
    weights = build.constant(product.b)
    dims = build.dims(product.a)
    assert weights is not None and dims is not None, "a quantizable product"
    emit_row_quantized(
        build,
        a,
        dims,
        (weights.T if product.transpose_b else weights).astype(np.float32, copy=False),
        (product.bias, product.residual),
        build.output(node),
        (product.activation.number, RESIDUAL_FIRST),
        product.floats,
    )


def _swapped(dims: Sequence[Dim]) -> tuple[Dim, ...]:
    return (*dims[:-2], dims[-1], dims[-2])


def _form(build: Builder, weights: ir.Value) -> tuple[str, str]:
    """Kernel and packer for constant weights."""
    dtype = build.dtype(weights)
    if dtype == ir.DataType.FLOAT16:
        return "gemm.f16", "gemm.f16"
    if dtype == ir.DataType.BFLOAT16 or build.precision == "bf16":
        return "gemm.bf16", "gemm.bf16"
    if build.precision == "f16" and dtype == ir.DataType.FLOAT:
        array = build.constant(weights)
        if array is not None and _fits_half(array):
            return "gemm.f16", "gemm.f16"
    return "gemm", "gemm.f32"


def _fits_half(array: npt.NDArray[np.generic]) -> bool:
    return array.size == 0 or float(np.abs(array).max()) <= F16_LARGEST
