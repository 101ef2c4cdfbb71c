"""`graphopt run`, `bench`, `profile`, `compile` and `inspect --program`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from graphopt.cli import main
from graphopt.cli.failures import exit_code_of
from tests.cli.models import write
from tests.runtime import models

GRAPH = "g (float[N,4] x) => (float[N,4] y, int64[2] s) { a = Exp(x)  b = Neg(a)  y = Abs(b)  s = Shape(y) }"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], standalone_mode=False)


def code_of(*arguments: object) -> int:
    return exit_code_of(lambda: main([str(a) for a in arguments], standalone_mode=False))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "chain.onnx", GRAPH)


def test_run_writes_answers(model: Path, tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "x.npz", x=x)
    result = call("run", model, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    assert "written to" in result.output
    assert "y       float32  [3, 4]" in result.output
    with np.load(tmp_path / "y.npz") as answers:
        np.testing.assert_allclose(answers["y"], np.exp(x), rtol=1e-6)
        assert answers["s"].tolist() == [3, 4]
    assert call("run", model, "--input", tmp_path / "x.npz", "--quiet").output == ""


def test_run_makes_inputs_up(model: Path) -> None:
    for arguments, rows in ((["--shape", "x=5,4"], 5), (["--size", "N=6"], 6)):
        shown = json.loads(call("run", model, *arguments, "--json").output)
        assert shown["outputs"]["y"]["shape"] == [rows, 4]
        assert shown["outputs"]["y"]["least"] > 0
    shown = json.loads(call("run", model, "--json").output)
    assert shown["outputs"]["y"]["shape"][1] == 4


def test_answers_that_numpys_format_does_not_have(tmp_path: Path) -> None:
    graph = (
        'g (float[N] x) => (bfloat16[N] b, seq(float[N]) q, string[2] s) <string[2] t = {"a", "é"}>'
        " { b = Cast<to = 16>(x) q = SequenceConstruct(x, x) s = Identity(t) }"
    )
    path = write(tmp_path / "m.onnx", graph)
    np.savez(tmp_path / "x.npz", x=np.array([1, 2.5], np.float32))
    output = call("run", path, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz").output
    assert "sequence of 2" in output
    with np.load(tmp_path / "y.npz") as answers:
        assert sorted(answers.files) == ["b", "q.0", "q.1", "s"]
        assert answers["b"].tolist() == [1, 2.5]
        assert answers["q.1"].tolist() == [1, 2.5]
        assert answers["s"].tolist() == ["a", "é"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "missing.npz"], 2, "missing.npz: not a file of arrays"),
        (["--shape", "z=1"], 2, "there is no input 'z'; the model takes x"),
        (["--shape", "x=1"], 2, "input 'x' has 2 dims, 1 are given"),
        (["--shape", "x=1,5"], 2, "dim 1 of input 'x' is 4, 5 is given"),
        (["--size", "M=1"], 2, "dim 'N' of input 'x' has no size; give --size N=N"),
        (["--shape", "x=300,4", "--memory-limit", "1000"], 3, "over the limit of 1000"),
        (["--shape", "x=1,4", "-o", "no/where/y.npz"], 5, "can't be written"),
    ],
)
def test_run_says_what_is_wrong(
    model: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model.parent)
    assert code_of("run", model, *arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compile_then_run(tmp_path: Path) -> None:
    path = tmp_path / "perceptron.onnx"
    onnx.save(models.perceptron(), path)
    facts = json.loads(call("compile", path, "--json").output)
    compiled = path.with_suffix(".gopt")
    assert facts == {
        "model": str(path),
        "output": str(compiled),
        "bytes": compiled.stat().st_size,
        "reference_operators": [],
    }
    np.savez(tmp_path / "x.npz", x=np.ones((2, 64), np.float32))
    for source in (path, compiled):
        call("run", source, "--input", tmp_path / "x.npz", "-o", source.with_suffix(".npz"), "--quiet")
    with np.load(path.with_suffix(".npz")) as answers:
        assert answers["y"].shape == (2, 64)
    assert json.loads(call("run", compiled, "--shape", "x=3,64", "--json").output)["outputs"]["y"][
        "shape"
    ] == [3, 64]
    text = call("compile", path, "-o", tmp_path / "again.gopt", "--keep", "h").output
    assert text.startswith("written to ")
    assert "tap %" in call("inspect", tmp_path / "again.gopt").output


def test_compile_says_what_is_wrong(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("compile", model, "-o", model) == 2
    assert code_of("compile", model, "--keep", "nothing") == 2
    assert code_of("compile", model, "-o", model.parent / "no" / "where.gopt") == 5
    compiled = model.with_suffix(".gopt")
    call("compile", model, "--quiet")
    compiled.write_bytes(compiled.read_bytes()[:-3])
    capsys.readouterr()
    for command in ("run", "inspect", "profile", "bench"):
        assert code_of(command, compiled) == 3
        assert "cut off" in capsys.readouterr().err


def test_inspect_prints_programs(model: Path) -> None:
    text = call("inspect", model, "--program").output
    assert text.startswith("program\n  input x tensor(float)")
    call("compile", model, "--quiet")
    from_file = call("inspect", model.with_suffix(".gopt")).output
    # The ranges of symbols are not kept.
    assert [line for line in from_file.splitlines() if "symbol" not in line] == [
        line for line in text.splitlines() if "symbol" not in line
    ]
    assert json.loads(call("inspect", model, "--program", "--json").output)["program"] == text


def test_profile_says_where_the_time_goes(tmp_path: Path) -> None:
    path = tmp_path / "perceptron.onnx"
    onnx.save(models.perceptron(), path)
    found = json.loads(
        call("profile", path, "--shape", "x=8,64", "--no-optimize", "--runs", "3", "--json").output
    )
    assert found["runs"] == 3
    assert found["native_share"] == 1
    rows = {row["name"]: row for row in found["nodes"]}
    second = rows["second"]
    assert second["flops"] == 2 * 8 * 64 * 128
    assert second["bytes"] >= 4 * 8 * (64 + 128)
    assert second["calls"] == 1
    assert second["is_native"]
    assert sum(row["share"] for row in found["nodes"]) == pytest.approx(1)
    assert sum(row["share"] for row in found["kernels"]) == pytest.approx(1)
    text = call("profile", path, "--shape", "x=8,64").output
    assert "100.0% of it in native kernels" in text


def test_bench_compares_engines(tmp_path: Path) -> None:
    path = tmp_path / "perceptron.onnx"
    onnx.save(models.perceptron(), path)
    arguments = ["--shape", "x=8,64", "--against", "onnxruntime", "--seconds", "0.05", "--audio-seconds", "2"]
    found = json.loads(call("bench", path, *arguments, "--json").output)
    ours, theirs = found["engines"]
    assert (ours["engine"], theirs["engine"]) == ("graphopt", "onnxruntime")
    assert ours["ratio"] == 1
    assert theirs["ratio"] == pytest.approx(theirs["median_ns"] / ours["median_ns"])
    assert theirs["difference"] < 1e-5
    assert ours["real_time_factor"] == pytest.approx(ours["median_ns"] / 2e9)
    assert ours["peak_bytes"] > 0
    assert found["shapes"] == {"x": [8, 64]}
    text = call("bench", path, *arguments, "--no-memory").output
    assert "real-time factor" in text
    assert "onnxruntime" in text


def test_bench_says_what_is_wrong(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("bench", model, "--against", "tract") == 2
    assert "there is no engine 'tract' to measure against" in capsys.readouterr().err
