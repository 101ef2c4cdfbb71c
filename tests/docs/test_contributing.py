"""The first pass of CONTRIBUTING.md, written and run as it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.models import write

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`((?:passes|tests)/\S+\.py)`\n\n```python\n(.*?)^```$", TEXT, re.M | re.S))
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.M | re.S) for line in block.splitlines()
]
MODEL = "g (bool[N,4] x, bool[4] z) => (bool[N,4] y) { a = Not(x)  b = Not(z)  y = And(a, b) }"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package as it is installed, with the tutorial's files where it says."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "graphopt", tmp_path / "graphopt", ignore=ignored)
    shutil.copytree(ROOT / "kernels", tmp_path / "graphopt" / "kernels", ignore=ignored)
    shutil.copytree(ROOT / "passes", tmp_path / "graphopt" / "passes", ignore=ignored)
    for name, content in FILES.items():
        path = tmp_path / ("graphopt" if name.startswith("passes/") else "") / name
        assert not path.exists(), f"{name} is there already: the tutorial is out of date"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    write(tmp_path / "model.onnx", MODEL)
    return tmp_path


def run(tree: Path, command: str) -> str:
    tool, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_first_pass_works_as_written(tree: Path) -> None:
    assert len(FILES) == 2 and len(COMMANDS) >= 6
    said = {command: run(tree, command) for command in COMMANDS}
    assert "passed" in said[COMMANDS[0]]
    optimized = next(text for command, text in said.items() if "--passes merge-negations" in command)
    assert re.search(r"^Not +2 +1 +-1$", optimized, re.M)


def test_the_pass_is_formatted_and_clean(tree: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for name in FILES:
        path = tree / ("graphopt" if name.startswith("passes/") else "") / name
        given = ["--stdin-filename", str(ROOT / name), "-"]
        for command in (["check", *settings, *given], ["format", "--check", *settings, *given]):
            done = subprocess.run(
                [*ruff, *command], input=path.read_text(), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
