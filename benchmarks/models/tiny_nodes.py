"""Many nodes that compute next to nothing: what an engine pays for a node.

    python -m benchmarks.models.tiny_nodes COUNT fused|apart OUT.onnx

    x float32 (16) -> y of the same shape

A chain of Add, Mul and Max with vectors of 16. "fused": nothing stands between them, so an engine may make
one pass of many; "apart": a Reshape behind each, which costs nothing where it is another look at the same
memory, but keeps the sums apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

from benchmarks.models.builder import GraphBuilder, TensorProto, save

OPSET = 17
WIDTH = 16


def build(count: int = 1000, apart: bool = False) -> onnx.ModelProto:
    """The chain; `count` nodes compute."""
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, [WIDTH])
    shapes = [g.weight("square", np.array([4, 4])), g.weight("flat", np.array([WIDTH]))]
    operands = [
        [g.random_weight(f"{name}.{k}", (WIDTH,) if k % 2 else (4, 4), 0.01, centre) for k in range(2)]
        for name, centre in (("add", 0.0), ("mul", 1.0), ("max", -4.0))
    ]
    for i in range(count):
        if apart:
            x = g.op("Reshape", x, shapes[i % 2])
        op_type = ("Add", "Mul", "Max")[i % 3]
        x = g.op(op_type, x, operands[i % 3][i % 2 if apart else 1])
    g.output(g.op("Reshape", x, shapes[1]), TensorProto.FLOAT, [WIDTH], "y")
    return g.model("tiny_nodes", OPSET)


if __name__ == "__main__":
    save(build(int(sys.argv[1]), sys.argv[2] == "apart"), Path(sys.argv[3]))
