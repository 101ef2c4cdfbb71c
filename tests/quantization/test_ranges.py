"""Ranges of activations, chosen by the outputs of what takes them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.quantizing import Grid, asymmetric, dequantized, quantized
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning, ranges
from graphopt.quantization.calibration import Calibration, calibrate
from graphopt.quantization.observers import METHODS
from graphopt.quantization.ranges import choose_ranges
from graphopt.quantization.statistics import Statistics

RNG = np.random.default_rng(0)
TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[T,64] x) => (float[T,32] y) { y = MatMul(x, w) }'


def chosen(weight: np.ndarray) -> tuple[tuple[float, float], Calibration]:
    """The range of an input whose last column is fifty times as large as the others."""
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), "w"))
    model = ir.from_proto(proto)
    name_nodes(model)
    found = planning.candidates(model)
    statistics = Statistics(found)
    rng = np.random.default_rng(1)
    sizes = np.array([1.0] * 63 + [50.0])
    feeds = [{"x": (rng.standard_normal((60, 64)) * sizes).astype(np.float32)} for _ in range(12)]
    seen = calibrate(model, ["x"], feeds, statistics=statistics)
    return choose_ranges(found, seen.observers, statistics)["x"], seen


def test_outliers_that_matter_are_kept_and_others_cut() -> None:
    weight = RNG.standard_normal((64, 32))
    kept, seen = chosen(weight)
    extremes = (seen.observers["x"].low, seen.observers["x"].high)
    weight[63] = 0
    cut, _ = chosen(weight)
    # Without a weight the outliers are nothing but a range that is too wide.
    assert cut[1] < 0.9 * kept[1]
    assert extremes[0] <= kept[0] < 0 < kept[1] <= extremes[1]


def test_the_best_of_all_observers_is_no_worse_than_each() -> None:
    weight = RNG.standard_normal((64, 32))
    weight[63] *= 0.1
    found, seen = chosen(weight)
    assert found in [seen.observers["x"].range(m) for m in ("minmax", "percentile", "kl", "mse")]


def test_outputs_are_nearer_than_with_the_range_of_any_one_observer() -> None:
    rng = np.random.default_rng(2)
    worst = dict.fromkeys(METHODS, 1.0)
    for share in (0.0, 0.03, 1.0):
        weight = RNG.standard_normal((64, 32))
        weight[63] *= share
        found, seen = chosen(weight)
        x = rng.standard_normal((2000, 64)) * np.array([1.0] * 63 + [50.0])
        best = noise(x, weight, found)
        for method in METHODS:
            worst[method] = max(worst[method], noise(x, weight, seen.observers["x"].range(method)) / best)
            assert best < 1.2 * noise(x, weight, seen.observers["x"].range(method))
    assert min(worst.values()) > 1.3


def noise(x: np.ndarray, weight: np.ndarray, ends: tuple[float, float]) -> float:
    """Squared error of the product."""
    scale, zero = asymmetric(*ends, ir.DataType.UINT8)
    grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
    rounded = dequantized(quantized(x.astype(np.float32), grid), grid)
    return float((((rounded - x) @ weight) ** 2).mean())


def test_all_that_was_seen_is_kept_where_it_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    proto = onnx.parser.parse_model(TEXT)
    weight = rng.standard_normal((64, 32)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model = ir.from_proto(proto)
    name_nodes(model)
    found = planning.candidates(model)

    def ends(rows: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
        statistics = Statistics(found)
        feeds = [{"x": part.astype(np.float32)} for part in np.split(rows, 12)]
        seen = calibrate(model, ["x"], feeds, statistics=statistics)
        observer = seen.observers["x"]
        return choose_ranges(found, seen.observers, statistics)["x"], (observer.low, observer.high)

    # A few of the rows reach a little farther than the others, or much farther.
    rows = rng.uniform(-1, 1, (720, 64))
    rows[::40] *= 1.04
    chosen_range, whole = ends(rows)
    assert chosen_range == whole
    monkeypatch.setattr(ranges, "WIDENING", 0.0)
    narrow, _ = ends(rows)
    assert narrow[1] - narrow[0] < whole[1] - whole[0]
    monkeypatch.undo()
    rows[0, 0] = 4
    chosen_range, whole = ends(rows)
    assert chosen_range[1] < whole[1]
