"""Every end of a command is a documented exit code and one line on standard error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from graphopt.cli.failures import about, exit_code_of, worst
from graphopt.errors import GraphoptError, MismatchError, ModelError, OutputError, UsageError


def raising(error: BaseException) -> Callable[[], object]:
    def run() -> object:
        with about("/somewhere/model.onnx"):
            raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("x"), 2), (ModelError("x"), 3), (MismatchError("x"), 4), (OutputError("x"), 5)],
)
def test_each_error_has_its_code_and_names_the_file(
    error: GraphoptError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(raising(error)) == code
    assert capsys.readouterr().err == "graphopt: model.onnx: x\n"


def test_hint_follows_the_message_on_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(raising(ModelError("first\n  second", hint="do that")))
    assert capsys.readouterr().err == "graphopt: model.onnx: first second; do that\n"


def test_a_file_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(raising(ModelError("/somewhere/model.onnx: is not an ONNX model")))
    assert capsys.readouterr().err == "graphopt: /somewhere/model.onnx: is not an ONNX model\n"


def test_a_file_is_named_once_by_its_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(raising(ModelError("model.onnx: nothing in it can be quantized")))
    assert capsys.readouterr().err == "graphopt: model.onnx: nothing in it can be quantized\n"


def test_a_fault_of_ours_leaves_a_crash_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(KeyError("odd\nname"))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    found = re.search(r"model\.onnx: .*fault of graphopt.*KeyError.*report it with (\S+)$", line)
    assert found
    crash = Path(found[1])
    text = crash.read_text()
    crash.unlink()
    assert "Traceback" in text and "raise error" in text and "onnxruntime" in text


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()])
def test_interruption(interruption: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(interruption)) == 130
    assert capsys.readouterr().err == "graphopt: interrupted; nothing half-written remains\n"


def test_a_command_chooses_its_own_code() -> None:
    assert exit_code_of(lambda: 6) == 6
    assert exit_code_of(lambda: None) == 0


def test_a_folder_returns_its_worst_code() -> None:
    assert worst(iter([0, 3, 0])) == 3
    assert worst(iter([3, 1, 5])) == 1
    assert worst(iter([])) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimise"], "No such command 'optimise'"),
        (["--nonsense"], "No such option"),
        (["optimize"], "Missing argument 'MODEL'"),
        (["optimize", "x.onnx", "-O7"], "7 is not in the range"),
        (["optimize", "x.onnx", "--target", "gpu"], "'gpu' is not one of"),
        (["optimize", "x.onnx", "--opset", "new"], "neither auto, keep nor an opset's number"),
        (["optimize", "x.onnx", "--shape", "x"], "has no '='"),
        (["optimize", "x.onnx", "--shape", "x=1,,2"], "needs a number for every dim"),
        (["optimize", "x.onnx", "--shape", "x=1", "--shape", "x=2"], "an input is given twice"),
        (["optimize", "x.onnx", "--verify-seconds", "0"], "not in the range"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphopt", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr and done.stderr.startswith("graphopt: ")


@pytest.mark.skipif(os.name == "nt", reason="a pipe's reader leaves another way there")
def test_a_reader_that_left_is_no_crash() -> None:
    command = f"{sys.executable} -m graphopt passes --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "fault" not in done.stderr and "Traceback" not in done.stderr
