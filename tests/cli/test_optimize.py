"""`graphopt optimize` on files and folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphopt.reporting.report import schema
from tests.cli.models import write


def graphopt(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphopt", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model.onnx")


def test_writes_beside_the_input_and_says_so(model: Path) -> None:
    before = model.read_bytes()
    done = graphopt("optimize", model)
    result = model.with_name("model.opt.onnx")
    assert types(result) == ["Neg", "Abs"] or types(result) == ["Abs"]
    assert model.read_bytes() == before
    assert "model.onnx  target onnx" in done.stdout and "verified: " in done.stdout
    assert f"written to {result}" in done.stdout
    assert done.stderr == ""
    x = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    assert (ort.InferenceSession(str(result)).run(None, {"x": x})[0] == abs(x)).all()


def test_over_the_input_only_where_asked(model: Path) -> None:
    graphopt("optimize", model, "-o", model, "--quiet")
    assert "Identity" not in types(model)


def test_quiet_prints_nothing(model: Path) -> None:
    done = graphopt("optimize", model, "--quiet")
    assert done.stdout == done.stderr == ""


def test_json_is_the_report(model: Path, tmp_path: Path) -> None:
    done = graphopt("optimize", model, "--json", "--report", tmp_path / "sub" / "report.json")
    printed = json.loads(done.stdout)
    jsonschema.validate(printed, schema())
    assert printed == json.loads((tmp_path / "sub" / "report.json").read_text())
    assert printed["operators"]["before"]["total"] == 4
    assert printed["verification"]["status"] == "verified"


def test_no_verify(model: Path) -> None:
    report = json.loads(graphopt("optimize", model, "--no-verify", "--json").stdout)
    assert report["verification"] is None


@pytest.mark.parametrize("options", [["-O0"], ["--stop-after", "0"], ["--passes", ""]])
def test_nothing_is_rewritten_where_nothing_is_asked(model: Path, options: Sequence[str]) -> None:
    graphopt("optimize", model, *options, "--quiet")
    assert types(model.with_name("model.opt.onnx")) == types(model)


def test_a_level_s_pipeline_prints_and_parses_back(model: Path) -> None:
    text = graphopt("passes", "--pipeline", "1").stdout.strip()
    graphopt("optimize", model, "--passes", text, "-o", model.with_name("a.onnx"), "--quiet")
    graphopt("optimize", model, "-O1", "-o", model.with_name("b.onnx"), "--quiet")
    graphopt("diff", model.with_name("a.onnx"), model.with_name("b.onnx"))


def test_a_pipeline_of_one_s_own_and_skipping(model: Path) -> None:
    names = [line["name"] for line in json.loads(graphopt("passes", "--json").stdout)]
    graphopt("optimize", model, "--skip", ",".join(names), "--quiet")
    assert types(model.with_name("model.opt.onnx")) == types(model)


def test_shape_fixes_an_input(model: Path) -> None:
    graphopt("optimize", model, "--shape", "x=2,4", "--quiet")
    (x,) = onnx.load(model.with_name("model.opt.onnx")).graph.input
    assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [2, 4]


def test_verbose_lists_every_firing(model: Path) -> None:
    done = graphopt("optimize", model, "--verbose")
    assert "1 " in done.stdout and "Identity ->" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["missing.onnx"], 3, "missing.onnx: "),
        (["text.onnx"], 3, "text.onnx: "),
        (["model.onnx", "--passes", "no-such-pass"], 2, "there is no pass 'no-such-pass'"),
        (["model.onnx", "--skip", "no-such-pass"], 2, "there is no pass 'no-such-pass'"),
        (["model.onnx", "--explain", "no-such-pass"], 2, "there is no pass 'no-such-pass'"),
        (["model.onnx", "--plugin", "no_such_module"], 2, "'no_such_module' can't be imported"),
        (["model.onnx", "-o", "text.onnx/out.onnx"], 5, "text.onnx"),
        (["model.onnx", "--report", "text.onnx/report.json"], 5, "report"),
        (["model.onnx", "--data", "missing.npz"], 2, "missing.npz"),
        (["empty"], 2, "say where the results go: -o FOLDER"),
        (["empty", "-o", "text.onnx"], 2, "a folder in needs a folder out"),
        (["empty", "-o", "empty"], 2, "give another folder to -o"),
        (["empty", "-o", "out"], 3, "there is no .onnx file"),
    ],
)
def test_what_goes_wrong(
    model: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    Path("text.onnx").write_text("not a model")
    Path("empty").mkdir()
    done = graphopt("optimize", *arguments, code=code)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("graphopt: ") and said in done.stderr
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_a_folder_goes_into_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.onnx")
    write(tmp_path / "in" / "deep" / "b.onnx")
    (tmp_path / "in" / "broken.onnx").write_text("not a model")
    report = tmp_path / "report.json"
    done = graphopt(
        "optimize", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "2", "--report", report, code=3
    )
    assert "Identity" not in types(tmp_path / "out" / "a.onnx") + types(tmp_path / "out" / "deep" / "b.onnx")
    assert not (tmp_path / "out" / "broken.onnx").exists()
    assert "3 models, 1 failed" in done.stdout
    assert done.stderr.startswith("graphopt: ") and "broken.onnx: is not an ONNX model" in done.stderr
    models = json.loads(report.read_text())["models"]
    assert [(Path(m["model"]).name, m["exit"]) for m in models] == [
        ("a.onnx", 0),
        ("broken.onnx", 3),
        ("b.onnx", 0),
    ]
    for found in models:
        if found["report"]:
            jsonschema.validate(found["report"], schema())


def test_a_folder_may_lie_in_its_results_parent(tmp_path: Path) -> None:
    write(tmp_path / "a.onnx")
    graphopt("optimize", tmp_path, "-o", tmp_path / "out", "--quiet")
    graphopt("optimize", tmp_path, "-o", tmp_path / "out", "--quiet")
    assert [p.name for p in (tmp_path / "out").rglob("*.onnx")] == ["a.onnx"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupted(tmp_path: Path) -> None:
    plugin = tmp_path / "slow_plugin.py"
    plugin.write_text("import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)\n")
    model = write(tmp_path / "model.onnx")
    command = [sys.executable, "-m", "graphopt", "optimize", str(model), "--plugin", "slow_plugin"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert not list(tmp_path.glob("*.opt.onnx*"))
