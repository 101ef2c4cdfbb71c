"""A long chain of transformer-like blocks: how time grows with the number of nodes.

    python -m benchmarks.models.chain BLOCKS OUT.onnx

22 operators a block, all of rank 2 over a dynamic batch, of which LayerNormalization and Gemm would do:

    LayerNorm in nine nodes, Transpose (of the weight), MatMul, Add, Mul by 1/2,
    Shape, Gather, Unsqueeze, Concat, Reshape to heads and Reshape back, a Transpose pair, Identity
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save

OPSET = 17
OPERATORS_PER_BLOCK = 22


def build(blocks: int, width: int = 32, heads: int = 4) -> onnx.ModelProto:
    """The chain: x float32 (batch, width) -> y of the same shape."""
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, ["batch", width])
    shared = Constants(g, width, heads)
    for i in range(blocks):
        with g.module(f"block.{i}"):
            x = block(g, x, shared, width)
    g.output(x, TensorProto.FLOAT, ["batch", width], "y")
    return g.model("chain", OPSET)


class Constants:
    """Small values that all blocks read; initializers, so that a block has no Constant nodes."""

    def __init__(self, g: GraphBuilder, width: int, heads: int) -> None:
        self.two = g.weight("two", np.array(2.0, np.float32))
        self.epsilon = g.weight("epsilon", np.array(1e-5, np.float32))
        self.half = g.weight("half", np.array(0.5, np.float32))
        self.zero = g.weight("zero", np.array(0))
        self.zeros = g.weight("zeros", np.array([0]))
        self.heads = g.weight("heads", np.array([heads, width // heads]))
        self.flat = g.weight("flat", np.array([-1, width]))


def block(g: GraphBuilder, x: str, shared: Constants, width: int) -> str:
    """One block: x (batch, width) -> (batch, width)."""
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
    variance = g.op("ReduceMean", g.op("Pow", centred, shared.two), axes=[-1])
    deviation = g.op("Sqrt", g.op("Add", variance, shared.epsilon))
    scale = g.random_weight("norm.weight", (width,), 0.2, centre=1.0)
    y = g.op("Mul", g.op("Div", centred, deviation), scale)
    y = g.op("Add", y, g.random_weight("norm.bias", (width,), 0.1))

    weight = g.random_weight("linear.weight", (width, width), (3 / width) ** 0.5)
    y = g.op("MatMul", y, g.op("Transpose", weight, perm=[1, 0]))
    y = g.op("Add", y, g.random_weight("linear.bias", (width,), 0.1))
    y = g.op("Mul", y, shared.half)

    batch = g.op("Unsqueeze", g.op("Gather", g.op("Shape", y), shared.zero, axis=0), shared.zeros)
    y = g.op("Reshape", y, g.op("Concat", batch, shared.heads, axis=0))
    y = g.op("Reshape", y, shared.flat)
    y = g.op("Transpose", g.op("Transpose", y, perm=[1, 0]), perm=[1, 0])
    return g.op("Identity", y)


if __name__ == "__main__":
    save(build(int(sys.argv[1])), Path(sys.argv[2]))
