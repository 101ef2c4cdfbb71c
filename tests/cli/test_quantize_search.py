"""`graphopt quantize`: limits, fronts, workers, and what it says when a limit is out of reach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

from graphopt.reporting.quantization import schema
from tests.quantization.deciding import CLASSIFIER, matrix

RNG = np.random.default_rng(0)


def graphopt(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphopt", "quantize", *map(str, arguments), "--no-verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("search")
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{CLASSIFIER}')
    weights = {"w1": matrix(64, 64, seed=1), "w2": matrix(64, 64, seed=2), "w3": matrix(64, 32, seed=3) * 4}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    onnx.save(proto, found / "model.onnx")
    (found / "calib").mkdir()
    for i in range(12):
        np.savez(found / "calib" / f"{i:02}.npz", x=RNG.standard_normal((40, 64)).astype(np.float32))
    return found


def quantized(folder: Path, output: Path, *options: str | Path, code: int = 0) -> dict:
    done = graphopt(
        folder / "model.onnx", "--data", folder / "calib", "-o", output, "--json", *options, code=code
    )
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema())
    if code == 7:
        assert "out of reach" in done.stderr and done.stderr.count("\n") == 1
    return found


def test_the_default(folder: Path, tmp_path: Path) -> None:
    found = quantized(folder, tmp_path / "m.onnx")
    decision = found["decision"]
    point = decision["points"][decision["taken"]]
    assert decision["reached"] and point["agreement"] >= 0.99
    assert point["bytes"] == found["bytes"]["after"] == (tmp_path / "m.onnx").stat().st_size
    assert 0.3 < decision["additivity"]["measured"] / decision["additivity"]["predicted"] < 3
    assert set(decision["sensitivity"]) >= {"out"} or len(decision["sensitivity"]) == 3


def test_sizes(folder: Path, tmp_path: Path) -> None:
    eight = quantized(folder, tmp_path / "a.onnx")["bytes"]["after"]
    small = quantized(folder, tmp_path / "b.onnx", "--max-size", str(eight - 1200))
    assert small["bytes"]["after"] <= eight - 1200 and small["decision"]["reached"]
    assert {s["choice"] for s in small["decision"]["sensitivity"].values()} >= {"int4"}
    assert (tmp_path / "b.onnx").stat().st_size == small["bytes"]["after"]
    large = quantized(folder, tmp_path / "c.onnx", "--max-size", "32KiB")
    assert eight < large["bytes"]["after"] <= 32 * 1024
    losses = [found["decision"]["points"][found["decision"]["taken"]]["measured"] for found in (small, large)]
    assert losses[0] > losses[1]


def test_out_of_reach(folder: Path, tmp_path: Path) -> None:
    table, report = tmp_path / "q.json", tmp_path / "r.json"
    found = quantized(
        folder, tmp_path / "m.onnx", "--max-size", "2K", "--table", table, "--report", report, code=7
    )
    assert not found["decision"]["reached"]
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    assert table.exists() and json.loads(report.read_text())["decision"]["limits"] == "at most 2,000 bytes"


def test_losses(folder: Path, tmp_path: Path) -> None:
    def taken(*options: str) -> dict:
        decision = quantized(folder, tmp_path / "m.onnx", *options)["decision"]
        return decision["points"][decision["taken"]]

    loose, tight = taken("--max-loss", "1"), taken("--max-loss", "1e-7")
    assert tight["kl"] <= 1e-7 < loose["kl"] and loose["bytes"] < tight["bytes"]
    assert taken("--max-loss", "50", "--metric", "sqnr")["sqnr_db"] >= 50
    assert taken("--max-loss", "0.002", "--metric", "agreement")["agreement"] >= 0.998


def test_fallbacks(folder: Path, tmp_path: Path) -> None:
    for count in (0, 1, 3):
        decision = quantized(folder, tmp_path / "m.onnx", "--max-fallbacks", str(count))["decision"]
        assert decision["points"][decision["taken"]]["fallbacks"] <= count


def test_the_front(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = quantized(folder, tmp_path / "m.onnx", "--pareto", "--workers", "2")["decision"]
    front = tmp_path / "m.pareto"
    tables = sorted(path.name for path in front.glob("??.json"))
    assert len(tables) == len(found["points"]) > 3
    assert json.loads((front / "front.json").read_text()) == found
    assert (front / "front.svg").read_text().startswith("<?xml")
    for number, point in ((0, found["points"][0]), (len(tables) - 2, found["points"][-2])):
        again = tmp_path / f"{number}.onnx"
        graphopt(folder / "model.onnx", "--table", front / f"{number:02}.json", "-o", again)
        assert again.stat().st_size == point["bytes"]
    # One worker finds the same to the last bit.
    assert quantized(folder, tmp_path / "n.onnx", "--pareto")["decision"] == found
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "n.onnx").read_bytes()


def test_the_knee_and_seven_bits(folder: Path, tmp_path: Path) -> None:
    knee = quantized(folder, tmp_path / "m.onnx", "--knee")["decision"]
    assert knee["reached"] and knee["limits"] == "the knee" and len(knee["points"]) > 3
    seven = quantized(folder, tmp_path / "n.onnx", "--bits", "7", "--max-fallbacks", "0")["decision"]
    assert {s["choice"] for s in seven["sensitivity"].values()} == {"int7"}


def test_all_that_may_be(folder: Path, tmp_path: Path) -> None:
    found = quantized(folder, tmp_path / "m.onnx", "--no-search")
    assert "decision" not in found and found["modes"] == {"int8": 3}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-loss", "1", "--max-size", "10M"], "one of them at a time"),
        (["--max-loss", "-1"], "0 or more"),
        (["--max-loss", "nan"], "0 or more"),
        (["--max-size", "ten"], "is no size"),
        (["--max-size", "0"], "is no size"),
        (["--max-fallbacks", "-2"], "0 or more"),
        (["--metric", "kl"], "give both"),
        (["--workers", "0"], "1 or more"),
        (["--knee", "--max-fallbacks", "2"], "one of them at a time"),
        (["--no-search", "--max-size", "1M"], "needs the search"),
        (["--dask", "tcp://127.0.0.1:1"], "no Dask scheduler"),
    ],
)
def test_wrong_usage(folder: Path, tmp_path: Path, options: list[str], said: str) -> None:
    output = tmp_path / "m.onnx"
    done = graphopt(folder / "model.onnx", "--data", folder / "calib", "-o", output, *options, code=2)
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_limits_need_samples(folder: Path) -> None:
    done = graphopt(folder / "model.onnx", "--weights-only", "int8", "--max-size", "1M", code=2)
    assert "--max-size needs samples" in done.stderr
