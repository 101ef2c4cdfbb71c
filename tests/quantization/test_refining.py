"""Refined weights stay where the whole model is no worse with them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import QuantTable
from graphopt.quantization.first_table import FirstTable, first_table
from graphopt.quantization.judging import Judge
from graphopt.quantization.refining import refined
from tests.quantization import deciding
from tests.quantization.test_bias_correction import IDENTITY

RNG = np.random.default_rng(0)
# Inputs of real layers depend on each other.
MIXING = RNG.standard_normal((64, 64)) * 0.9 ** np.arange(64)
TEXT = """g (float[N,64] x) => (float[N,48] y) {
    h = MatMul(x, w)  a = Add(h, b)  r = Relu(a)  y = Gemm(r, v)
}"""
WEIGHTS = {"w": (64, 96), "b": (96,), "v": (96, 48)}


@pytest.fixture(scope="module")
def prepared() -> tuple[ir.Model, FirstTable, list[dict[str, np.ndarray]]]:
    model = deciding.parsed(
        TEXT, **{name: RNG.standard_normal(shape).astype(np.float32) for name, shape in WEIGHTS.items()}
    )
    feeds = [{"x": (RNG.standard_normal((60, 64)) @ MIXING.T).astype(np.float32)} for _ in range(12)]
    return model, first_table(model, feeds, IDENTITY), feeds


Prepared = tuple[ir.Model, FirstTable, list[dict[str, np.ndarray]]]


class Contrary(Judge):
    """Finds a model the worse the more of some weights are refined."""

    def __init__(self, hated: str, first: QuantTable) -> None:
        self.hated, self.first = hated, first

    def sqnr(self, model: ir.Model, table: QuantTable) -> np.ndarray:
        mine, plain = table.tensors[self.hated], self.first.tensors[self.hated]
        return np.full(3, 30.0 if mine.codes is plain.codes and mine.grid is plain.grid else 20.0)


@pytest.mark.parametrize("is_weights_only", [False, True])
def test_the_model_is_better_by_it(prepared: Prepared, is_weights_only: bool) -> None:
    model, first, feeds = prepared
    found = refined(
        model, first.table, first.statistics, Judge(model, feeds), is_weights_only=is_weights_only
    )
    assert found.report is not None
    before, after = found.report.sqnr[8]
    assert after > before + (3 if is_weights_only else 0.2)
    assert all(step.kept for step in found.report.steps)


def test_what_the_model_is_worse_by_is_undone(prepared: Prepared) -> None:
    model, first, _ = prepared
    found = refined(model, first.table, first.statistics, Contrary("w", first.table))
    assert found.report is not None
    assert {step.weight: step.kept for step in found.report.steps} == {"w": False, "v": True}
    assert found.table.tensors["w"] is first.table.tensors["w"]
    assert found.table.tensors["v"].codes is not None
    assert found.report.sqnr[8] == (30.0, 30.0)


def test_blocks_that_the_model_is_worse_by_have_nearest_codes(prepared: Prepared) -> None:
    model, first, feeds = prepared

    class WithoutBlocks(Judge):
        def sqnr(self, model: ir.Model, table: QuantTable) -> np.ndarray:
            is_refined = table.tensors["v"].grid.block_size and table.tensors["v"].codes is not None
            return np.full(3, 20.0 if is_refined else 30.0)

    kept = refined(model, first.table, first.statistics, Judge(model, feeds), bits=4, is_weights_only=True)
    assert kept.report is not None
    assert kept.report.sqnr[4][1] > kept.report.sqnr[4][0] + 3
    assert kept.blocks["v"].codes is not None
    undone = refined(model, first.table, first.statistics, WithoutBlocks(model, feeds), bits=4)
    assert undone.blocks["v"].codes is None
    assert undone.blocks["w"].codes is not None


def test_restored_moments_are_undone_with_their_shifts(prepared: Prepared) -> None:
    model, first, feeds = prepared
    kept = refined(model, first.table, first.statistics, Judge(model, feeds), "moments")
    assert kept.report is not None
    steps = {step.weight for step in kept.report.steps if step.kept}
    assert steps and len(kept.table.corrections) == len(steps)
    undone = refined(model, first.table, first.statistics, Contrary(min(steps), first.table), "moments")
    assert len(undone.table.corrections) == len(steps) - 1


def test_nothing_is_tried_unless_asked_for(prepared: Prepared) -> None:
    model, first, feeds = prepared
    found = refined(model, first.table, first.statistics, Judge(model, feeds), "none")
    assert found.report is None
    assert found.table is not None and found.table.tensors == first.table.tensors
