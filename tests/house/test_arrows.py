"""Imports go one way: the contracts hold, and a planted import that breaks one is caught."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package laid out as it is installed; the linter does not follow package_dir."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "graphopt", tmp_path / "graphopt", ignore=ignored)
    shutil.copytree(ROOT / "passes", tmp_path / "graphopt" / "passes", ignore=ignored)
    shutil.copytree(ROOT / "kernels", tmp_path / "graphopt" / "kernels", ignore=ignored)
    return tmp_path / "graphopt"


def lint(package: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINTER), "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=False)


def test_all_contracts_hold(package: Path) -> None:
    done = lint(package)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("ir/opset.py", "import graphopt.rewriting", "Arrows go one way"),
        ("rewriting/trace.py", "import graphopt.verification", "Arrows go one way"),
        ("passes/cleanup/planted_one.py", "import graphopt.compiler", "Arrows go one way"),
        (
            "passes/cleanup/planted_one.py",
            "import graphopt.passes.cleanup.planted_two",
            "No pass imports another pass",
        ),
        (
            "passes/cleanup/planted_one.py",
            "import graphopt.passes.fusion.planted_three",
            "No pass imports another pass",
        ),
        (
            "rewriting/trace.py",
            "import graphopt.passes.cleanup.planted_one",
            "Passes are reached through the registry",
        ),
        ("kernels/__init__.py", "import graphopt.ir", "Kernels know nothing of the compiler"),
    ],
)
def test_a_planted_import_is_caught(package: Path, file: str, planted: str, contract: str) -> None:
    for name in ("cleanup/planted_one", "cleanup/planted_two", "fusion/planted_three"):
        (package / "passes" / f"{name}.py").write_text('"""Planted."""\n')
    with (package / file).open("a") as stream:
        stream.write(f"\n{planted}  # noqa\n")
    done = lint(package)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
