"""Products of floats with stored weights as onnxruntime's operator for them.

    before   MatMul(x, DequantizeLinear(w)) -> Add(b)
    after    com.microsoft.MatMulNBits(x, w in blocks along K, scales, b)

onnxruntime makes such products itself when it loads a model, in blocks of 32 and with inputs that it rounds
to 8 bits a block. In blocks of 256 they take 0.70 to 1.0 of the time (75 x 1024 x 256: 261 of 381 us); the
rounding of inputs is a little coarser. `accuracy-level` 1 computes floats, at 2 to 17 times the time. This is
not what the model says but what comes with fewer bits: `graphopt quantize` does it, `optimize` on request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import constants, lazy
from graphopt.ir.quantization import is_dequantize
from graphopt.rewriting import Match, Pass, Rejection, constant, ms, op, rule, rule_on
from graphopt.rewriting.stored_matrices import OTHER_WEIGHT, Stored, stored_matrix

OTHER_FORM = "the Gemm scales, reads its first operand transposed or adds what is no vector"
OTHER_BIAS = "what is added is no constant vector over the columns"
OTHER_INPUT = "the left side is dequantized, or not of float32"

# The sizes of blocks that there are kernels for.
LARGEST, SMALLEST = 256, 16
_LEVELS = (0, 1, 4)
_ZERO_OF_4_BITS = 8


@rule_on("MatMul", "Gemm", depth=2)
def product_with_stored_weights(m: Match) -> ir.Value | Rejection | None:
    """MatMul(x, DequantizeLinear(w)) -> MatMulNBits(x, w, scales)."""
    x, w, *rest = m.root.inputs
    source = w.producer() if w is not None else None
    if x is None or source is None or not is_dequantize(source) or source.domain != "":
        return None
    bias = rest[0] if rest else None
    if m.root.op_type == "Gemm" and (
        m.attribute(m.root, "transA") or m.attribute(m.root, "alpha") != 1 or m.attribute(m.root, "beta") != 1
    ):
        return Rejection(OTHER_FORM, m.output)
    maker = x.producer()
    if m.dtype(x) is not ir.DataType.FLOAT or (maker is not None and is_dequantize(maker)):
        return Rejection(OTHER_INPUT, x)
    stored = stored_matrix(m, source, is_transposed=bool(m.attribute(m.root, "transB", 0)))
    if isinstance(stored, Rejection):
        return stored
    depth, columns = constants.shape_of(_tensor(stored.codes))
    if bias is not None and (m.tensor(bias) is None or m.dims(bias) != (columns,)):
        return Rejection(OTHER_FORM, bias)
    found = _blocks(stored, depth, columns)
    if found is None:
        return Rejection(OTHER_WEIGHT, w)
    bits, size, codes, scales = found
    assert isinstance(m.options, FuseStoredProducts), "the pass that the rule is of"
    return ms.MatMulNBits(
        x,
        constant(codes),
        constant(scales),
        None,
        None,
        bias,
        K=depth,
        N=columns,
        bits=bits,
        block_size=size,
        accuracy_level=m.options.accuracy_level,
    )


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    tensor = constants.constant(value)
    assert tensor is not None, "stored weights are constants"
    return tensor


def _blocks(
    stored: Stored, depth: int, columns: int
) -> tuple[int, int, ir.TensorProtocol, np.ndarray] | None:
    """Bits, the size of blocks, codes and scales as the operator has them; None where it has no such form."""
    tensor, scale = _tensor(stored.codes), _tensor(stored.scale).numpy().astype(np.float32)
    if stored.is_plain and depth >= SMALLEST:
        size = min(LARGEST, 1 << (depth - 1).bit_length())
        blocks = -(-depth // size)
        codes = lazy.mapped(
            (tensor,), lambda a: _bytes(a, blocks, size), ir.DataType.UINT8, (columns, blocks, size)
        )
        each = np.broadcast_to(scale.reshape(-1), (columns,))
        return 8, size, codes, np.repeat(each, blocks).reshape(columns, blocks)
    size = stored.block_size
    is_power = SMALLEST <= size <= LARGEST and size & (size - 1) == 0
    if tensor.dtype is not ir.DataType.INT4 or stored.axis != 0 or not is_power:
        return None
    blocks = -(-depth // size)
    codes = lazy.mapped(
        (tensor,), lambda a: _nibbles(a, blocks, size), ir.DataType.UINT8, (columns, blocks, size // 2)
    )
    return 4, size, codes, np.ascontiguousarray(scale.T)


def _bytes(codes: np.ndarray, blocks: int, size: int) -> np.ndarray:
    """[K, N] around 0 as [N, blocks, size] around 128."""
    depth, columns = codes.shape
    found = np.full((columns, blocks * size), 128, np.uint8)
    found[:, :depth] = (codes.T.astype(np.int16) + 128).astype(np.uint8)
    return found.reshape(columns, blocks, size)


def _nibbles(codes: np.ndarray, blocks: int, size: int) -> np.ndarray:
    """[K, N] around 0 as pairs around 8, the first of them in the low half of a byte."""
    depth, columns = codes.shape
    found = np.full((columns, blocks * size), _ZERO_OF_4_BITS, np.uint8)
    found[:, :depth] = (codes.astype(np.int8).T + _ZERO_OF_4_BITS).astype(np.uint8)
    pairs = found.reshape(columns, blocks, size // 2, 2)
    return np.ascontiguousarray(pairs[..., 0] | (pairs[..., 1] << 4))


@rule
def bias_of_stored_product(bias):
    """Add(MatMulNBits(x, w, scales), b) -> MatMulNBits(x, w, scales, b)."""
    return op.Add(ms.MatMulNBits(...).named("product"), bias)


@bias_of_stored_product.when
def over_columns(m: Match) -> Rejection | None:
    node, tensor = m.node("product"), m.tensor(m["bias"])
    columns = m.attribute(node, "N")
    if (len(node.inputs) > 5 and node.inputs[5] is not None) or tensor is None:
        return Rejection(OTHER_BIAS, m["bias"])
    shape, rank = constants.shape_of(tensor), m.rank(m["product"])
    if not shape or shape[-1] != columns or tensor.size != columns or rank is None or len(shape) > rank:
        return Rejection(OTHER_BIAS, m["bias"])
    return None


@bias_of_stored_product.rewrite
def with_bias(m: Match) -> ir.Value:
    node = m.node("product")
    inputs = [*node.inputs, None, None][:5]
    array = m.array("bias")
    assert array is not None, "the bias is a constant"
    bias = m["bias"] if array.ndim == 1 else constant(array.reshape(-1))
    return ms.MatMulNBits(*inputs, bias, **node.attributes)


@dataclass(frozen=True)
class FuseStoredProducts(Pass):
    """Fuse products of floats with stored weights into onnxruntime's operator for them.

    Attributes:
        accuracy_level: 4: inputs are rounded to 8 bits a block; 1: floats; 0: as the runtime likes.
    """

    name = "fuse-stored-products"
    family = "quantization"
    stage = "on-request"
    level = 2
    targets = ("onnxruntime",)
    bound = "inputs are rounded to 8 bits a block, as onnxruntime does by itself"
    rules = (product_with_stored_weights, bias_of_stored_product)

    accuracy_level: int = 4

    def __post_init__(self) -> None:
        if self.accuracy_level not in _LEVELS:
            raise UsageError(f"accuracy-level is one of {_LEVELS}, not {self.accuracy_level}")
