"""A Loop that grows twelve caches by one row a step: what an engine pays for growing.

    python -m benchmarks.models.loop_caches WIDTH OUT.onnx

    steps int64 (), x float32 (1, 1, width) -> y of x's shape, and caches 0 to 11 float32 (1, steps, width)

Each step appends a projection of x to every cache; key and value caches take turns, and every two are
attended over.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save
from benchmarks.models.layers import transposed

OPSET = 13
CACHES = 12


def build(width: int = 64) -> onnx.ModelProto:
    """The loop; its number of steps is an input."""
    g = GraphBuilder()
    steps = g.input("steps", TensorProto.INT64, [])
    x = g.input("x", TensorProto.FLOAT, [1, 1, width])
    matrices = []
    for i in range(CACHES):
        weight = g.random_weight(f"project.{i}.weight", (width, width), (3 / width) ** 0.5)
        matrices.append(transposed(g, weight))
    empty = g.constant(np.zeros((1, 0, width)), np.float32)
    step = body(GraphBuilder(g), matrices, width)
    results = g.node(
        "Loop", steps, g.constant(True, np.bool_), x, *[empty] * CACHES, outputs=CACHES + 1, body=step
    )
    g.output(results[0], TensorProto.FLOAT, [1, 1, width], "y")
    for i, cache in enumerate(results[1:]):
        g.output(cache, TensorProto.FLOAT, [1, f"steps_{i}", width], f"cache_{i}")
    return g.model("loop_caches", OPSET)


def body(g: GraphBuilder, matrices: list[str], width: int) -> onnx.GraphProto:
    """One step; the caches are declared with the shapes of the first one."""
    g.input("iteration", TensorProto.INT64, [])
    going = g.input("going", TensorProto.BOOL, [])
    x = g.input("x.1", TensorProto.FLOAT, [1, 1, width])
    caches = [g.input(f"cache_{i}.1", TensorProto.FLOAT, [1, 0, width]) for i in range(CACHES)]
    y = x
    grown = []
    for i, (cache, matrix) in enumerate(zip(caches, matrices, strict=True)):
        grown.append(g.op("Concat", cache, g.op("MatMul", y, matrix), axis=1))
        if i % 2 == 1:
            scores = g.op("MatMul", y, g.op("Transpose", grown[i - 1], perm=[0, 2, 1]))
            y = g.op("Tanh", g.op("Add", y, g.op("MatMul", g.op("Softmax", scores, axis=-1), grown[i])))
    g.output(g.op("Identity", going), TensorProto.BOOL, [])
    g.output(y, TensorProto.FLOAT, [1, 1, width])
    for value in grown:
        g.output(value, TensorProto.FLOAT, [1, 1, width])
    return g.graph("step")


if __name__ == "__main__":
    save(build(int(sys.argv[1])), Path(sys.argv[2]))
