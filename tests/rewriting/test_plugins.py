"""Passes from elsewhere: installed packages, modules named by `--plugin`, and clashes of names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.cli.models import write

PACKAGE = Path(__file__).parent / "plugin_package"
GRAPH = "g (bool[N] x, bool[N] y) => (bool[N] z) { a = Not(x)  b = Not(y)  z = Xor(a, b) }"
PASS = "cancel-sample-negations"


def graphopt(*arguments: str | Path, path: Path | None = None, cwd: Path | None = None, code: int = 0) -> str:
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    # As the installed command: the current folder is not on Python's path.
    start = [sys.executable, "-P", "-c", "from graphopt.cli import main; main()"]
    done = subprocess.run(
        [*start, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment, cwd=cwd
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample package, installed by pip into a folder of its own."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "source")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    target = folder / "site"
    subprocess.run([*pip, "--target", target, folder / "source"], check=True)
    return target


def test_an_installed_package_s_passes_are_found(installed: Path, tmp_path: Path) -> None:
    model, result = write(tmp_path / "m.onnx", GRAPH), tmp_path / "r.onnx"
    assert PASS in graphopt("passes", path=installed)
    [facts] = json.loads(graphopt("passes", PASS, "--json", path=installed))
    assert facts["family"] == "sample" and facts["rules"] == ["xor-of-negations"]
    graphopt("optimize", model, "-o", result, "--passes", PASS, path=installed)
    assert types(result) == ["Xor"]


def test_an_installed_package_changes_no_default(installed: Path, tmp_path: Path) -> None:
    assert PASS not in graphopt("passes", "--pipeline", "3", path=installed)
    assert PASS not in graphopt("passes")


def test_a_plugin_joins_the_pipeline_at_its_stage(tmp_path: Path) -> None:
    shutil.copy(PACKAGE / "sample_plugin" / "passes.py", tmp_path / "mine.py")
    model, result = write(tmp_path / "m.onnx", GRAPH), tmp_path / "r.onnx"
    graphopt("optimize", model, "-o", result)
    assert types(result) == ["Not", "Not", "Xor"]
    graphopt("optimize", model, "-o", result, "--plugin", "mine", cwd=tmp_path)
    assert types(result) == ["Xor"]
    graphopt("optimize", model, "-o", result, "--plugin", "mine", "--skip", PASS, cwd=tmp_path)
    assert types(result) == ["Not", "Not", "Xor"]
    assert PASS in graphopt("passes", "--pipeline", "1", "--plugin", "mine", cwd=tmp_path)
    assert PASS not in graphopt("passes", "--pipeline", "0", "--plugin", "mine", cwd=tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "plugin 'mine' can't be imported: No module named 'mine'"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def (", "plugin 'mine' can't be imported: invalid syntax"),
        ("1 / 0", "plugin 'mine' can't be imported: ZeroDivisionError: division by zero"),
        ("name-clash", "has the name of a built-in pass"),
    ],
)
def test_a_faulty_plugin_is_wrong_usage(tmp_path: Path, content: str | None, what: str) -> None:
    if content == "name-clash":
        content = (PACKAGE / "sample_plugin" / "passes.py").read_text().replace(PASS, "remove-identity")
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    model = write(tmp_path / "m.onnx", GRAPH)
    error = graphopt("optimize", model, "--plugin", "mine", cwd=tmp_path, code=2)
    assert what in error and len(error.splitlines()) == 1
    assert not (tmp_path / "m.opt.onnx").exists()


def test_an_installed_package_that_is_broken_is_named(installed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(installed, broken)
    (broken / "sample_plugin" / "passes.py").write_text("1 / 0")
    error = graphopt("passes", path=broken, code=2)
    assert "'sample' (graphopt-sample-plugin)" in error and "ZeroDivisionError" in error
    graphopt("optimize", write(tmp_path / "m.onnx", GRAPH), path=broken)  # asks for none of its passes
