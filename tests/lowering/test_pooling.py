"""Pooling through the whole engine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.convolutions import ort
from tests.lowering.running import backend_cases, kernels_of, node_model, run

NAMES = (
    "averagepool",
    "maxpool",
    "lppool",
    "globalaveragepool",
    "globalmaxpool",
    "globallppool",
    "maxunpool",
)
CASES = {n: c for prefix in NAMES for n, c in backend_cases(f"test_{prefix}").items()}


@pytest.mark.parametrize("name", CASES)
def test_standard_cases(name: str) -> None:
    model, inputs, outputs = CASES[name]
    assert set(kernels_of(model)) <= {"pool", "max.unpool", "copy"}
    got = run(model, {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)})
    for a, b in zip(got, outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # some are written with four digits


@pytest.mark.parametrize("sizes", [(1, 9, 7), (3, 4, 30), (0, 5, 5)])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "count_include_pad": 1}),
        ("GlobalAveragePool", {}),
    ],
)
def test_one_program_for_all_sizes(
    op: str, attributes: dict[str, object], sizes: tuple[int, int, int]
) -> None:
    batch, height, width = sizes
    x = np.random.default_rng(0).standard_normal((batch, 5, height, width)).astype(np.float32)
    model = node_model(op, {"x": x}, dims={"x": ["N", 5, "H", "W"]}, **attributes)
    (got,) = run(model, {"x": x})
    if batch:
        np.testing.assert_allclose(got, ort(op, [x], attributes)[0], rtol=1e-5, atol=1e-6)
    else:
        assert got.shape[:2] == (0, 5)
