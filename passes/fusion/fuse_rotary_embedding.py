"""RotaryEmbedding from its parts.

    before   x * c + Concat(-x[.., h:], x[.., :h]) * s
    after    RotaryEmbedding(x, Cos(f), Sin(f))

with c = Unsqueeze(Cos(Concat(f, f)), 1) and s likewise of Sin; x is (batch, heads, length, 2 h), f is
(batch, length, h).

The two halves of the angles are the same by construction (Concat(f, f)), so that one of them does. Where x is
split into heads right before, the rotation is done before the split, for Attention to take over the split.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import facts
from graphopt.ir.attributes import axes_of
from graphopt.rewriting import Match, Pass, Rejection, const, op, rule, rule_on

NOT_HALVES = "the rotated parts are not the two halves of the last axis"
NOT_DOUBLED = "cosine and sine are not of angles that are concatenated with themselves"
SHAPES_DIFFER = "angles and values are not provably of one batch and length"
HEADS_IN_FRONT = (0, 2, 1, 3)


@rule(opset=23)
def rotary_embedding(x, cosine, sine):
    """x * c + Concat(-x2, x1) * s -> RotaryEmbedding(x, c', s')."""
    low = op.Slice(x, const("from"), const("middle"), const("axis"), ...)
    high = op.Slice(x, const("start"), const("end"), const("axes"), ...)
    rotated = op.Concat(op.Neg(high.named("high")), low.named("low"), axis=lambda a: a in (-1, 3))
    return op.Add(op.Mul(x, cosine), op.Mul(rotated, sine))


@rotary_embedding.when
def halves(m: Match) -> Rejection | tuple[ir.Value, ir.Value]:
    dims = m.dims(m["x"])
    if dims is None or len(dims) != 4 or not isinstance(dims[3], int):
        return Rejection(NOT_HALVES, m["x"])
    half, size = dims[3] // 2, dims[3]
    for name, begin in (("low", 0), ("high", half)):
        node, found = m.node(name), m.dims(m[name])
        start = m.scalar(node.inputs[1])
        steps = m.scalar(node.inputs[4]) if len(node.inputs) > 4 else 1
        axes = axes_of(node, m.opset)
        if start is None or axes not in ((3,), (-1,)) or steps != 1 or found is None or found[3] * 2 != size:
            return Rejection(NOT_HALVES, m[name])
        if start % size != begin:
            return Rejection(NOT_HALVES, m[name])
    angles = []
    for name in ("cosine", "sine"):
        value = _first_half(m, m[name], steps=6)
        if value is None:
            return Rejection(NOT_DOUBLED, m[name])
        angles.append(value)
        shape = m.dims(m[name])
        if shape is None or shape[0] != dims[0] or shape[1] != 1 or shape[2] != dims[2]:
            return Rejection(SHAPES_DIFFER, m[name])
    return angles[0], angles[1]


def _first_half(m: Match, value: ir.Value, steps: int) -> ir.Value | None:
    """The value below an element-wise chain from Concat(f, f) to Unsqueeze(.., 1); else None."""
    node = value.producer()
    if node is None or steps == 0 or node.domain != "":
        return None
    source = node.inputs[0]
    if node.op_type == "Concat":
        doubled = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
        last = (m.rank(value) or 0) - 1
        return value if doubled and m.attribute(node, "axis") in (-1, last) else None
    unary = facts.is_elementwise(node) and len([v for v in node.inputs if v is not None]) == 1
    scaled = node.op_type == "Mul" and m.scalar(node.inputs[1]) is not None
    lifted = node.op_type == "Unsqueeze" and m.rank(value) == 4 and axes_of(node, m.opset) in ((1,), (-3,))
    if source is None or not (unary or scaled or lifted):
        return None
    return value if _first_half(m, source, steps - 1) is not None else None


def _rebuilt(value: ir.Value) -> ir.Value:
    """The same chain over one half, without the Unsqueeze."""
    node = value.producer()
    assert node is not None
    first = node.inputs[0]
    assert first is not None
    if node.op_type == "Concat":
        return first
    below = _rebuilt(first)
    if node.op_type == "Unsqueeze":
        return below
    made = getattr(op, node.op_type)(below, *node.inputs[1:], **node.attributes)
    assert isinstance(made, ir.Value)
    return made


@rotary_embedding.rewrite
def rotate(m: Match, angles: tuple[ir.Value, ir.Value]) -> ir.Value:
    return op.RotaryEmbedding(m["x"], _rebuilt(angles[0]), _rebuilt(angles[1]))


@rule_on("RotaryEmbedding", opset=23, depth=3)
def rotate_before_split(m: Match) -> ir.Value | None:
    """RotaryEmbedding(Transpose(Reshape(x))) -> Transpose(Reshape(RotaryEmbedding(x, heads)))."""
    source = m.root.inputs[0]
    transpose = source.producer() if source is not None else None
    if (
        source is None
        or transpose is None
        or transpose.op_type != "Transpose"
        or not m.has_one_consumer(source)
    ):
        return None
    split = transpose.inputs[0]
    reshape = split.producer() if split is not None else None
    if split is None or reshape is None or reshape.op_type != "Reshape" or not m.has_one_consumer(split):
        return None
    x = reshape.inputs[0]
    before, after = (m.dims(x) if x is not None else None), m.dims(split)
    if before is None or after is None or len(before) != 3 or len(after) != 4:
        return None
    heads = after[2]
    if m.attribute(transpose, "perm") != HEADS_IN_FRONT or not isinstance(heads, int):
        return None
    if before != (*after[:2], heads * after[3]) or "num_heads" in m.root.attributes:
        return None
    rotated = op.RotaryEmbedding(x, *m.root.inputs[1:], num_heads=heads, **m.root.attributes)
    return op.Transpose(op.Reshape(rotated, reshape.inputs[1], **reshape.attributes), perm=HEADS_IN_FRONT)


@dataclass(frozen=True)
class FuseRotaryEmbedding(Pass):
    """Fuse rotary position embeddings into RotaryEmbedding."""

    name = "fuse-rotary-embedding"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of x"
    rules = (rotary_embedding, rotate_before_split)
