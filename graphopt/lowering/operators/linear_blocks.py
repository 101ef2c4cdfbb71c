"""MatMulNBits: floats times constant weights of a few bits, whose scales are shared in blocks along K."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute_int
from graphopt.lowering.builder import Builder
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})


@lowers("MatMulNBits", domain="com.microsoft")
def matmul_n_bits(build: Builder, node: ir.Node) -> NotLowered | None:
    """a @ w' + bias, where w[N, K] = (bits - zero point) * scale."""
    a, b, scales, *rest = node.inputs
    assert a is not None, "the left side is required"
    zeros, order, bias = (rest[i] if i < len(rest) else None for i in range(3))
    if build.dtype(a) not in _FLOATS or order is not None:
        return NotLowered("operands of this form")
    depth, columns, bits, block = (attribute_int(node, name) for name in ("K", "N", "bits", "block_size"))
    bits = bits or 4
    stored, scale_values = build.constant(b), build.constant(scales)
    zero_values = None if zeros is None else build.constant(zeros)
    if stored is None or scale_values is None or (zeros is not None and zero_values is None):
        return NotLowered("weights that are no constants")
    blocks = -(-depth // block)
    per_block = scale_values.reshape(columns, blocks).astype(np.float32)
    zero_points = _zero_points(zero_values, bits, (columns, blocks))
    stored = np.ascontiguousarray(stored).view(np.uint8).reshape(columns, blocks, -1)
    inputs = [build.register(a), ABSENT, build.register(bias), ABSENT]
    ints = (depth, columns, 0, 0)
    if bits == 4:
        inputs[1] = build.packed("gemm.u4", [stored, per_block, zero_points], (*ints[:2], block))
        build.emit("gemm.u4", inputs, [build.output(node)], (*ints, block), (1.0,))
        return None
    values = _unpacked(stored, bits, block) - zero_points[..., None]
    weights = (values * per_block[..., None]).reshape(columns, -1)[:, :depth].astype(np.float32)
    inputs[1] = build.packed("gemm.f32", [weights], [1])
    build.emit("gemm", inputs, [build.output(node)], ints, (1.0,))
    return None


def _unpacked(stored: npt.NDArray[np.generic], bits: int, count: int) -> npt.NDArray[np.float32]:
    """The first `count` numbers of the bytes along the last axis; the low bits of a byte come first."""
    as_bits = np.unpackbits(stored.astype(np.uint8), axis=-1, bitorder="little")
    used = as_bits[..., : as_bits.shape[-1] // bits * bits].reshape(*stored.shape[:-1], -1, bits)
    weights = (1 << np.arange(bits)).astype(np.float32)
    return (used @ weights)[..., :count].astype(np.float32)


def _zero_points(
    stored: npt.NDArray[np.generic] | None, bits: int, shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """One a block: floats as they are, or numbers of `bits` bits; the middle of the range without any."""
    if stored is None:
        return np.full(shape, 1 << (bits - 1), np.float32)
    if stored.dtype != np.uint8:
        return stored.reshape(shape).astype(np.float32)
    return np.ascontiguousarray(_unpacked(stored.reshape(shape[0], -1), bits, shape[1]))
