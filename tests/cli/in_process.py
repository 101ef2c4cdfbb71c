"""The command line in the tests' own process: a new one spends most of its time on imports."""

from __future__ import annotations

import gc
import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from graphopt.cli import main


def graphopt(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command that must end with this exit code."""
    command = [*map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    threshold = gc.get_threshold()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(command)
    gc.set_threshold(*threshold)
    done = subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())
    assert done.returncode == code, done.stdout + done.stderr
    return done
