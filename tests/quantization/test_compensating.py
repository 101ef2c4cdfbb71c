"""Channels stay rescaled where the whole model is better by it, by both ways or by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import QuantTable
from graphopt.quantization.compensating import Compensated, Compensating, rescaled
from graphopt.quantization.first_table import first_table
from graphopt.quantization.judging import Judge
from tests.quantization import deciding
from tests.quantization.test_bias_correction import IDENTITY

RNG = np.random.default_rng(0)
TEXT = """g (float[N,64] x) => (float[N,64] y) {
    h = MatMul(x, w)  r = Relu(h)  k = MatMul(r, u)  n = LayerNormalization(k, gamma)  y = MatMul(n, v)
}"""


def source() -> tuple[ir.Model, list[dict[str, np.ndarray]]]:
    """Equalization serves the first two products, smoothing the last one."""
    sizes = np.where(np.arange(64) % 16 == 0, 30, 1).astype(np.float32)
    w, u, v = (RNG.standard_normal((64, 64)).astype(np.float32) for _ in range(3))
    model = deciding.parsed(TEXT, w=w * sizes, u=u / sizes[:, None], gamma=sizes**2, v=v / sizes[:, None])
    return model, [{"x": RNG.standard_normal((50, 64)).astype(np.float32)} for _ in range(8)]


class Says(Judge):
    """Says what it is told to say, model after model; the float one first."""

    def __init__(self, decibels: Sequence[float]) -> None:
        self.decibels = list(decibels)

    def sqnr(self, model: ir.Model, table: QuantTable) -> np.ndarray:
        return np.full(3, self.decibels.pop(0))


def compensated(judge: Judge, chosen: Compensating | None = None) -> Compensated:
    model, samples = source()
    first = first_table(model, samples, IDENTITY)
    return rescaled(model, first, samples, "auto", chosen or Compensating(), judge)


def kept(found: Compensated) -> set[str]:
    return {note.step for note in found.notes if note.kept}


def test_everything_stays_where_the_model_is_better() -> None:
    model, samples = source()
    found = rescaled(
        model, first_table(model, samples, IDENTITY), samples, "auto", Compensating(), Judge(model, samples)
    )
    assert kept(found) == {"equalize", "smooth"}
    assert found.sqnr is not None and found.sqnr[1] > found.sqnr[0] + 3
    assert found.scalings


# Rescaled models are judged before the one that is not.
@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ([40, 30], {"equalize", "smooth"}),
        ([20, 30, 40], {"equalize"}),
        ([20, 30, 20, 40], {"smooth"}),
        ([20, 30, 20, 20], set()),
    ],
)
def test_one_way_stays_where_both_do_harm(said: list[float], steps: set[str]) -> None:
    judge = Says(said)
    found = compensated(judge)
    assert kept(found) == steps
    assert bool(found.scalings) == bool(steps)
    assert judge.decibels == []
    assert found.sqnr == (30.0, said[-1] if said[-1] != 30 else 40.0)


def test_what_is_not_asked_for_is_not_tried() -> None:
    found = compensated(Says([40, 30]), Compensating(smooth=False))
    assert {note.step for note in found.notes} == {"equalize"}
    assert compensated(Says([]), Compensating(equalize=False, smooth=False)).notes == ()
