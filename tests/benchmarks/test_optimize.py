"""The optimizer's benchmark runs the command line on a folder of models and tells what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import optimize, tables
from benchmarks.judging import Judgement
from benchmarks.latency import Ratio
from benchmarks.models import builder, chain
from benchmarks.optimize import Optimized, Row
from benchmarks.peers import PeerCounts, PeerResult, read, to_json
from benchmarks.scaling import BigMemory, ChainTime, big_memory, table

RECIPE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 32], "kind": "normal"}],
    "sizes": [{"batch": 1}, {"batch": 3}],
}
FINE = Judgement(
    operators=20,
    instructions=10,
    standard=True,
    checker="",
    loads=True,
    equal=True,
    dynamic=True,
    error=0.0,
    why="",
)
PEERS = PeerCounts(
    50, {"slim": PeerResult(30, standard=True, works=True), "ort": PeerResult(25, False, True)}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    builder.save(chain.build(2), tmp_path / "models" / "chain.onnx")
    (tmp_path / "models" / "chain.json").write_text(json.dumps(RECIPE))
    (tmp_path / "models" / "no_recipe.onnx").write_text("")
    return tmp_path / "models"


def test_on_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    given = [str(folder), "--no-peers", "--no-scaling", "--target", "onnx", "--latency-seconds", "0.1"]
    optimize.main([*given, "--verify-seconds", "1", "--out", str(out)])
    (row,) = json.loads(out.read_text())["models"].values()
    found = row["targets"]["onnx"]
    assert row["operators"] == 44
    assert found["failure"] == "" and found["status"] == "verified" and found["judgement"]["equal"]
    assert found["judgement"]["operators"] <= 44 and found["latency"]["rounds"] >= 12
    assert found["seconds"] > 0 and found["peak_mib"] > 10
    printed = capsys.readouterr().out
    assert "1 models, 44 operators" in printed and "failed: 0" in printed


def test_unknown_names_end_it(folder: Path) -> None:
    assert optimize.names(folder, []) == ["chain"]
    with pytest.raises(SystemExit, match="no model with a recipe"):
        optimize.names(folder, ["chain", "other"])


def test_a_model_that_fails_is_a_row(folder: Path) -> None:
    (folder / "chain.onnx").write_text("not a model")
    plan = optimize.Plan(folder, folder, ["onnx"], 0.0, 1.0)
    found = optimize.optimized("chain", "onnx", plan)
    assert "chain.onnx" in found.failure and not found.works


def test_totals_count_the_original_where_a_result_is_not_usable() -> None:
    good = Row("good", 50, {"onnx": Optimized(judgement=FINE, status="verified")}, PEERS)
    wrong = replace(good, model="wrong", targets={"onnx": Optimized(judgement=replace(FINE, equal=False))})
    foreign = replace(
        good, model="foreign", targets={"onnx": Optimized(judgement=replace(FINE, standard=False))}
    )
    failed = replace(good, model="failed", targets={"onnx": Optimized(failure="over 300 s")})
    rows = [good, wrong, foreign, failed]
    assert [tables.usable(row, "onnx") for row in rows] == [20, 50, 50, 50]
    text = tables.totals(rows, ["onnx"])
    assert "4 models, 200 operators" in text
    assert "best standard-only peer a model         120" in text
    assert "best peer a model                       100" in text
    assert "failed: 1 (failed)" in text and "not usable: 1 (wrong)" in text
    assert "more than the best peer: 3 (wrong, foreign, failed)" in text


def test_own_operators_count_once_on_the_own_target() -> None:
    row = Row("m", 50, {"graphopt": Optimized(judgement=FINE)}, None)
    assert tables.usable(row, "graphopt") == 10


def test_a_line_marks_what_is_wrong() -> None:
    slow = Ratio(1.1, 1.05, 1.2, 12, 3.0)
    bad = replace(FINE, equal=False, dynamic=False, standard=False, checker="no")
    found = Optimized(judgement=bad, status="unverified", dropped=("a", "b"), latency=slow)
    line = tables.line(Row("m", 1234, {"onnx": found}, PEERS))
    assert "20*!diff!dims!check?-2" in line and "1.100 [1.050, 1.200]" in line and "1,234" in line


def test_counts_of_peers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text(to_json({"m": PEERS}))
    assert read(path) == {"m": PEERS}


def test_memory_of_external_weights_is_measured(tmp_path: Path) -> None:
    held = big_memory(8, tmp_path, width=512)
    assert held.result_mib >= 8 and held.before == 9 * 8
    assert held.above_imports_mib < 100
    text = table([ChainTime(2, 44, 4, 1.0, 2.0)], BigMemory(8, 64, 16, 1.0, 5.0, 8.0))
    assert "2 blocks       44        4" in text and "5 MiB of memory above imports" in text
