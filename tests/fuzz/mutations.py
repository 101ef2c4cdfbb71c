"""Damage to a model: bytes that are cut or turned, and messages with fields lost, moved, doubled or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], Any]

TEXTS = {
    "control flow": """<ir_version: 10, opset_import: ["": 18]>
        g (float[N,4] x, bool c, int64 n) => (float[N,4] y, float[K,N,4] z)
        <float[4] k = {1, 2, 3, 4}, int64[2] two = {0, 4}> {
          r = Reshape(x, two)
          h = If(c) <then_branch = a () => (float[N,4] p) { p = Add(r, k) },
                     else_branch = b () => (float[N,4] q) { q = Mul(r, k) }>
          t = Constant <value = bool {1}> ()
          y, z = Loop(n, t, h) <body = l (int64 i, bool g, float[N,4] s) => (bool g2, float[N,4] s2, float[N,4] o)
              { g2 = Identity(g)  s2 = Add(s, k)  o = Relu(s2) }> }""",
    "functions": """<ir_version: 10, opset_import: ["": 18, "local": 1]>
        g (float[N,3] x, seq(float[2]) s) => (float[N,3] y, seq(float[2]) t) <float[3] k = {1, 2, 3}> {
          h = local.Twice <by = 2.0> (x)
          a = Add(h, k)
          y = Clip(a, , )
          t = Identity(s) }
        <domain: "local", opset_import: ["": 18]> Twice <by> (v) => (o)
        { f = Constant <value_float: float = @by> () o = Mul(v, f) }""",
    "norm": """<ir_version: 8, opset_import: ["": 17]>
        g (float[N,4] x) => (float[N,4] y) <float[4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16},
            float e = {0.00001}, float two = {2}, float[4] k = {1, 2, 3, 4}, int64[2] to = {-1, 4}> {
          m = ReduceMean <axes = [-1]> (x)
          d = Sub(x, m)
          q = Pow(d, two)
          v = ReduceMean <axes = [-1]> (q)
          v2 = Add(v, e)
          v3 = Sqrt(v2)
          n = Div(d, v3)
          s = Mul(n, k)
          b = Add(s, k)
          t = Transpose <perm = [1, 0]> (w)
          p = MatMul(b, t)
          r = Add(p, k)
          f = Reshape(r, to)
          y = Relu(f) }""",
    "image": """<ir_version: 8, opset_import: ["": 13]>
        g (float[N,2,H,W] x) => (float[N,3] y) <float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] b = {1, 2, 3},
            int64[8] pads = {0,0,1,1,0,0,1,1}, int64[2] to = {0, -1}> {
          p = Pad(x, pads)
          c = Conv <kernel_shape = [1, 1]> (p, w)
          n = BatchNormalization(c, b, b, b, b)
          r = Relu(n)
          a = GlobalAveragePool(r)
          y = Reshape(a, to) }""",
    "quantized": """<ir_version: 8, opset_import: ["": 13]>
        g (float[N,4] x) => (float[N,4] y) <float s = {0.1}, uint8 z = {128}, float[4] k = {1, 2, 3, 4}> {
          q = QuantizeLinear(x, s, z)
          d = DequantizeLinear(q, s, z)
          a = Add(d, k)
          q2 = QuantizeLinear(a, s, z)
          y = DequantizeLinear(q2, s, z) }""",
}


def originals() -> dict[str, onnx.ModelProto]:
    return {name: onnx.parser.parse_model(text) for name, text in TEXTS.items()}


def messages(message: Message) -> Iterator[Message]:
    """A message and all within it, outer ones first."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


@st.composite
def damaged_messages(draw: Draw) -> onnx.ModelProto:
    """A model with one to three changes to its messages."""
    names = sorted(TEXTS)
    model = onnx.parser.parse_model(TEXTS[draw(st.sampled_from(names))])
    for _ in range(draw(st.integers(1, 3))):
        inside = [m for m in messages(model) if m.ListFields()]
        damage(draw, draw(st.sampled_from(inside)))
    return model


def damage(draw: Draw, message: Message) -> None:
    """Change one field of a message."""
    field, value = draw(st.sampled_from(message.ListFields()))
    if field.is_repeated:
        damage_list(draw, message, field, value)
    elif field.type == FieldDescriptor.TYPE_MESSAGE or draw(st.integers(0, 3)) == 0:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, other(draw, field, value))


def damage_list(draw: Draw, message: Message, field: FieldDescriptor, items: Any) -> None:
    """Drop, double, swap or change an item."""
    kind = draw(st.sampled_from(["drop", "double", "swap", "change", "clear"]))
    place = draw(st.integers(0, len(items) - 1))
    if kind == "clear":
        message.ClearField(field.name)
    elif kind == "drop":
        del items[place]
    elif kind == "double":
        items.append(items[place])
    elif kind == "swap" and len(items) > 1:
        kept = list(items)
        kept.insert(draw(st.integers(0, len(items) - 2)), kept.pop(place))
        message.ClearField(field.name)
        getattr(message, field.name).extend(kept)
    elif kind == "change" and field.type != FieldDescriptor.TYPE_MESSAGE:
        items[place] = other(draw, field, items[place])


def other(draw: Draw, field: FieldDescriptor, value: Any) -> Any:
    """Another value of a field's type."""
    if field.type == FieldDescriptor.TYPE_STRING:
        names = [
            "",
            "x",
            "y",
            "h",
            "Relu",
            "Add",
            "Reshape",
            "Loop",
            "If",
            "Constant",
            "axis",
            "perm",
            "body",
        ]
        return draw(st.sampled_from([*names, "local", "com.microsoft", value + "_"]))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return value[: draw(st.integers(0, len(value)))] + draw(st.binary(max_size=9))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return draw(st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e30]))
    if field.type == FieldDescriptor.TYPE_ENUM:
        return draw(st.sampled_from([v.number for v in field.enum_type.values]))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return not value
    small = st.sampled_from([0, 1, 2, 3, 7, 10, 11, 16, 22, 100])
    wide = (
        st.sampled_from([-1, -2, 2**31 - 1])
        if field.type == FieldDescriptor.TYPE_INT32
        else st.sampled_from([-1, -2, 2**40, 2**63 - 1, -(2**63)])
    )
    if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
        return draw(small)
    return draw(st.one_of(small, wide))


@st.composite
def damaged_bytes(draw: Draw) -> bytes:
    """A model's file with bits turned, a part lost, or the end cut off."""
    data = bytearray(onnx.parser.parse_model(TEXTS[draw(st.sampled_from(sorted(TEXTS)))]).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["turn", "put", "lose"]))
        if kind == "turn":
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[place:place] = draw(st.binary(min_size=1, max_size=4))
        else:
            del data[place : place + draw(st.integers(1, 20))]
        if not data:
            break
    return bytes(data[: draw(st.integers(len(data) // 2, len(data)))])
