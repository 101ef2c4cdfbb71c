"""A model with weights of any size in an external file, written without ever holding them in memory.

    python -m benchmarks.models.big MEBIBYTES OUT.onnx      also writes OUT.onnx.data

    x float32 (batch, width) -> y of the same shape

A chain of Linears with exporter scaffolding; every matrix is different, so nothing merges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.builder import GraphBuilder, save, uniform

OPSET = 17


def build(mebibytes: int, path: Path, width: int = 4096) -> int:
    """Write the model at `path` and its weights beside it; returns the number of matrices.

    Args:
        mebibytes: Size of the weights; rounded down to whole matrices, at least one.
        path: Where the model goes; the weights go to the same name with `.data` appended.
        width: Every matrix is width x width, 64 MiB at the default.
    """
    matrices = max(1, (mebibytes << 20) // (width * width * 4))
    weights = path.with_name(path.name + ".data")
    path.parent.mkdir(parents=True, exist_ok=True)
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, ["batch", width])
    zero, zeros, columns = (
        g.weight(n, np.array(v)) for n, v in (("zero", 0), ("zeros", [0]), ("columns", [width]))
    )
    with weights.open("wb") as stream:
        for i in range(matrices):
            with g.module(f"linear.{i}"):
                g.weights.append(external_matrix(f"linear.{i}.weight", width, weights.name, stream.tell()))
                stream.write(uniform((width, width), g.weights[-1].name, -1.0, 1.0).tobytes())
                bias = g.random_weight("bias", (width,), 0.1)
                y = g.op("Add", g.op("MatMul", x, g.op("Transpose", g.weights[-2].name, perm=[1, 0])), bias)
                batch = g.op("Unsqueeze", g.op("Gather", g.op("Shape", y), zero, axis=0), zeros)
                x = g.op("Tanh", g.op("Reshape", y, g.op("Concat", batch, columns, axis=0)))
    g.output(x, TensorProto.FLOAT, ["batch", width], "y")
    save(g.model("big", OPSET), path)
    return matrices


def external_matrix(name: str, width: int, location: str, offset: int) -> onnx.TensorProto:
    """A float32 (width, width) tensor whose values lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[width, width])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", width * width * 4)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


if __name__ == "__main__":
    build(int(sys.argv[1]), Path(sys.argv[2]))
