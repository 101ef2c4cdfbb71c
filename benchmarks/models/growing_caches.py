"""A Loop that does nothing but grow twelve caches from nothing, a row a step.

    python -m benchmarks.models.growing_caches WIDTH OUT.onnx

    steps int64 (), row float32 (1, 1, width) -> caches 0 to 11 float32 (1, steps, width)

`loop_caches` is the same with work in each step.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save

OPSET = 13
CACHES = 12


def build(width: int = 256) -> onnx.ModelProto:
    """The loop; its number of steps is an input."""
    g = GraphBuilder()
    steps = g.input("steps", TensorProto.INT64, [])
    row = g.input("row", TensorProto.FLOAT, [1, 1, width])
    empty = g.constant(np.zeros((1, 0, width)), np.float32)
    body = GraphBuilder(g)
    body.input("iteration", TensorProto.INT64, [])
    going = body.input("going", TensorProto.BOOL, [])
    caches = [body.input(f"cache_{i}.1", TensorProto.FLOAT, [1, "t", width]) for i in range(CACHES)]
    grown = [body.op("Concat", cache, row, axis=1) for cache in caches]
    body.output(body.op("Identity", going), TensorProto.BOOL, [])
    for value in grown:
        body.output(value, TensorProto.FLOAT, [1, "t_grown", width])
    carried = [empty] * CACHES
    results = g.node(
        "Loop", steps, g.constant(True, np.bool_), *carried, outputs=CACHES, body=body.graph("step")
    )
    for i, cache in enumerate(results):
        g.output(cache, TensorProto.FLOAT, [1, f"steps_{i}", width], f"cache_{i}")
    return g.model("growing_caches", OPSET)


if __name__ == "__main__":
    save(build(int(sys.argv[1])), Path(sys.argv[2]))
