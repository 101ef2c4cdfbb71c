"""A pre-norm transformer encoder, as the TorchScript exporter writes it.

python -m benchmarks.models.encoder LAYERS WIDTH relu|gelu OUT.onnx

x float32 (1, T, width) -> y of the same shape
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, cast

import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save
from benchmarks.models.layers import attend, feed_forward, layer_norm, linear

OPSET = 13
Activation = Literal["relu", "gelu"]


def build(
    layers: int = 6, width: int = 256, heads: int = 4, hidden: int = 1024, activation: Activation = "relu"
) -> onnx.ModelProto:
    """The encoder; `hidden` is the width between the two Linears of each layer."""
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, [1, "T", width])
    for i in range(layers):
        with g.module(f"layers.{i}"):
            x = layer(g, x, width, heads, hidden, activation)
    g.output(layer_norm(g, x, "norm", width), TensorProto.FLOAT, [1, "T", width], "y")
    return g.model("encoder", OPSET)


def layer(g: GraphBuilder, x: str, width: int, heads: int, hidden: int, activation: Activation) -> str:
    """Attention and feed-forward, each behind its LayerNorm and added to its input."""
    with g.module("attn"):
        y = layer_norm(g, x, "norm", width)
        query, key, value = (linear(g, y, name, width, width) for name in ("q", "k", "v"))
        y = linear(g, attend(g, query, key, value, heads, width // heads), "out", width, width)
    x = g.op("Add", x, y)
    return g.op("Add", x, feed_forward(g, layer_norm(g, x, "norm2", width), width, hidden, activation))


if __name__ == "__main__":
    depth, size, kind, target = sys.argv[1:]
    save(build(int(depth), int(size), hidden=4 * int(size), activation=cast(Activation, kind)), Path(target))
