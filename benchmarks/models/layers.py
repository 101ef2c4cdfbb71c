"""Layers of transformers as the TorchScript exporter writes them, scaffolding included.

Every function appends to a GraphBuilder and returns the name of its result.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import numpy_helper

from benchmarks.models.builder import GraphBuilder

ONNX_INT64_MAX = 2**63 - 1


def linear(g: GraphBuilder, x: str, name: str, width_in: int, width_out: int, bias: bool = True) -> str:
    """x @ W.T + b with W stored as (out, in) behind a Transpose, as torch's Linear is exported."""
    with g.module(name):
        weight = g.random_weight("weight", (width_out, width_in), math.sqrt(3 / width_in))
        return linear_with(
            g, x, transposed(g, weight), g.random_weight("bias", (width_out,), 0.1) if bias else None
        )


def transposed(g: GraphBuilder, weight: str) -> str:
    """The Transpose in front of a stored matrix."""
    return g.op("Transpose", weight, perm=[1, 0])


def linear_with(g: GraphBuilder, x: str, matrix: str, bias: str | None) -> str:
    """The computing half of `linear`, for a matrix (in, out) that stands elsewhere."""
    product = g.op("MatMul", x, matrix)
    return product if bias is None else g.op("Add", bias, product)


def norm_weights(g: GraphBuilder, width: int) -> tuple[str, str]:
    """Scale around 1 and bias around 0 of a LayerNorm."""
    return g.random_weight("weight", (width,), 0.2, centre=1.0), g.random_weight("bias", (width,), 0.1)


def layer_norm(g: GraphBuilder, x: str, name: str, width: int) -> str:
    """LayerNorm over the last axis in nine nodes (opset below 17; axes as an attribute)."""
    with g.module(name):
        return layer_norm_with(g, x, *norm_weights(g, width))


def layer_norm_with(g: GraphBuilder, x: str, scale: str, bias: str) -> str:
    """The computing half of `layer_norm`."""
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
    square = g.op("Pow", centred, g.constant(2.0, np.float32))
    variance = g.op("ReduceMean", square, axes=[-1])
    deviation = g.op("Sqrt", g.op("Add", variance, g.constant(1e-5, np.float32)))
    return g.op("Add", g.op("Mul", g.op("Div", centred, deviation), scale), bias)


def size(g: GraphBuilder, x: str, axis: int) -> str:
    """x.size(axis): Shape and Gather; an int64 scalar."""
    return g.op("Gather", g.op("Shape", x), g.constant(axis), axis=0)


def view(g: GraphBuilder, x: str, *dims: str | int) -> str:
    """x.view(*dims): every dim, a scalar value or a number, behind Unsqueeze, joined by Concat."""
    parts = []
    for dim in dims:
        scalar = dim if isinstance(dim, str) else g.constant(dim)
        parts.append(g.op("Unsqueeze", scalar, g.constant([0])))
    return g.op("Reshape", x, g.op("Concat", *parts, axis=0))


def split_heads(g: GraphBuilder, x: str, heads: int, head_width: int) -> str:
    """(B, L, D) -> (B, L, heads, D / heads), before the transpose."""
    return view(g, x, size(g, x, 0), size(g, x, 1), heads, head_width)


def attend(g: GraphBuilder, query: str, key: str, value: str, heads: int, head_width: int) -> str:
    """Scaled dot-product attention of q (B, Lq, D) over k, v (B, Lk, D) -> (B, Lq, D)."""
    q = g.op("Transpose", split_heads(g, query, heads, head_width), perm=[0, 2, 1, 3])
    k = g.op("Transpose", split_heads(g, key, heads, head_width), perm=[0, 2, 3, 1])
    v = g.op("Transpose", split_heads(g, value, heads, head_width), perm=[0, 2, 1, 3])
    scaled = g.op("Mul", q, g.constant(head_width**-0.5, np.float32))
    weights = g.op("Softmax", g.op("MatMul", scaled, k), axis=-1)
    joined = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    return view(g, joined, size(g, joined, 0), size(g, joined, 1), heads * head_width)


def gelu(g: GraphBuilder, x: str) -> str:
    """The exact Gelu in five nodes."""
    erf = g.op("Erf", g.op("Div", x, g.constant(math.sqrt(2.0), np.float32)))
    return g.op(
        "Mul",
        g.op("Mul", x, g.op("Add", erf, g.constant(1.0, np.float32))),
        g.constant(0.5, np.float32),
    )


def feed_forward(g: GraphBuilder, x: str, width: int, hidden: int, activation: str = "relu") -> str:
    """Two Linears with an activation ("relu" or "gelu") between."""
    with g.module("ffn"):
        up = linear(g, x, "up", width, hidden)
        return linear(g, gelu(g, up) if activation == "gelu" else g.op("Relu", up), "down", hidden, width)


def constant_pad_amounts(g: GraphBuilder, before: int, after: int) -> str:
    """How the exporter turns torch's pad pair for the last of three axes into ONNX's order: on constants."""
    with g.module("pad"):
        pair = g.constant([before, after])
        given = g.op("Gather", g.op("Shape", pair), g.constant(0), axis=0)
        wanted = g.op("Mul", g.constant([3]), g.constant([2]))
        zero = numpy_helper.from_array(np.zeros(1, np.int64))
        zeros = g.op("ConstantOfShape", g.op("Sub", wanted, given), value=zero)
        pairs = g.op("Reshape", g.op("Concat", g.op("Cast", pair, to=7), zeros, axis=0), g.constant([-1, 2]))
        backwards = g.op(
            "Slice", pairs, g.constant([-1]), g.constant([-ONNX_INT64_MAX]), g.constant([0]), g.constant([-1])
        )
        flat = g.op("Reshape", g.op("Transpose", backwards, perm=[1, 0]), g.constant([-1]))
        return g.op("Cast", flat, to=7)
