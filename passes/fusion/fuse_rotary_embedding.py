"""RotaryEmbedding from its parts.

    before   x * c + Concat(-x[.., h:], x[.., :h]) * s
    after    RotaryEmbedding(x, Cos(f), Sin(f))

with c = Unsqueeze(Cos(Concat(f, f)), 1) and s likewise of Sin; x is (batch, heads, length, 2 h), f is
(batch, length, h).

The two halves of the angles are the same by construction (Concat(f, f)), so that one of them does. The halves
of x are cut by two Slices or by a Split. Angles of positions that all batch items share are expanded, once
for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import facts
from graphopt.ir.attributes import axes_of
from graphopt.ir.dims import if_not_empty
from graphopt.rewriting import Match, Pass, Rejection, const, constant, op, rule
from graphopt.rewriting.attention_masks import size_of

__all__ = ["FuseRotaryEmbedding"]

NOT_HALVES = "the rotated parts are not the two halves of the last axis"
NOT_DOUBLED = "cosine and sine are not of angles that are concatenated with themselves"
SHAPES_DIFFER = "angles and values are not provably of one batch and length"


@rule(opset=23)
def rotary_embedding_of_split(x, cosine, sine):
    """x * c + Concat(-x2, x1) * s, x1 and x2 from a Split -> RotaryEmbedding(x, c', s')."""
    low, high = op.Split(x, ..., axis=lambda a: a in (-1, 3), outputs=2)
    rotated = op.Concat(op.Neg(high.named("high")), low.named("low"), axis=lambda a: a in (-1, 3))
    return op.Add(op.Mul(x, cosine), op.Mul(rotated, sine))


@rule(opset=23)
def rotary_embedding(x, cosine, sine):
    """x * c + Concat(-x2, x1) * s -> RotaryEmbedding(x, c', s')."""
    low = op.Slice(x, const("from"), const("middle"), const("axis"), ...)
    high = op.Slice(x, const("start"), const("end"), const("axes"), ...)
    rotated = op.Concat(op.Neg(high.named("high")), low.named("low"), axis=lambda a: a in (-1, 3))
    return op.Add(op.Mul(x, cosine), op.Mul(rotated, sine))


@rotary_embedding.when
@rotary_embedding_of_split.when
def halves(m: Match) -> Rejection | tuple[ir.Value, ir.Value]:
    """The halves of cosine and sine, if all fits."""
    dims = m.dims(m["x"])
    if dims is None or len(dims) != 4 or not isinstance(dims[3], int):
        return Rejection(NOT_HALVES, m["x"])
    size = dims[3]
    for name, begin in (("low", 0), ("high", size // 2)):
        found = m.dims(m[name])
        if found is None or found[3] * 2 != size or _begin(m, m.node(name), size) not in (begin, None):
            return Rejection(NOT_HALVES, m[name])
    angles = []
    for name in ("cosine", "sine"):
        value = _first_half(m, m[name], steps=6)
        if value is None:
            return Rejection(NOT_DOUBLED, m[name])
        angles.append(value)
        shape = tuple(if_not_empty(d) for d in m.dims(m[name]) or ())
        wanted = tuple(if_not_empty(d) for d in (dims[0], 1, *dims[2:]))
        if shape not in (wanted, (1, *wanted[1:])):
            return Rejection(SHAPES_DIFFER, m[name])
    return angles[0], angles[1]


def _begin(m: Match, node: ir.Node, size: int) -> int | None:
    """Where a Slice of the last axis begins, -1 if it is none; None for the halves of a Split, in order."""
    if node.op_type == "Split":
        return None
    start = m.scalar(node.inputs[1])
    steps = m.scalar(node.inputs[4]) if len(node.inputs) > 4 else 1
    if start is None or steps != 1 or axes_of(node, m.opset) not in ((3,), (-1,)):
        return -1
    return int(min(max(start + size if start < 0 else start, 0), size))


def _first_half(m: Match, value: ir.Value, steps: int) -> ir.Value | None:
    """The value below an element-wise chain from Concat(f, f) to Unsqueeze(.., 1); else None."""
    node = value.producer()
    if node is None or steps == 0 or node.domain != "":
        return None
    source = _angles(m, node)
    if node.op_type == "Concat":
        doubled = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
        last = (m.rank(value) or 0) - 1
        return value if doubled and m.attribute(node, "axis") in (-1, last) else None
    is_unary = facts.is_elementwise(node) and len([v for v in node.inputs if v is not None]) == 1
    is_scaled = node.op_type == "Mul" and source is not None and m.rank(source) == m.rank(value)
    is_lifted = node.op_type == "Unsqueeze" and m.rank(value) == 4 and axes_of(node, m.opset) in ((1,), (-3,))
    if source is None or not (is_unary or is_scaled or is_lifted) or facts.is_random(node):
        return None
    return value if _first_half(m, source, steps - 1) is not None else None


def _angles(m: Match, node: ir.Node) -> ir.Value | None:
    """The operand of a node of the chain: the one that is no number, of a product."""
    if node.op_type != "Mul":
        return node.inputs[0]
    operands = [v for v in node.inputs if m.scalar(v) is None]
    return operands[0] if len(operands) == 1 else None


def _rebuilt(m: Match, value: ir.Value) -> ir.Value:
    """The same chain over one half, without the Unsqueeze."""
    node = value.producer()
    source = _angles(m, node) if node is not None else None
    assert node is not None and source is not None
    if node.op_type == "Concat":
        return source
    below = _rebuilt(m, source)
    if node.op_type == "Unsqueeze":
        return below
    if node.op_type == "Mul":
        # As a number: the constant may have dims of one that would raise the rank.
        number = next(m.scalar(v) for v in node.inputs if v is not source)
        return op.Mul(below, number)
    made = getattr(op, node.op_type)(below, **node.attributes)
    assert isinstance(made, ir.Value)
    return made


@rotary_embedding.rewrite
@rotary_embedding_of_split.rewrite
def rotate(m: Match, angles: tuple[ir.Value, ir.Value]) -> ir.Value:
    x = m["x"]
    return op.RotaryEmbedding(x, *(_of_batch(m, _rebuilt(m, a), x) for a in angles))


def _of_batch(m: Match, half: ir.Value, x: ir.Value) -> ir.Value:
    """Angles of one batch item, for all: runtimes want as many as x has."""
    batch, found = (m.dims(x) or (None,))[0], m.dims(half)
    if found is None or found[0] != 1 or batch is None or batch == 1:
        return half
    if isinstance(batch, int):
        return op.Expand(half, [batch, 1, 1])
    return op.Expand(half, op.Concat(size_of(m, batch, x, 0), constant(np.asarray([1, 1])), axis=0))


@dataclass(frozen=True)
class FuseRotaryEmbedding(Pass):
    """Fuse rotary position embeddings into RotaryEmbedding."""

    name = "fuse-rotary-embedding"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of x"
    rules = (rotary_embedding, rotary_embedding_of_split)
