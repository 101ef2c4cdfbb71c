"""What the documents name is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.cli.models import write

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_family_is_described() -> None:
    text = (ROOT / "docs" / "passes.md").read_text(encoding="utf-8")
    families = {p.name for p in (ROOT / "passes").iterdir() if (p / "__init__.py").exists()}
    assert families == set(re.findall(r"^\| `(\w+)` \|", text, re.M)) & families
    assert families


def test_files_named_in_the_architecture_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("## Guess the file") : text.index("## The walk")]
    named = re.findall(r"`((?:ir|rewriting|targets|verification|reporting|cli)/[\w/.]*|errors\.py)`", table)
    assert len(named) > 20
    for name in named:
        assert (ROOT / "graphopt" / name).exists(), name


def test_passes_that_the_documents_name_are_there() -> None:
    from graphopt.rewriting import registry

    known = set(registry.names())
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"--skip ([a-z][a-z-]+)", text):
            assert name in known, f"{path.name}: {name}"


def test_the_readme_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    optimizing, running = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    write(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    exec(optimizing, {})
    assert (tmp_path / "model.opt.onnx").exists()
    names: dict[str, object] = {"x": np.full((2, 4), -3, np.float32)}
    exec(running, names)
    (y,) = names["outputs"]  # type: ignore[misc]
    assert (y == 3).all()


def test_the_readme_s_options_and_codes_are_there() -> None:
    from graphopt.cli import COMMANDS
    from graphopt.cli.failures import WORST_FIRST

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [import_module(f"graphopt.cli.{name}").command for name in COMMANDS]
    options = {name for command in commands for p in command.params for name in p.opts + p.secondary_opts}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
    assert named and named <= options
    assert set(re.findall(r"^ +graphopt ([a-z]+)", text, re.M)) <= set(COMMANDS)
    codes = {int(n) for n in re.findall(r"^\| (\d+) \|", text, re.M)}
    assert codes == set(WORST_FIRST)
