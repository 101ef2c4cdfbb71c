"""Real models, where a folder of them is given: each must be verified on sizes found without help."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.verification import Verifier

FOLDER = os.environ.get("GRAPHOPT_TEST_MODELS", "")
MODELS = sorted(Path(FOLDER).glob("*.onnx")) if FOLDER else []

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS, reason="GRAPHOPT_TEST_MODELS names no folder of models"),
]


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_samples_are_found_and_every_output_tells_something(path: Path):
    model = ir.load(path)
    found = Verifier(model, path=path).check(model)
    assert found.status == "verified"
    assert found.samples >= 3
    assert found.max_error == 0
    assert not any(note.startswith("output") for note in found.notes)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_planted_faults_are_found(path: Path):
    """Elements of a weight stand one place too far, as after a wrong slice.

    Untrained models have branches that add next to nothing: of twelve weights, large and small, the fault in
    at least one must show.
    """
    model = ir.load(path)
    verifier = Verifier(model, path=path)
    weights = some_weights(model)
    if not weights:
        pytest.skip("its weights are no initializers")
    for value in weights:
        tensor = value.const_value
        value.const_value = ir.tensor(np.roll(tensor.numpy(), 1), name=value.name)
        found = verifier.check(model)
        value.const_value = tensor
        if found.status == "mismatch":
            return
    pytest.fail(f"faults in {[v.name for v in weights]} were not found")


def some_weights(model: ir.Model) -> list[ir.Value]:
    found = [
        v
        for v in model.graph.initializers.values()
        if v.const_value is not None and v.const_value.dtype in TYPES
    ]
    found = sorted((v for v in found if v.const_value.size > 1), key=lambda v: -v.const_value.size)
    return found[:: max(1, len(found) // 12)][:12]
