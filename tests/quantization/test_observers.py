"""Observers against worked cases, and the law that order and split do not matter."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import UsageError
from graphopt.ir.quantizing import Grid, asymmetric, dequantized, quantized
from graphopt.quantization import thresholds
from graphopt.quantization.histogram import Histogram
from graphopt.quantization.observers import METHODS, ChannelObserver, Method, Observer

F = np.float32


def histogram(*batches: list[float], bins: int = 8) -> Histogram:
    found = Histogram(bins)
    for batch in batches:
        found.add(np.array(batch, F))
    return found


def test_folding_is_counting() -> None:
    first, second = [0.1, 0.2, 0.3, 0.45], [0.6, 1.5]
    one, other = histogram(first), histogram(second)
    assert (one.exponent, one.counts.tolist()) == (-1, [0, 1, 0, 1, 1, 0, 0, 1])
    assert (other.exponent, other.counts.tolist()) == (1, [0, 0, 1, 0, 0, 0, 1, 0])
    merged = histogram(first)
    merged.merge(other)
    for found in (merged, histogram(first + second), histogram(second, first)):
        assert (found.exponent, found.counts.tolist()) == (1, [2, 2, 1, 0, 0, 0, 1, 0])
    assert histogram([0.5]).exponent == 0
    assert histogram([]).exponent is None


def test_percentile() -> None:
    counts = np.array([50, 30, 15, 4, 0, 0, 0, 1])
    found = [thresholds.percentile(counts, p) for p in (0.5, 0.9, 0.99, 0.999)]
    assert found == pytest.approx([1.0, 2.666667, 4.0, 7.9], rel=1e-6)


def test_divergence() -> None:
    counts = np.array([40, 30, 16, 8, 4, 1, 0, 1])
    found = thresholds.divergences(counts, 4, np.arange(4, 9))
    assert found == pytest.approx([0.016471, 0.002812, 0.025933, 0.032255, 0.030397], abs=1e-6)
    assert thresholds.kl(counts, 4) == 5


def test_divergence_and_a_spike() -> None:
    counts = np.array([1000, 60, 50, 40, 30, 20, 10, 5, 3, 2, 1, 1])
    without = np.concatenate([[0], counts[1:]])
    assert (thresholds.kl(counts, 4), thresholds.kl(without, 4)) == (7, 9)
    both = [thresholds.divergences(c, 4, np.array([4]))[0] for c in (counts, without)]
    assert both == pytest.approx([0.033641, 0.127406], abs=1e-6)


def test_divergence_is_the_definition() -> None:
    counts = np.random.default_rng(0).poisson(2, 64)
    candidates = np.arange(8, 65)
    found = thresholds.divergences(counts, 8, candidates)
    for i, divergence in zip(candidates, found, strict=True):
        p = counts[:i].astype(float)
        q = np.zeros(i)
        p[-1] += counts[i:].sum()
        for j in range(8):
            a, b = j * i // 8, (j + 1) * i // 8
            used = p[a:b] > 0
            q[a:b][used] = counts[a:b].sum() / max(used.sum(), 1)
        used = p > 0
        with np.errstate(divide="ignore"):
            expected = (p[used] / p.sum() * np.log(p[used] / p.sum() / (q[used] / counts[:i].sum()))).sum()
        assert divergence == pytest.approx(expected, abs=1e-9)


def test_squared_error() -> None:
    x = np.abs([0.1, 0.2, 0.3, -0.2, -0.1, 0.25, -0.3, 0.15, 0.05, -0.25, 1])
    limits = np.array([1, 0.8, 0.6, 0.4])
    errors = thresholds.squared_errors(x, np.ones(11, np.int64), limits, limits / 3) / 11
    assert errors == pytest.approx([0.008788, 0.007980, 0.019091, 0.034242], abs=1e-6)


@given(
    values=st.lists(
        st.floats(width=32, allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 0.5, 1.0]),
        max_size=60,
    ),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    order=st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_order_and_split_do_not_matter(values: list[float], cuts: list[int], order: object) -> None:
    at_once = Observer()
    at_once.update(np.array(values, F))
    parts = list(np.split(np.array(values, F), sorted(min(c, len(values)) for c in cuts)))
    order.shuffle(parts)  # type: ignore[attr-defined]
    streamed, merged = Observer(), Observer()
    for part in parts:
        streamed.update(part)
        one = Observer()
        one.update(part)
        merged.merge(one)
    for found in (streamed, merged):
        assert found.seen == at_once.seen or not at_once.is_observed
        assert found.not_finite == at_once.not_finite
        for side, other in ((found.positive, at_once.positive), (found.negative, at_once.negative)):
            assert side.exponent == other.exponent
            assert side.counts.tolist() == other.counts.tolist()
    if at_once.is_observed:
        for method in METHODS:
            low, high = at_once.range(method)
            assert min(at_once.low, 0) <= low
            assert high <= max(at_once.high, 0)


def test_nothing_seen() -> None:
    observer = Observer()
    observer.update(np.zeros((0, 3), F))
    assert not observer.is_observed
    observer.update(np.array([np.nan, np.inf], F))
    assert not observer.is_observed
    assert observer.not_finite == 2
    with pytest.raises(UsageError, match="unobserved"):
        observer.range("minmax")


@pytest.mark.parametrize("size", [1e-40, 1e-30, 3e38])
def test_extreme_sizes(size: float) -> None:
    observer = Observer()
    observer.update(np.linspace(-size, size, 20_001, dtype=F))
    for method in METHODS:
        low, high = observer.range(method)
        assert -size * 1.001 <= low <= 0 <= high <= size * 1.001


def test_one_outlier() -> None:
    x = np.append(np.random.default_rng(0).standard_normal(1_000_000), 60).astype(F)
    observer = Observer()
    observer.update(x)
    assert observer.range("minmax")[1] == 60
    assert observer.range("percentile")[1] < 5
    assert observer.range("kl")[1] < 6
    assert 6 < observer.range("mse")[1] < 60
    low, high = observer.range("mse")

    def error(low: float, high: float) -> float:
        scale = (high - low) / 255
        return float(
            np.mean(
                (np.clip(np.rint(x / scale), np.rint(low / scale), np.rint(high / scale)) * scale - x) ** 2
            )
        )

    assert error(low, high) < 0.5 * error(observer.low, observer.high)


def test_half_zeros_do_not_hide_the_rest() -> None:
    x = np.maximum(np.random.default_rng(0).standard_normal(1_000_000), 0).astype(F)
    observer = Observer()
    observer.update(x)
    assert observer.range("kl")[0] == 0
    assert observer.range("kl")[1] > 4
    assert observer.zeros == int((x == 0).sum())


def test_channels() -> None:
    observer = ChannelObserver(1)
    observer.update(np.array([[1, -2, np.nan], [0.5, 4, 0]], F))
    observer.update(np.zeros((0, 3), F))
    other = ChannelObserver(1)
    other.update(np.array([[9, 0, 0]], F))
    observer.merge(other)
    assert observer.low is not None and observer.low.tolist() == [0.5, -2, 0]
    assert observer.high is not None and observer.high.tolist() == [9, 4, 0]
    with pytest.raises(UsageError, match="had 3 positions and now has 2"):
        observer.update(np.zeros((1, 2), F))


def test_what_an_update_takes_is_a_few_times_the_array() -> None:
    values = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)
    observer = Observer()
    observer.update(values[:10])
    tracemalloc.start()
    observer.update(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * values.nbytes
    pieces = Observer()
    for piece in (values[:10], *np.array_split(values, 7)):
        pieces.update(piece)
    np.testing.assert_array_equal(pieces.positive.counts, observer.positive.counts)


def lost(x: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of rounding to 256 codes from one number to another."""
    scale, zero = asymmetric(low, high, ir.DataType.UINT8)
    grid = Grid(ir.DataType.UINT8, np.asarray(scale, F), np.asarray(zero, np.uint8))
    return float(((dequantized(quantized(x, grid), grid) - x) ** 2).mean())


NORMAL = np.random.default_rng(0).standard_normal(200_000).astype(F)
# A few numbers far out, which cutting costs less than keeping.
OUTLIERS = np.append(NORMAL, np.full(3, 40, F))


@pytest.mark.parametrize("method", ["percentile", "kl"])
def test_cutting_outliers_is_better_for_all_others_than_keeping_them(method: Method) -> None:
    observer = Observer()
    observer.update(OUTLIERS)
    assert lost(NORMAL, *observer.range(method)) < 0.2 * lost(NORMAL, *observer.range("minmax"))


def test_keeping_all_is_better_where_all_are_alike() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(F)
    x[:1000] = np.sign(x[:1000])
    observer = Observer()
    observer.update(x)
    best = lost(x, *observer.range("minmax"))
    assert lost(x, -0.95, 0.95) > 2 * best
    assert lost(x, *observer.range("mse")) < 1.1 * best


def test_the_least_squared_error_is_that_of_mse() -> None:
    for x in (NORMAL, OUTLIERS, np.maximum(OUTLIERS, 0)):
        observer = Observer()
        observer.update(x)
        losses = {method: lost(x, *observer.range(method)) for method in METHODS}
        assert losses["mse"] < 1.02 * min(losses.values())


def test_one_sided_numbers_have_twice_the_codes_without_a_sign() -> None:
    x = np.abs(NORMAL)
    observer = Observer()
    observer.update(x)
    low, high = observer.range("minmax")
    assert low >= 0
    assert lost(x, low, high) < 0.3 * lost(x, -high, high)
