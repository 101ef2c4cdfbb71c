"""The project speaks of itself: nothing of the machine that it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git which files are ours")

# Spelled in parts, so that this file does not match itself.
MACHINE = re.compile("|".join(("/" + "work/", "/" + "root/", "/" + "home/")))


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in map(ROOT.joinpath, done.stdout.splitlines()) if path.is_file()]


def test_no_path_of_a_machine() -> None:
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if MACHINE.search(line)]
    assert not found


def test_files_stay_short() -> None:
    code = [
        p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in ("graphopt", "passes")
    ]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in code}
    assert code
    assert not {name: lines for name, lines in lengths.items() if lines > 400}
