"""The engine as a backend of onnx's tests: `onnx.backend.base`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from graphopt.errors import ExecutionError
from graphopt.runtime import backend
from tests.runtime import models


def test_prepares_once_and_runs_often() -> None:
    prepared = backend.prepare(models.from_text(models.CHAIN))
    for rows in (1, 3):
        x = np.full((rows, 4), 0.5, np.float32)
        for given in ([x], (x,), x):
            (y,) = prepared.run(given)
            np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    with pytest.raises(ExecutionError, match="2 inputs are given; the model takes x"):
        prepared.run([x, x])
    with pytest.raises(ExecutionError, match="input 'x' is missing"):
        prepared.run([])


@pytest.mark.parametrize("engine", ["native", "python"])
def test_runs_a_model_and_a_node(engine: str) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    (y,) = backend.run_model(models.from_text(models.CHAIN), [x], engine=engine)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    node = helper.make_node("TopK", ["x", "k"], ["values", "indices"], axis=1)
    values, indices = backend.run_node(node, [x, np.array([2], np.int64)], engine=engine)
    assert values.tolist() == [[4, 3]]
    assert indices.tolist() == [[3, 2]]
    node = helper.make_node("Add", ["a", "b"], ["c"])
    (c,) = backend.run_node(node, [x, x])
    assert c.tolist() == [[2, 4, 6, 8]]


def test_devices() -> None:
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(onnx.ModelProto())
    assert not backend.is_compatible(onnx.ModelProto(), device="CUDA:1")
