"""Imports are paid at every start: what each entry loads is a contract."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Packages outside the standard library that an entry may load; anything heavier fails the test.
CLICK = {"click"}
GRAPHS = {
    "click",
    "google",
    "ml_dtypes",
    "mpmath",
    "numpy",
    "onnx",
    "onnx_ir",
    "packaging",
    "sympy",
    "typing_extensions",
}

LIST_LOADED = """
import sys
standard = set(sys.stdlib_module_names)
before = {m.partition('.')[0] for m in sys.modules}
try:
    exec(sys.argv[1])
except SystemExit as ended:
    assert not ended.code, ended.code
loaded = {m.partition('.')[0] for m in sys.modules} - before - standard
loaded = {m for m in loaded if not m.startswith('_') and m != 'graphopt'}
print('\\nLOADED', ' '.join(sorted(loaded)))
"""


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIST_LOADED, code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def command(*arguments: str) -> str:
    return f"from graphopt.cli import main; main({list(arguments)!r})"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import graphopt", set()),
        ("import graphopt; graphopt.ModelError", set()),
        (command("--help"), CLICK),
        (command("--version"), CLICK),
        (command("optimize", "--help"), CLICK),
        (command("quantize", "--help"), CLICK),
        (command("inspect", "--help"), CLICK),
        (command("diff", "--help"), CLICK),
        (command("passes", "--help"), CLICK),
        *((command(name, "--help"), CLICK) for name in ("run", "bench", "profile", "compile")),
        (command("passes"), GRAPHS),
        ("import graphopt; graphopt.load; graphopt.save", GRAPHS),
        ("import graphopt; graphopt.optimize", GRAPHS),
        ("from graphopt.runtime import InferenceSession", {"numpy", "ml_dtypes"}),
    ],
)
def test_an_entry_loads_no_more_than_it_may(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed
