"""Calibration: values of bodies in every iteration, data in every form, bad data in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.samples import samples_of

LOOP = """<ir_version: 8, opset_import: ["": 17]>
g (int64 n, float[R,2] x, bool c) => (float[S,2] y) {
    t = Constant <value = bool {1}> ()
    two = Constant <value = float {2}> ()
    [repeat] y = Loop (n, t, x) <body = b (int64 i, bool go, float[P,2] a) => (bool went, float[Q,2] grown) {
        went = Identity(go)
        double = Mul(a, two)
        grown = Concat <axis = 0> (a, double)
    }>
    [choose] z = If (c) <then_branch = t () => (float[T,2] u) { u = Neg(y) },
                         else_branch = e () => (float[T,2] v) { v = Abs(y) }>
}"""
DOUBLE, THEN, ELSE = "repeat:body/double", "choose:then_branch/u", "choose:else_branch/v"


@pytest.fixture
def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(LOOP))


def feeds(n: int, rows: int, value: float = 1.0, c: bool = True) -> dict[str, np.ndarray]:
    return {"n": np.array(n), "x": np.full((rows, 2), value, np.float32), "c": np.array(c)}


def test_every_iteration_is_seen(model: ir.Model) -> None:
    found = calibrate(model, [DOUBLE, "x"], [feeds(3, 1, 1.5)])
    # Rows double: 2, 4, 8 of two numbers are seen, the last ones eight times as large.
    assert found.observers[DOUBLE].seen.count == 2 * (1 + 2 + 4)
    assert found.observers[DOUBLE].seen.max == 1.5 * 8
    assert found.observers["x"].seen.count == 2
    assert found.samples == 1


def test_starts_of_no_length_do_not_count(model: ir.Model) -> None:
    found = calibrate(model, [DOUBLE], [feeds(3, 0)])
    assert not found.observers[DOUBLE].is_observed
    found = calibrate(model, [DOUBLE], [feeds(3, 0), feeds(1, 1, -1.0)])
    assert (found.observers[DOUBLE].low, found.observers[DOUBLE].high) == (-2, -2)


def test_no_trips_and_a_branch_that_never_ran(model: ir.Model) -> None:
    found = calibrate(model, [DOUBLE, "y"], [feeds(0, 1)])
    assert not found.observers[DOUBLE].is_observed
    assert found.observers["y"].is_observed


def test_samples_may_be_split(model: ir.Model) -> None:
    samples = [feeds(n, n + 1, 0.3 * n - 1) for n in range(4)]
    whole = calibrate(model, [DOUBLE, "y"], samples)
    parts = calibrate(model, [DOUBLE, "y"], samples[2:]).merged(calibrate(model, [DOUBLE, "y"], samples[:2]))
    assert parts.samples == whole.samples == 4
    for name, observer in whole.observers.items():
        assert parts.observers[name].seen == observer.seen
        assert parts.observers[name].range("mse") == observer.range("mse")


def test_progress(model: ir.Model) -> None:
    done: list[int] = []
    calibrate(model, ["y"], [feeds(1, 1), feeds(2, 1)], done.append)
    assert done == [1, 2]


def test_no_such_value(model: ir.Model) -> None:
    with pytest.raises(UsageError, match="there is no value 'nowhere'"):
        calibrate(model, ["nowhere"], [feeds(1, 1)])


ONE = '<ir_version: 8, opset_import: ["": 17]> g (float[N,2] x) => (float[N,2] y) { y = Neg(x) }'


@pytest.fixture
def one() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(ONE))


def test_files(one: ir.Model, tmp_path: Path) -> None:
    arrays = [np.full((n, 2), n, np.float32) for n in range(3)]
    np.savez(tmp_path / "b.npz", x=arrays[1])
    np.savez(tmp_path / "c.npz", x=arrays[2])
    np.save(tmp_path / "a.npy", arrays[0])
    (tmp_path / "notes.txt").write_text("of no matter")
    assert [feeds["x"].shape for feeds in samples_of(tmp_path, one)] == [(0, 2), (1, 2), (2, 2)]
    assert len(list(samples_of(tmp_path / "b.npz", one))) == 1
    assert len(list(samples_of(({"x": a} for a in arrays), one))) == 3


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "data[0]: lacks x; its keys must be the model's inputs: x"),
        ({"x": np.ones((1, 2), np.float32), "z": 1}, "has z, which is no input"),
        ({"x": np.ones((1, 2))}, "x is float64, the model takes float32"),
        ({"x": np.ones((1, 3), np.float32)}, "x is [1, 3], the model takes ['N', 2]"),
        ({"x": np.ones(2, np.float32)}, "x is [2], the model takes ['N', 2]"),
        ({"x": np.full((1, 2), np.nan, np.float32)}, "x has NaN or infinities in it"),
    ],
)
def test_bad_samples(one: ir.Model, feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(samples_of([feeds], one))
    assert message in str(caught.value)


def test_bad_files(one: ir.Model, model: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no samples there"):
        list(samples_of(tmp_path, one))
    with pytest.raises(UsageError, match="not a file of arrays"):
        list(samples_of(tmp_path / "none.npz", one))
    np.save(tmp_path / "a.npy", np.ones((1, 2), np.float32))
    with pytest.raises(UsageError, match="the model has 3 inputs"):
        list(samples_of(tmp_path / "a.npy", model))
