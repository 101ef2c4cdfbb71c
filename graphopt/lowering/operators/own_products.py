"""Products of our own domain with stored weights: bytes by bytes, floats by bytes or by blocks of 4 bits.

An x that is quantized here becomes unsigned bytes, whatever its zero point's type: the numbers are the same,
and products take unsigned bytes as they are. Each product quantizes its x; what is equal is merged later.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute_int
from graphopt.ir.constants import constant
from graphopt.ir.dims import Dim
from graphopt.ir.operands import input_of
from graphopt.ir.own_operators import DOMAIN, PRODUCTS, Product
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_program import Op
from graphopt.lowering.elementwise_writer import ElementwiseWriter
from graphopt.lowering.operators.linear import RESIDUAL_FIRST, Activation, activation_of
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

Array = npt.NDArray[np.generic]

_NIBBLES = {ir.DataType.INT4: 8, ir.DataType.UINT4: 0}


@lowers(*PRODUCTS, domain=DOMAIN)
def own_product(build: Builder, node: ir.Node) -> NotLowered | None:
    """activation(x @ w + b) + r, w in integers."""
    product = PRODUCTS[node.op_type]
    w, scale = (node.inputs[product.index(name)] for name in ("w", "w_scale"))
    x, codes, scales = node.inputs[0], build.constant(w), build.constant(scale)
    dims = None if x is None else build.dims(x)
    if x is None or dims is None or not dims or codes is None or scales is None or codes.ndim != 2:
        return NotLowered("operands of this form")
    ends = [build.register(node.inputs[product.index(k)]) if k in product.inputs else ABSENT for k in "br"]
    activation = Activation()
    if product.activation:
        activation = activation_of(node, product.activation)
    if product.form == "Compressed":
        return _compressed(build, node, ends, activation)
    if product.form == "Dynamic":
        return _dynamic(build, node, dims, ends, activation)
    return _of_bytes(build, node, product, ends, activation)


def _columns(scales: Array, columns: int) -> npt.NDArray[np.float32]:
    """A float32 scale for each column."""
    wide = scales.astype(np.float32).reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(wide, (columns,)))


def _of_bytes(
    build: Builder, node: ir.Node, product: Product, ends: list[int], activation: Activation
) -> NotLowered | None:
    """Bytes by bytes, summed exactly; scaled by both scales at once, as the body does."""
    x, x_scale, x_zero, w, w_scale = node.inputs[:5]
    assert x is not None and w is not None, "operands are required"
    one, zero = build.constant(x_scale), build.constant(x_zero)
    codes, scales = build.constant(w), build.constant(w_scale)
    if one is None or zero is None or codes is None or scales is None or one.size != 1 or zero.size != 1:
        return NotLowered("scales that are made at run time")
    if codes.dtype != np.int8:
        return NotLowered("weights of this element type")
    depth, columns = codes.shape
    middle = int(zero.reshape(-1)[0])
    register = build.register(x)
    if product.form == "Quantized":
        raised = middle + 128 if zero.dtype == np.int8 else middle
        dims = build.dims(x)
        assert dims is not None, "asked before"
        register = build.temporary(ir.DataType.UINT8, dims)
        problem = _quantized(build, node, x, float(one.reshape(-1)[0]), raised, register)
        if problem is not None:
            return problem
        middle = raised
    factors = (one.astype(np.float32).reshape(-1)[:1] * _columns(scales, columns)).astype(np.float32)
    inputs = [
        register,
        build.packed("gemm.u8s8", [_source(w)], [0]),
        *ends,
        ABSENT,
        build.constant_register(np.asarray([middle], np.int32)),
        build.constant_register(factors),
        ABSENT,
        ABSENT,
        ABSENT,
    ]
    ints = (depth, columns, activation.number, RESIDUAL_FIRST, 0)
    floats = (1.0, activation.p, activation.q, 1.0)
    build.emit("gemm.u8s8", inputs, [build.output(node)], ints, floats)
    return None


def _dynamic(
    build: Builder, node: ir.Node, dims: tuple[Dim, ...], ends: list[int], activation: Activation
) -> NotLowered | None:
    """Bytes by bytes, the left ones made by the range of x."""
    x, w, w_scale = node.inputs[:3]
    assert x is not None and w is not None, "operands are required"
    codes, scales = build.constant(w), build.constant(w_scale)
    if codes is None or scales is None or codes.dtype != np.int8:
        return NotLowered("weights of this element type")
    depth, columns = codes.shape
    quantized = build.temporary(ir.DataType.UINT8, dims)
    scale, zero = build.temporary(ir.DataType.FLOAT, ()), build.temporary(ir.DataType.UINT8, ())
    build.emit("dynamic_quantize", [build.register(x)], [quantized, scale, zero])
    factors = build.constant_register(_columns(scales, columns))
    packed = build.packed("gemm.u8s8", [_source(w)], [0])
    inputs = [quantized, packed, *ends, scale, zero, factors, ABSENT, ABSENT, ABSENT]
    ints = (depth, columns, activation.number, RESIDUAL_FIRST, 0)
    build.emit("gemm.u8s8", inputs, [build.output(node)], ints, (1.0, activation.p, activation.q, 1.0))
    return None


@lowers("MatMulIntegerToFloat", domain="com.microsoft")
def matmul_integer_to_float(build: Builder, node: ir.Node) -> NotLowered | None:
    """Bytes by constant bytes, scaled by both scales, and a bias."""
    x, w = node.inputs[:2]
    x_scale, w_scale, x_zero, w_zero, bias = (input_of(node, i) for i in range(2, 7))
    assert x is not None and w is not None, "operands are required"
    codes, one, scales = build.constant(w), build.constant(x_scale), build.constant(w_scale)
    if codes is None or codes.ndim != 2 or build.dims(x) is None:
        return NotLowered("weights that are made at run time")
    if scales is None or (w_zero is not None and build.constant(w_zero) is None):
        return NotLowered("scales that are made at run time")
    depth, columns = codes.shape
    if one is not None and one.size == 1:
        factors = one.astype(np.float32).reshape(-1)[:1] * _columns(scales, columns)
        row_scale, column_scales = ABSENT, build.constant_register(factors.astype(np.float32))
    elif x_scale is not None and build.rank(x_scale) in (0, 1):
        row_scale, column_scales = build.register(x_scale), build.constant_register(_columns(scales, columns))
    else:
        return NotLowered("a scale of this form")
    operands = [build.register(bias), ABSENT, row_scale, build.register(x_zero), column_scales]
    operands += [build.register(w_zero), ABSENT, ABSENT]
    ints = (depth, columns, 0, 0, int(codes.dtype == np.uint8))
    inputs = [build.register(x), build.packed("gemm.u8s8", [w], [0]), *operands]
    build.emit("gemm.u8s8", inputs, [build.output(node)], ints, (1.0, 0.0, 0.0, 1.0))
    return None


def _source(value: ir.Value) -> ir.Value:
    assert constant(value) is not None, "only constants are packed"
    return value


def _quantized(
    build: Builder, node: ir.Node, x: ir.Value, scale: float, zero: int, output: int
) -> NotLowered | None:
    """x as unsigned bytes."""
    writer = ElementwiseWriter(build, node)
    result = writer.apply(
        Op.QUANTIZE,
        writer.value(x),
        writer.constant(ir.DataType.FLOAT, scale),
        writer.constant(ir.DataType.UINT8, zero),
        to=ir.DataType.UINT8,
        immediates=(1.0, 0.0),
    )
    return writer.emit((result,), [output])


def _compressed(build: Builder, node: ir.Node, ends: list[int], activation: Activation) -> NotLowered | None:
    """Floats by stored integers, widened where they are read."""
    x, w, w_scale = node.inputs[:3]
    assert x is not None and w is not None, "operands are required"
    codes, scales = build.constant(w), build.constant(w_scale)
    assert codes is not None and scales is not None, "asked before"
    depth, columns = codes.shape
    block, axis = attribute_int(node, "block_size"), attribute_int(node, "axis")
    ints = (depth, columns, activation.number, RESIDUAL_FIRST)
    floats = (1.0, activation.p, activation.q, 1.0)
    a = build.register(x)
    dtype = build.dtype(w)
    if dtype == ir.DataType.INT8 and not block and axis % 2 == 1:
        inputs = [a, build.packed("gemm.s8", [_source(w)], [0]), *ends]
        inputs.append(build.constant_register(_columns(scales, columns)))
        build.emit("gemm.s8", inputs, [build.output(node)], ints, floats)
        return None
    if dtype in _NIBBLES and block and axis % 2 == 0 and block % 2 == 0:
        sources = _nibbles(codes, scales, block, _NIBBLES[dtype])
        inputs = [a, build.packed("gemm.u4", sources, (depth, columns, block)), *ends]
        build.emit("gemm.u4", inputs, [build.output(node)], (*ints, block), floats)
        return None
    return NotLowered("weights of this form")


def _nibbles(codes: Array, scales: Array, block: int, middle: int) -> list[Array]:
    """Codes [K, N] as `gemm.u4` packs them: [N, blocks, bytes], a scale and a zero point for each block."""
    depth, columns = codes.shape
    blocks = -(-depth // block)
    raised = np.full((columns, blocks * block), middle, np.uint8)
    raised[:, :depth] = (codes.astype(np.int8).T + middle).astype(np.uint8)
    pairs = raised.reshape(columns, blocks, block // 2, 2)
    stored = np.ascontiguousarray(pairs[..., 0] | (pairs[..., 1] << 4))
    return [
        stored,
        np.ascontiguousarray(scales.astype(np.float32).T),
        np.full((columns, blocks), float(middle), np.float32),
    ]
