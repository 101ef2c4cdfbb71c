"""Attention with the projections of its queries, keys and values as onnxruntime's packed Attention.

    before   Attention(x @ wq + bq, x @ wk + bk, x @ wv + bv)
    after    com.microsoft.Attention(x, [wq wk wv], [bq bk bv])

Seven operators become one. Whole models with one thread take 0.99 (vit) and 1.00 (whisper) of the time if
there is no mask, but 1.01 to 1.02 (bert, distilbert, roberta) with one: that is packed only where
`masked=true` asks for fewer operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import lazy
from graphopt.ir.operands import input_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, ms, rule_on

NOT_SELF_ATTENTION = "queries, keys and values are not projections of one value"
NO_KERNEL = "the kernel has no counterpart of an input, output or attribute"
MASK_SHAPE = "the mask is not provably (batch or 1, heads or 1, queries, keys) in float32"
IS_MASKED = "packing is slower with a mask, and was not asked for"
WEIGHT_IS_SHARED = "a weight has other uses: packing would store it twice"

# Attributes that the packed operator has no counterpart of, at the values where none is needed.
PLAIN = {"is_causal": 0, "softcap": 0.0, "qk_matmul_output_mode": 0}


@dataclass(frozen=True)
class Projection:
    """x @ weight + bias."""

    x: ir.Value
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol | None

    @property
    def width(self) -> int:
        return int(self.weight.shape.numpy()[1])


# Timed in turns, the packed spelling takes 0.97 to 0.99 (targets/onnxruntime.py): less than what the table,
# whose operators are timed one by one, can tell.
@rule_on("Attention", depth=3, may_slow=True)
def projected_attention(m: Match) -> ir.Value | Rejection | None:
    """Attention(x @ wq + bq, x @ wk + bk, x @ wv + bv) -> com.microsoft.Attention(x, w, b)."""
    node = m.root
    heads = m.attribute(node, "q_num_heads")
    if heads is None or heads != m.attribute(node, "kv_num_heads") or not isinstance(heads, int):
        return None
    if any(m.attribute(node, name) not in (None, plain) for name, plain in PLAIN.items()):
        return Rejection(NO_KERNEL, m.output)
    if any(v is not None for v in node.inputs[4:]) or any(v.uses() for v in node.outputs[1:]):
        return Rejection(NO_KERNEL, m.output)
    parts: list[Projection] = []
    for value in node.inputs[:3]:
        part = _projection(m, value)
        if part is None or isinstance(part, Rejection):
            return part
        parts.append(part)
    query, keys, _ = parts
    if not query.x is keys.x is parts[2].x or query.width != keys.width:
        return Rejection(NOT_SELF_ATTENTION, m.output)
    mask = input_of(node, 3)
    if mask is not None and not getattr(m.options, "masked", False):
        return Rejection(IS_MASKED, mask)
    if mask is not None and not _fits(m, mask, query.x, heads):
        return Rejection(MASK_SHAPE, mask)
    attributes: dict[str, object] = {"num_heads": heads, "scale": m.attribute(node, "scale")}
    if parts[2].width != query.width:
        attributes["qkv_hidden_sizes"] = [part.width for part in parts]
    return ms.Attention(
        query.x, constant(_weights(parts)), constant(_biases(parts)), None, None, mask, **attributes
    )


def _projection(m: Match, value: ir.Value | None) -> Projection | Rejection | None:
    """The product with a constant that makes a value of (batch, length, width), and what is added to it."""
    if value is None or m.rank(value) != 3:
        return None
    if not m.editor.target.runs("com.microsoft", "Attention", m.dtype(value)):
        return None
    node, bias = value.producer(), None
    if node is not None and node.op_type == "Add" and node.domain == "":
        first, second = node.inputs
        assert first is not None and second is not None, "Add has no optional inputs"
        added, product = (second, first) if m.tensor(second) is not None else (first, second)
        bias = m.tensor(added)
        if bias is None or not m.has_one_consumer(value):
            return None
        value, node = product, product.producer()
    if node is None or node.op_type != "MatMul" or node.domain != "":
        return None
    if not m.has_one_consumer(value) or node.graph is not m.root.graph:
        return Rejection(HAS_OTHER_CONSUMERS, value)
    x, w = node.inputs
    weight = m.tensor(w)
    if x is None or w is None or weight is None or len(weight.shape) != 2 or m.rank(x) != 3:
        return None
    if len(w.uses()) > 1:
        return Rejection(WEIGHT_IS_SHARED, w)
    # A bias for each column: what broadcasts otherwise is none.
    if bias is not None and tuple(bias.shape.numpy()) != (weight.shape[1],):
        return None
    return Projection(x, weight, bias)


def _fits(m: Match, mask: ir.Value, x: ir.Value, heads: int) -> bool:
    """Whether the kernel takes the mask: it repeats one over batch and heads, but not over lengths."""
    dims, source = m.dims(mask), m.dims(x)
    if m.dtype(mask) is not ir.DataType.FLOAT or dims is None or source is None or len(dims) != 4:
        return False
    batch, length = source[0], source[1]
    return dims[0] in (1, batch) and dims[1] in (1, heads) and dims[2] == length and dims[3] == length


def _weights(parts: Sequence[Projection]) -> ir.TensorProtocol:
    rows = int(parts[0].weight.shape.numpy()[0])
    return lazy.mapped(
        [part.weight for part in parts],
        lambda *arrays: np.concatenate(arrays, axis=1),
        parts[0].weight.dtype,
        [rows, sum(part.width for part in parts)],
    )


def _biases(parts: Sequence[Projection]) -> np.ndarray:
    return np.concatenate(
        [np.zeros(part.width, np.float32) if part.bias is None else part.bias.numpy() for part in parts]
    )


@dataclass(frozen=True)
class PackProjections(Pass):
    """Pack the projections of queries, keys and values into onnxruntime's Attention.

    Attributes:
        masked: Whether to pack where there is a mask too: fewer operators, up to 1.02 of the time.
    """

    masked: bool = False

    name = "pack-projections"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest value"
    rules = (projected_attention,)
