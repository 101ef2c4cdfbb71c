"""A pre-norm transformer encoder with LayerNormalization and the exact Gelu, as opset 17 exporters write it.

    python -m benchmarks.models.pre_norm LAYERS WIDTH OUT.onnx

    x float32 (1, T, width) -> y of the same shape

Heads are 64 wide, the feed-forward part four times as wide as the rest.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save
from benchmarks.models.layers import gelu, norm_weights

OPSET = 17
HEAD_WIDTH = 64


def build(layers: int = 6, width: int = 256) -> onnx.ModelProto:
    """The encoder."""
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, [1, "T", width])
    split = g.weight("split", np.array([0, 0, width // HEAD_WIDTH, HEAD_WIDTH]))
    joined = g.weight("joined", np.array([0, 0, width]))
    scale = g.weight("scale", np.array(HEAD_WIDTH**-0.5, np.float32))
    for i in range(layers):
        with g.module(f"layers.{i}"):
            y = norm(g, x, "norm", width)
            q, k, v = (g.op("Reshape", linear(g, y, name, width, width), split) for name in ("q", "k", "v"))
            q, v = (g.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
            k = g.op("Transpose", k, perm=[0, 2, 3, 1])
            weights = g.op("Softmax", g.op("Mul", g.op("MatMul", q, k), scale), axis=-1)
            y = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 2, 1, 3])
            x = g.op("Add", x, linear(g, g.op("Reshape", y, joined), "out", width, width))
            y = gelu(g, linear(g, norm(g, x, "norm2", width), "up", width, 4 * width))
            x = g.op("Add", x, linear(g, y, "down", 4 * width, width))
    g.output(norm(g, x, "norm", width), TensorProto.FLOAT, [1, "T", width], "y")
    return g.model("pre_norm", OPSET)


def norm(g: GraphBuilder, x: str, name: str, width: int) -> str:
    """LayerNorm over the last axis."""
    with g.module(name):
        return g.op("LayerNormalization", x, *norm_weights(g, width), axis=-1, epsilon=1e-5)


def linear(g: GraphBuilder, x: str, name: str, width_in: int, width_out: int) -> str:
    """x @ W + b with W stored as (in, out)."""
    with g.module(name):
        weight = g.random_weight("weight", (width_in, width_out), math.sqrt(3 / width_in))
        return g.op("Add", g.op("MatMul", x, weight), g.random_weight("bias", (width_out,), 0.1))


if __name__ == "__main__":
    save(build(int(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))
