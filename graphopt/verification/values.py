"""Sample the contents of inputs."""

from __future__ import annotations
import numpy as np
import onnx_ir as ir
from graphopt.verification.compare import Answer
from graphopt.verification.signature import Input, Sizes


def sample_value(input_: Input, sizes: Sizes, rng: np.random.Generator) -> Answer:
    shape = input_.shape(sizes)
    dtype = input_.dtype
    if dtype == ir.DataType.STRING:
        return rng.choice(np.array(["a", "b"], dtype=object), size=shape)
    if dtype == ir.DataType.BOOL:
        return rng.random(shape) < 0.7
    if dtype.is_integer():
        return rng.integers(0, 2, shape).astype(dtype.numpy())
    return rng.standard_normal(shape).astype(dtype.numpy())
