"""Measures of how far two models are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.quantization.noise import Noise, noise_between, total
from graphopt.quantization.replay import Probe, Run


def run(*arrays: object) -> Run:
    return Run(probes={"p": [np.asarray(a, np.float32) for a in arrays]})


PLAIN, SCORES = Probe("p", True, is_distribution=False), Probe("p", True)


def test_signal_to_noise() -> None:
    found = noise_between([PLAIN], run([1, 2, 3, 4]), run([1.1, 1.9, 3.2, 3.9]))
    assert found.sqnr == pytest.approx(26.320232, rel=1e-6)
    assert found.kl is None and found.mean_distance == pytest.approx(0.125)


def test_divergence() -> None:
    found = noise_between([SCORES], run([2, 1, 0]), run([1.5, 1.2, 0.1]))
    assert found.kl == pytest.approx(0.053901, abs=1e-6)
    assert found.flips == 0
    normal = Probe("p", True, is_normal=True)
    p, q = (np.exp(x) / np.exp(x).sum() for x in (np.array([2.0, 1, 0]), np.array([1.5, 1.2, 0.1])))
    assert noise_between([normal], run(p), run(q)).kl == pytest.approx(found.kl, rel=1e-5)


def test_steps_and_flips() -> None:
    found = noise_between([SCORES], run([[1, 0], [0, 1]], [[1, 0]]), run([[0, 1], [0, 1]], [[1, 0]]))
    assert (found.steps, found.flips) == (3, 1)


def test_what_has_no_counterpart_is_lost() -> None:
    found = noise_between([SCORES], run([1, 0], [1, 0]), run([1, 0]))
    assert found.lost == 1 and found.loss("kl") == math.inf


def test_shards_in_any_order() -> None:
    random = np.random.default_rng(0)
    parts = {
        i: Noise(1, *(float(x) for x in random.random(1)), 0, 3, *(float(x) for x in random.random(3)))
        for i in range(50)
    }
    turned = dict(sorted(parts.items(), key=lambda item: -item[0]))
    assert total(parts) == total(turned)
    assert total(parts).steps == 50
