"""Statistics of inputs: right, bounded, and the same whatever the order of samples."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import statistics as module
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.planning import candidates, values_to_observe
from graphopt.quantization.products import Product
from graphopt.quantization.statistics import InputStatistics, Statistics, sample_key

RNG = np.random.default_rng(0)


def matrix(depth: int = 6) -> InputStatistics:
    return InputStatistics(Product("MatMul", (depth, 1)))


def samples(count: int, depth: int = 6) -> list[np.ndarray]:
    return [RNG.standard_normal((int(RNG.integers(5, 60)), depth)).astype(np.float32) for _ in range(count)]


def seen(arrays: list[np.ndarray], into: InputStatistics | None = None) -> InputStatistics:
    found = into or matrix()
    for array in arrays:
        found.update(array, sample_key({"x": array}), 0)
    return found


def test_sums() -> None:
    arrays = samples(9)
    found, everything = seen(arrays), np.concatenate(arrays)
    np.testing.assert_allclose(found.mean[0], everything.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found.largest, np.abs(everything).max(0))
    assert found.count == len(everything)
    fitted = np.concatenate([a for a in arrays if not module.is_held_out(sample_key({"x": a}))]).astype(
        np.float64
    )
    assert found.gram_count == len(fitted) < found.count
    np.testing.assert_allclose(found.gram()[0][0], fitted.T @ fitted, rtol=1e-12)


def test_order_and_split_do_not_matter() -> None:
    arrays = samples(60)
    whole, backwards, parts = seen(arrays), seen(arrays[::-1]), seen(arrays[40:])
    parts.merge(seen(arrays[:40]))
    assert len(whole.rows) == module.ROWS < whole.count
    for other in (backwards, parts):
        np.testing.assert_array_equal(whole.rows, other.rows)
        np.testing.assert_array_equal(whole.fit, other.fit)
        np.testing.assert_allclose(whole.gram()[0], other.gram()[0], rtol=1e-12)
        np.testing.assert_allclose(whole.mean, other.mean, rtol=1e-12)


def test_rows_are_a_fair_sample() -> None:
    # Every row says which it is; kept ones must come from everywhere.
    arrays = [np.stack([np.full(50, i), np.arange(50)], 1).astype(np.float32) for i in range(40)]
    rows = seen(arrays, matrix(2)).rows[:, 0]
    assert len(np.unique(rows, axis=0)) == len(rows) == module.ROWS
    assert 17 < rows[:, 0].mean() < 22
    assert 22 < rows[:, 1].mean() < 27


def test_held_out_rows_are_of_other_samples() -> None:
    arrays = [np.full((20, 2), i, np.float32) for i in range(30)]
    found = seen(arrays, matrix(2))
    fit, held_out = ({float(x) for x in rows[:, 0, 0]} for rows in (found.fit, found.held_out))
    assert fit
    assert held_out
    assert not fit & held_out


def test_one_sample_is_split_by_rows() -> None:
    array = samples(1)[0]
    found = seen([array])
    assert len(found.fit) + len(found.held_out) == len(array)
    assert len(found.held_out) == len(array) // 4
    # Should that sample be a held-out one, X^T X is made of the rows that were kept.
    assert found.gram()[0][0].trace() > 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_NUMBERS", 1 << 10)
    found = matrix(16)
    for i in range(50):
        found.update(RNG.standard_normal((100, 16)).astype(np.float32), i, 0)
    assert found.most_rows == 64
    assert len(found.rows) == 64
    assert sum(a.nbytes for a in found._rows) <= 2 * 64 * 16 * 4


def test_products_are_forgotten_and_rows_stay() -> None:
    found = seen(samples(40))
    rows, mean = found.rows.copy(), found.mean
    found.forget_products()
    assert not found.grams and not found.gram_count
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_allclose(found.gram()[0][0], rows[:, 0].astype(np.float64).T @ rows[:, 0], rtol=1e-6)


def test_columns_of_a_block_beside_each_other() -> None:
    wide = InputStatistics(Product("MatMul", (10, 1)), block=4)
    assert [len(b) for b in wide.blocks] == [3, 3, 4]
    arrays = samples(6, 10)
    full = seen(arrays, matrix(10)).gram()[0][0]
    for block, gram in zip(wide.blocks, seen(arrays, wide).gram(), strict=True):
        np.testing.assert_allclose(gram[0], full[block.start : block.stop, block.start : block.stop])


def test_a_budget_makes_blocks_smaller() -> None:
    products = [Product("MatMul", (1024, 1))] * 4
    assert module._affordable(products, 32 << 20) == (2048, np.float64)
    assert module._affordable(products, 16 << 20) == (2048, np.float32)
    assert module._affordable(products, 8 << 20) == (512, np.float32)


def test_empty_and_not_finite() -> None:
    found = matrix()
    found.update(np.zeros((0, 6), np.float32), 1, 0)
    found.update(np.full((2, 6), np.nan, np.float32), 1, 1)
    assert found.count == 0
    assert found.rows.shape == found.fit.shape == found.held_out.shape == (0, 1, 6)


LOOP = """<ir_version: 8, opset_import: ["": 17]>
g (float[T,32] x, int64 n) => (float[U,32] y) {
    t = Constant <value = bool {1}> ()
    first = MatMul(x, shared)
    [repeat] y = Loop (n, t, x) <body = b (int64 i, bool go, float[P,32] a) => (bool went, float[Q,32] next) {
        went = Identity(go)
        q = MatMul(a, shared)
        k = MatMul(a, own)
        sum = Add(q, k)
        next = Tanh(sum)
    }>
}"""


def test_operators_of_bodies_share_an_input() -> None:
    proto = onnx.parser.parse_model(LOOP)
    for name in ("shared", "own"):
        weight = RNG.standard_normal((32, 32)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    model = ir.from_proto(proto)
    name_nodes(model)
    found = candidates(model)
    statistics = Statistics(found)
    feeds = [{"x": RNG.standard_normal((t, 32)).astype(np.float32), "n": np.array(3)} for t in (4, 7)]
    calibrate(model, values_to_observe(found), feeds, statistics=statistics)
    outer, first, second = (statistics.of(c.name) for c in found)
    assert outer is not None
    assert first is second is not None
    assert (outer.count, first.count) == (11, 33)
    again = Statistics(found)
    calibrate(model, [], feeds[1:], statistics=again)
    rest = Statistics(found)
    calibrate(model, [], feeds[:1], statistics=rest)
    again.merge(rest)
    np.testing.assert_array_equal(again.inputs[found[1].input, first.product].rows, first.rows)
    assert statistics.of("nothing") is None
