"""Matrix products of bytes: MatMulInteger, QLinearMatMul, DynamicQuantizeMatMul; float weights in 8 bits.

Constant weights are packed; zero points and scales are operands, so that they may be made at run time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.constants import constant, shape_of
from graphopt.ir.dims import Dim
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__ = ["emit_row_quantized", "quantize_columns"]

_BYTES = frozenset({ir.DataType.UINT8, ir.DataType.INT8})

declare("gemm.u8s8", inputs={0: Layout.ROWS, 3: Layout.ANY}, outputs=Layout.ROWS)
declare("matmul.integer", inputs={0: Layout.ANY, 1: Layout.ANY}, outputs=Layout.ROWS)
declare("quantize_rows", inputs=Layout.ROWS)


def _is_single(build: Builder, value: ir.Value | None) -> bool:
    """Whether an operand is absent or one number for all."""
    if value is None:
        return True
    dims = build.dims(value)
    return dims is not None and all(dim == 1 for dim in dims)


def _is_for_columns(build: Builder, value: ir.Value | None, columns: Dim) -> bool:
    """Whether an operand is one number, or a vector over the columns."""
    dims = None if value is None else build.dims(value)
    return _is_single(build, value) or (
        dims is not None and dims[-1] == columns and all(d == 1 for d in dims[:-1])
    )


def _is_for_rows(build: Builder, value: ir.Value | None, a: ir.Value) -> bool:
    """Whether an operand is one number, or has one for each row of a."""
    dims = None if value is None else build.dims(value)
    rows = build.dims(a)
    if _is_single(build, value):
        return True
    if dims is None or rows is None:
        return False
    return dims in {(*rows[:-1], 1), rows[:-1]}


@lowers("MatMulInteger")
def matmul_integer(build: Builder, node: ir.Node) -> NotLowered | None:
    """(a - a_zero) @ (b - b_zero) in 32 bits."""
    a, b = node.inputs[:2]
    a_zero, b_zero = input_of(node, 2), input_of(node, 3)
    assert a is not None and b is not None, "both operands are required"
    if build.dtype(a) not in _BYTES or build.dtype(b) not in _BYTES:
        return NotLowered("operands of these element types")
    columns = (build.dims(b) or (None,))[-1]
    if not _is_for_rows(build, a_zero, a):
        return NotLowered("zero points that are none of rows")
    if b_zero is not None and (columns is None or not _is_for_columns(build, b_zero, columns)):
        return NotLowered("zero points that are none of columns")
    zeros = [build.register(a_zero), build.register(b_zero)]
    _emit(build, node, a, b, [ABSENT, zeros[0], ABSENT, zeros[1], ABSENT, ABSENT])
    return None


@lowers("QLinearMatMul")
def qlinear_matmul(build: Builder, node: ir.Node) -> NotLowered | None:
    """The product of quantized operands, quantized."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.inputs
    assert a is not None and b is not None and y_zero is not None, "all operands are required"
    if build.dtype(a) not in _BYTES or build.dtype(b) not in _BYTES or build.dtype(y_zero) not in _BYTES:
        return NotLowered("operands of these element types")
    if any(build.dtype(scale) != ir.DataType.FLOAT for scale in (a_scale, b_scale, y_scale)):
        return NotLowered("scales of this element type")
    dims = build.dims(b)
    if dims is None or len(dims) < 1:
        return NotLowered("the rank of an operand is not known")
    if not all(_is_for_columns(build, x, dims[-1]) for x in (b_scale, b_zero)):
        return NotLowered("scales that are none of columns")
    if not (
        all(_is_for_rows(build, x, a) for x in (a_scale, a_zero))
        and all(_is_single(build, x) for x in (y_scale, y_zero))
    ):
        return NotLowered("scales of this shape")
    operands = [build.register(x) for x in (a_scale, a_zero, b_scale, b_zero, y_scale, y_zero)]
    _emit(build, node, a, b, operands)
    return None


def _emit(build: Builder, node: ir.Node, a: ir.Value, b: ir.Value, operands: list[int]) -> None:
    """A product with scales and zero points of a, b and the result."""
    if constant(b) is not None and build.rank(b) == 2:
        _emit_packed(build, build.register(a), b, [ABSENT, ABSENT, *operands], build.output(node))
        return
    inputs = [build.register(a), build.register(b), ABSENT, ABSENT, *operands]
    build.emit("matmul.integer", inputs, [build.output(node)], (0, 0))


@lowers("DynamicQuantizeMatMul", domain="com.microsoft")
def dynamic_quantize_matmul(build: Builder, node: ir.Node) -> NotLowered | None:
    """a, quantized as it comes, times constant bytes; the rows of a are quantized one by one."""
    a, b, b_scale = node.inputs[:3]
    b_zero, bias = input_of(node, 3), input_of(node, 4)
    assert a is not None and b is not None, "both operands are required"
    dims = build.dims(a)
    if constant(b) is None or build.rank(b) != 2 or dims is None:
        return NotLowered("both operands are made at run time")
    columns = (build.dims(b) or (0, 0))[1]
    if not all(_is_for_columns(build, x, columns) for x in (b_scale, b_zero)):
        return NotLowered("scales that are none of columns")
    if bias is not None and build.dims(bias) != (columns,):
        return NotLowered("a bias that is no vector")
    quantized, scales, zeros = _quantized_rows(build, build.register(a), dims)
    operands = [build.register(bias), ABSENT, scales, zeros, build.register(b_scale), build.register(b_zero)]
    _emit_packed(build, quantized, b, [*operands, ABSENT, ABSENT], build.output(node))
    return None


def _quantized_rows(build: Builder, x: int, dims: tuple[Dim, ...]) -> tuple[int, int, int]:
    """Bytes of x, scales and zero points of its rows."""
    quantized = build.temporary(ir.DataType.UINT8, dims)
    scales = build.temporary(ir.DataType.FLOAT, dims[:-1])
    zeros = build.temporary(ir.DataType.INT32, dims[:-1])
    build.emit("quantize_rows", [x], [quantized, scales, zeros])
    return quantized, scales, zeros


def _emit_packed(build: Builder, a: int, b: ir.Value, operands: list[int], output: int) -> None:
    tensor = constant(b)
    assert tensor is not None, "only constants are packed"
    depth, columns = shape_of(tensor)
    packed = build.packed("gemm.u8s8", [b], [0])
    unsigned = int(build.dtype(b) == ir.DataType.UINT8)
    build.emit(
        "gemm.u8s8", [a, packed, *operands], [output], (depth, columns, 0, 0, unsigned), (1.0, 0.0, 0.0, 1.0)
    )


def quantize_columns(
    weights: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights [K, N] as bytes around 0 with a scale for each column."""
    largest = np.abs(weights).max(axis=0, initial=0.0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def emit_row_quantized(
    build: Builder,
    x: int,
    dims: tuple[Dim, ...],
    weights: npt.NDArray[np.float32],
    ends: tuple[int, int],
    output: int,
    ints: tuple[int, int],
    floats: tuple[float, ...],
) -> None:
    """The product of float activations with float weights [K, N], both in 8 bits.

    Args:
        build: Where the instructions go.
        x: Register of the activations, with `dims`.
        dims: Its dims.
        weights: What its columns are scaled by is computed here.
        ends: Registers of the bias and of what is added, or ABSENT.
        output: Register of the result.
        ints: Number of the activation, flags.
        floats: alpha, the activation's parameters, beta.
    """
    quantized, scales, zeros = _quantized_rows(build, x, dims)
    packed_weights, column_scales = quantize_columns(weights)
    packed = build.packed("gemm.u8s8", [packed_weights], [0])
    operands = [*ends, scales, zeros, build.constant_register(column_scales), ABSENT, ABSENT, ABSENT]
    depth, columns = weights.shape
    build.emit("gemm.u8s8", [quantized, packed, *operands], [output], (depth, columns, *ints, 0), floats)
