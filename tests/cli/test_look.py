"""`graphopt inspect`, `diff` and `passes`: commands that only look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.models import CHAIN, write


def graphopt(*arguments: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "graphopt", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_inspect(tmp_path: Path) -> None:
    model = write(tmp_path / "model.onnx")
    text = graphopt("inspect", model)
    assert "input x: float32[N, 4]" in text and "4 operators" in text
    found = json.loads(graphopt("inspect", model, "--json"))
    assert found["operators"]["types"] == {"Identity": 2, "Abs": 1, "Neg": 1}


def test_inspect_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no")
    graphopt("inspect", tmp_path / "text.onnx", code=3)


def test_diff(tmp_path: Path) -> None:
    one, same = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx")
    other = write(tmp_path / "c.onnx", CHAIN.replace("Abs", "Exp"))
    assert "the models are the same" in graphopt("diff", one, same)
    assert "Exp" in graphopt("diff", one, other, code=6)
    assert graphopt("diff", one, other, "--quiet", code=6) == ""
    assert json.loads(graphopt("diff", one, other, "--json", code=6))["same"] is False
    graphopt("diff", one, tmp_path / "missing.onnx", code=3)


def test_passes_are_described() -> None:
    listed = graphopt("passes")
    facts = json.loads(graphopt("passes", "--json"))
    assert facts
    for found in facts:
        assert found["name"] in listed and found["summary"] in listed
        assert found["summary"].endswith(".")
    name = facts[0]["name"]
    assert graphopt("passes", name).startswith(f"{name} ({facts[0]['family']};")
    graphopt("passes", "no-such-pass", code=2)


@pytest.mark.parametrize("level", range(4))
def test_pipelines_print(level: int) -> None:
    text = graphopt("passes", "--pipeline", str(level))
    assert bool(text.strip()) == (level > 0)
