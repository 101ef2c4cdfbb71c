"""The float model's path: decisions are recorded and replayed, in loops and outside of them."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.quantization.applying import with_table
from graphopt.quantization.noise import noise_between, total
from graphopt.quantization.replay import Replay, decisions_of, probes_of, ranks_of
from tests.quantization.deciding import RNG, classifier, decoder, first, matrix, parsed, rows, sentences

SCAN = """g (float[1,16] x, float[T,1,16] seen) => (float[1,16] last, int64[T] said) {
    [scan] last, said = Scan <num_scan_inputs = 1, body = b (float[1,16] h, float[1,16] step) => (float[1,16] next, int64[1] word) {
        [mix] a = MatMul(h, w)  s = Add(a, step)
        [choose] word = ArgMax <axis = 1, keepdims = 0> (s)
        row = Gather(table, word)
        sum = Add(s, row)  next = Tanh(sum)
    }> (x, seen)
}"""


def worse(model, scale: float = 0.2):
    """A copy whose weights are off: it decides otherwise."""
    import onnx_ir as ir

    copy = model.clone()
    random = np.random.default_rng(9)
    for graph in [copy.graph, *copy.graph.subgraphs()]:
        for value in graph.initializers.values():
            array = value.const_value.numpy()
            if array.dtype == np.float32 and array.size > 100:
                noise = random.standard_normal(array.shape) * scale * array.std()
                value.const_value = ir.tensor((array + noise).astype(np.float32))
    return copy


def test_a_decoding_loop_takes_the_float_models_words() -> None:
    model, samples = decoder(), sentences(6)
    decisions, probes = decisions_of(model), probes_of(model)
    assert [(d.node, d.loop) for d in decisions] == [("loop:body/choose", "loop")]
    assert [(p.name, p.axis) for p in probes] == [("loop:body/choose", 1)]
    recorder = Replay(model, decisions, probes)
    runs = [recorder.run(feeds) for feeds in samples]
    other = worse(model)
    free, following = Replay(other, [], probes), Replay(other, decisions, probes, ranks_of(runs))
    on_its_own = [free.run(feeds) for feeds in samples]
    led = [following.run(feeds, run) for feeds, run in zip(samples, runs, strict=True)]
    apart = total([noise_between(probes, a, b) for a, b in zip(runs, on_its_own, strict=True)])
    together = total([noise_between(probes, a, b) for a, b in zip(runs, led, strict=True)])
    # It does say other words, and from then on every number is another one.
    assert any(
        not np.array_equal(a.answers.arrays[0], b.answers.arrays[0])
        for a, b in zip(runs, on_its_own, strict=True)
    )
    assert together.steps == apart.steps == 6 * 12
    assert 0 < together.kl < apart.kl / 1.5
    # The first step is the same either way; the answer is the one that was fed.
    np.testing.assert_array_equal(led[0].probes[probes[0].name][0], on_its_own[0].probes[probes[0].name][0])
    for a, b in zip(runs, led, strict=True):
        np.testing.assert_array_equal(a.answers.arrays[0], b.answers.arrays[0])


def test_the_same_model_on_its_own_path_is_the_same() -> None:
    for model, samples in (
        (decoder(), sentences(3)),
        (decoder(), sentences(2, words=0)),
        (classifier(), rows(3)),
    ):
        decisions, probes = decisions_of(model), probes_of(model)
        recorder = Replay(model, decisions, probes)
        runs = [recorder.run(feeds) for feeds in samples]
        follower = Replay(model, decisions, probes, ranks_of(runs))
        for feeds, run in zip(samples, runs, strict=True):
            found = noise_between(probes, run, follower.run(feeds, run))
            assert found.noise == found.divergence == found.lost == 0


def test_a_scan() -> None:
    model = parsed(SCAN, w=matrix(16, 16, seed=1), table=matrix(16, 16, seed=2) * 8)
    samples = [
        {
            "x": RNG.standard_normal((1, 16)).astype(np.float32),
            "seen": RNG.standard_normal((n, 1, 16)).astype(np.float32),
        }
        for n in (5, 9, 1)
    ]
    decisions, probes = decisions_of(model), probes_of(model)
    assert [(d.node, d.is_scan) for d in decisions] == [("scan:body/choose", True)]
    recorder = Replay(model, decisions, probes)
    runs = [recorder.run(feeds) for feeds in samples]
    other = worse(model, 0.5)
    follower, free = Replay(other, decisions, probes, ranks_of(runs)), Replay(other, [], probes)
    assert any(
        not np.array_equal(r.answers.arrays[0], free.run(f).answers.arrays[0])
        for r, f in zip(runs, samples, strict=True)
    )
    for feeds, run in zip(samples, runs, strict=True):
        np.testing.assert_array_equal(follower.run(feeds, run).answers.arrays[0], run.answers.arrays[0])


def test_decisions_below_an_if_and_outside_of_loops() -> None:
    model = parsed(
        """g (float[1,16] x, bool c) => (float[1,16] y) {
            [best] values, which = TopK <axis = 1> (x, k)
            [if] row = If (c) <then_branch = t () => (float[1,16] r) { [pick] i = ArgMax <axis = 1, keepdims = 0> (x)  r = Gather(table, i) }, else_branch = e () => (float[1,16] s) { s = Identity(x) }>
            part = GatherElements <axis = 1> (x, which)
            mean = ReduceMean <keepdims = 1> (part)
            y = Add(row, mean)
        }""",
        k=np.asarray([2]),
        table=matrix(16, 16),
    )
    samples = [
        {"x": RNG.standard_normal((1, 16)).astype(np.float32), "c": np.asarray(c)} for c in (True, False)
    ]
    decisions, probes = decisions_of(model), probes_of(model)
    assert [d.node for d in decisions] == ["best", "if:then_branch/pick"]
    recorder = Replay(model, decisions, probes)
    runs = [recorder.run(feeds) for feeds in samples]
    follower = Replay(model, decisions, probes, ranks_of(runs))
    for feeds, run in zip(samples, runs, strict=True):
        assert noise_between(probes, run, follower.run(feeds, run)).noise == 0


def test_without_decisions_outputs_are_compared() -> None:
    (probe,) = probes_of(classifier())
    assert (probe.name, probe.is_output, probe.is_distribution, probe.is_normal) == ("y", True, True, False)
    (normal,) = probes_of(parsed("g (float[N,4,8] x) => (float[N,4,8] y) { y = Softmax(x) }"))
    assert normal.is_normal and normal.is_distribution
    (picture,) = probes_of(parsed("g (float[N,4,8] x) => (float[N,4,8] y) { y = Relu(x) }"))
    assert not picture.is_distribution


def test_a_quantized_model_follows() -> None:
    model, samples = decoder(), sentences(4)
    table, _ = first(model, samples)
    decisions, probes = decisions_of(model), probes_of(model)
    recorder = Replay(model, decisions, probes)
    runs = [recorder.run(feeds) for feeds in samples]
    follower = Replay(with_table(model, table), decisions, probes, ranks_of(runs))
    found = total([noise_between(probes, r, follower.run(f, r)) for f, r in zip(samples, runs, strict=True)])
    assert found.steps == 48 and found.lost == 0
    assert 15 < found.sqnr < 60 and found.kl == pytest.approx(found.divergence / 48)
