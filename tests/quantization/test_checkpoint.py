"""An interrupted calibration goes on where it was, and gives the bits that it would have given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning
from graphopt.quantization.calibration import Calibration, calibrate
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.statistics import Statistics

RNG = np.random.default_rng(0)
W = RNG.standard_normal((40, 64)).astype(np.float32)
Sample = dict[str, np.ndarray]
SAMPLES: list[Sample] = [
    {"x": RNG.standard_normal((n, 40)).astype(np.float32) * (n + 1)} for n in (3, 0, 200, 1, 7, 300)
]


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be written after every sample."""
    monkeypatch.setattr("graphopt.quantization.checkpoint._SHARE", float("inf"))


@pytest.fixture
def model() -> ir.Model:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,40] x) => (float[N,64] y) { h = MatMul(x, w) y = Relu(h) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


def run(
    model: ir.Model, samples: Iterator[Sample] | list[Sample], checkpoint: Checkpoint | None, done: list[int]
) -> tuple[Calibration, Statistics]:
    found = planning.candidates(model)
    statistics = Statistics(found)
    names = planning.values_to_observe(found)
    return calibrate(model, names, samples, done.append, statistics, checkpoint), statistics


def state(found: tuple[Calibration, Statistics]) -> dict[str, bytes]:
    calibration, statistics = found
    parts = [*calibration.observers.items(), *statistics.parts]
    return {f"{name}/{key}": array.tobytes() for name, part in parts for key, array in part.state().items()}


def interrupted(after: int) -> Iterator[Sample]:
    yield from SAMPLES[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize("after", range(len(SAMPLES) + 1))
def test_it_goes_on_where_it_was(model: ir.Model, tmp_path: Path, after: int) -> None:
    whole = run(model, SAMPLES, None, [])
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(model, interrupted(after), Checkpoint(path, "run", seconds=0), [])
    assert path.exists() == (after > 0)
    assert [f.name for f in tmp_path.iterdir()] == (["state"] if after else [])
    done: list[int] = []
    # What a generator gives is passed over once.
    again = run(model, (sample for sample in SAMPLES), Checkpoint(path, "run", seconds=0), done)
    assert done == list(range(after + 1, len(SAMPLES) + 1))
    assert again[0].samples == len(SAMPLES)
    assert state(again) == state(whole)
    np.testing.assert_array_equal(again[1].inputs.popitem()[1].rows, whole[1].inputs.popitem()[1].rows)


def test_what_is_of_another_run_is_not_taken(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "state"
    run(model, SAMPLES[:2], Checkpoint(path, "run", seconds=0), [])
    for checkpoint in (Checkpoint(path, "another", seconds=0), Checkpoint(tmp_path / "none", "run")):
        done: list[int] = []
        run(model, SAMPLES[:1], checkpoint, done)
        assert done == [1]
    path.write_bytes(path.read_bytes()[:100])
    done = []
    run(model, SAMPLES[:3], Checkpoint(path, "run"), done)
    assert done == [1, 2, 3]


@pytest.mark.parametrize("other", [SAMPLES[1:], SAMPLES[:1], [SAMPLES[1], SAMPLES[0], *SAMPLES[2:]]])
def test_other_samples_are_refused(model: ir.Model, tmp_path: Path, other: list[Sample]) -> None:
    run(model, SAMPLES[:2], Checkpoint(tmp_path / "state", "run", seconds=0), [])
    with pytest.raises(UsageError, match="is of a run over other samples"):
        run(model, other, Checkpoint(tmp_path / "state", "run", seconds=0), [])


def test_it_is_written_seldom_and_removed(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "state"
    checkpoint = Checkpoint(path, "run", seconds=100)
    run(model, SAMPLES, checkpoint, [])
    assert not path.exists()
    run(model, SAMPLES, Checkpoint(path, "run", seconds=0), [])
    checkpoint.remove()
    checkpoint.remove()
    assert not path.exists()
