"""Changes stay where the outputs of the whole model are no farther off on samples that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from graphopt.quantization.judging import Judge, gains, parted, settled
from graphopt.quantization.statistics import is_held_out, sample_key
from tests.quantization import deciding

NAMES = [f"w{i}" for i in range(8)]


def losing(bad: set[str]) -> Callable[[frozenset[str]], np.ndarray]:
    """Four samples: each change gains a decibel, but for bad ones, which cost twenty."""
    return lambda kept: np.full(4, 40.0 + sum(-20 if name in bad else 1 for name in kept))


@pytest.mark.parametrize("bad", [set(), {"w2"}, {"w0", "w1"}, {"w7"}])
def test_halves_find_what_does_harm(bad: set[str]) -> None:
    found = settled(NAMES, losing(bad))
    assert found.kept == set(NAMES) - bad
    assert found.sqnr == (40.0, 48.0 - len(bad))


def test_where_everything_does_harm_nothing_stays() -> None:
    found = settled(NAMES, losing(set(NAMES)))
    assert found.kept == frozenset()
    assert found.sqnr == (40.0, 40.0)


def test_trials_end() -> None:
    calls = 0

    def sqnr_with(kept: frozenset[str]) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.full(2, -float(len(kept)))

    assert settled([str(i) for i in range(1000)], sqnr_with).kept == frozenset()
    assert calls == 13


def test_without_anything_to_judge_by_layers_have_the_last_word() -> None:
    nothing: Callable[[frozenset[str]], np.ndarray] = lambda _: np.zeros(0)  # noqa: E731
    assert settled(NAMES, nothing).kept == set(NAMES)
    assert settled(NAMES, nothing, must_gain=True).kept == frozenset()


def test_a_gain_is_more_than_its_standard_error() -> None:
    before = np.array([30.0, 40, 35, 32])
    lucky = before + np.array([12, -4, -3, -1])
    assert gains(before, before + np.array([1, 1.2, 0.9, 1.1]))
    assert not gains(before, lucky)
    assert not gains(before, before)
    assert gains(before[:1], before[:1] + 0.1)
    one = settled(NAMES[:1], lambda kept: lucky if kept else before)
    assert one.kept == {"w0"}
    one = settled(NAMES[:1], lambda kept: lucky if kept else before, must_gain=True)
    assert one.kept == frozenset()


def test_samples_are_parted_as_calibration_parts_them() -> None:
    rows = [{"x": np.full(3, i, np.float32)} for i in range(200)]
    fit, held = parted(rows)
    assert (len(fit), len(held)) == (48, 16)
    assert all(is_held_out(sample_key(feeds)) for feeds in held)
    assert not any(is_held_out(sample_key(feeds)) for feeds in fit)


def test_one_side_is_never_empty() -> None:
    rows = [{"x": np.full(3, i, np.float32)} for i in range(200)]
    alike = [feeds for feeds in rows if not is_held_out(sample_key(feeds))][:8]
    fit, held = parted(alike)
    assert [feeds["x"][0] for feeds in held] == [alike[3]["x"][0], alike[7]["x"][0]]
    assert len(fit) == 6
    assert parted(alike[:2]) == (alike[:2], alike[:2])


def test_a_judge_follows_the_float_model_s_path() -> None:
    model, samples = deciding.decoder(), deciding.sentences(6)
    table, _ = deciding.first(model, samples)
    judge = Judge(model, samples)
    found = judge.sqnr(model, table)
    assert found.shape == (6,)
    assert (found > 20).all()
    coarse = {
        name: replace(plan, grid=replace(plan.grid, scale=plan.grid.scale * np.float32(16)))
        for name, plan in table.tensors.items()
    }
    assert (judge.sqnr(model, replace(table, tensors=coarse)) < found - 10).all()
    # Nothing quantized is no noise, but not infinite.
    assert (judge.sqnr(model, replace(table, tensors={}, operators={})) == 200).all()
