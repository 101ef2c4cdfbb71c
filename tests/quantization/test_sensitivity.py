"""How much each group's rounding is heard at the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.quantization.choices import CHOICES
from graphopt.quantization.sensitivity import additivity, local_noise, measure_alone, sensitivities
from graphopt.quantization.trials import Bench, Trial, _edits, merged, perform, trials_of
from tests.quantization.deciding import bench, classifier, decoder, rows, sentences

FIRST = ("int8", "weight_only", "float16", "float")


def run(found: Bench):
    return lambda trials: [perform(found, trial) for trial in trials]


def test_local_noise_is_that_of_the_operator_alone() -> None:
    found, statistics = bench(classifier(), rows(4))
    local = local_noise(found, statistics, CHOICES)
    out = local["out"]
    assert out["float"] == 0 < out["float16"] < out["weight_only"] < out["int8"] < out["int4"]
    assert out["int7"] > 2 * out["weight_only"]
    # Nothing comes after this operator: what is heard at the output is its own noise.
    outcome = merged(
        {t.shard: perform(found, t) for t in trials_of(found, found.only(found.groups[1], "int8"))}
    )
    assert outcome.noise.ratio == pytest.approx(out["int8"], rel=0.3)
    assert outcome.answers == 0 and outcome.agreement is None


@pytest.mark.parametrize(("make", "samples"), [(classifier, rows(16)), (decoder, sentences(16))])
def test_losses_add_up(make, samples) -> None:
    found, statistics = bench(make(), samples)
    local = local_noise(found, statistics, CHOICES)
    alone = measure_alone(found, local, FIRST, run(found))
    assert set(alone) == {g.name for g in found.groups}
    for metric in ("kl", "sqnr"):
        losses = sensitivities(found, local, alone, FIRST, metric)
        is_sum = additivity(found, losses, FIRST, metric, run(found))
        assert 0.4 < is_sum.ratio < 2.5
        for group in found.groups:
            s = losses[group.name]
            first = "int8" if group.is_integer else "weight_only"
            assert s.loss(first) == pytest.approx(alone[group.name].noise.loss(metric), rel=1e-6)
            assert s.loss("float") == 0


def test_only_the_important_ones_are_measured() -> None:
    found, statistics = bench(decoder(), sentences(8))
    local = local_noise(found, statistics, CHOICES)
    alone = measure_alone(found, local, FIRST, run(found), most=2)
    assert len(alone) == 2
    losses = sensitivities(found, local, alone, FIRST, "kl")
    gains = [losses[name].gain for name in alone]
    others = {s.gain for name, s in losses.items() if name not in alone}
    assert others.pop() == pytest.approx(float(np.sqrt(gains[0] * gains[1]))) and not others


def test_time_is_linear_in_layers() -> None:
    """So many runs for any number of layers beyond `MOST`."""
    trials: list[Trial] = []
    found, statistics = bench(decoder(), sentences(8))

    def counting(given):
        trials.extend(given)
        return run(found)(given)

    measure_alone(found, local_noise(found, statistics, CHOICES), FIRST, counting, most=3)
    assert len(trials) == 3 * len(found.shards)


def test_a_bench_in_another_process_measures_the_same() -> None:
    import pickle

    found, _ = bench(decoder(), sentences(4))
    other = pickle.loads(pickle.dumps(found))
    for group in found.groups[:2]:
        trial = Trial(found.only(group, "weight_only"), 0, True)
        assert perform(found, trial) == perform(other, trial)


def test_answers_are_compared_on_a_free_run() -> None:
    found, _ = bench(decoder(), sentences(4))
    everything = tuple((g.name, "int8" if g.is_integer else "weight_only") for g in found.groups)
    outcome = perform(found, Trial(everything, 0, True))
    assert outcome.answers == 4 and outcome.length == 48
    assert outcome.agreement == outcome.alike / 4
    exact = perform(found, Trial(tuple((g.name, "float") for g in found.groups), 0, True))
    assert (exact.alike, exact.distance, exact.noise.noise) == (4, 0, 0)


def test_edit_distance() -> None:
    def distance(a: str, b: str) -> int:
        return _edits(*(np.asarray([ord(c) for c in text]) for text in (a, b)))

    assert distance("kitten", "sitting") == 3
    assert distance("", "abc") == distance("abc", "") == 3
    assert distance("abcdef", "abcdef") == 0
    assert distance("flaw", "lawn") == 2
    assert distance("abcdef", "azced") == 3
    assert _edits(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [4, 3]])) == 2
