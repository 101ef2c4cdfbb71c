"""`graphopt optimize` on damaged models: it ends in time, with an answer or with one line; never with a fault.

What it writes is a model that loads.
"""

from __future__ import annotations

import contextlib
import io
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import onnx
import pytest
from hypothesis import HealthCheck, given, note, settings

from graphopt.cli import main
from graphopt.cli.failures import exit_code_of
from graphopt.ir.load import load
from tests.fuzz.mutations import damaged_bytes, damaged_messages, originals

SECONDS = 30
IGNORED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


class TookTooLong(BaseException):
    """Passes through every `except Exception`."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(data: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "m.onnx"), Path(folder, "r.onnx")
        source.write_bytes(data)
        arguments = ["optimize", str(source), "-o", str(result), "--quiet", "--verify-seconds", "1"]
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), time_limit(SECONDS):
            code = exit_code_of(partial(main.main, arguments, standalone_mode=False))
        said = errors.getvalue()
        if code == 1:
            with contextlib.suppress(Exception):
                note(Path(said.split()[-1]).read_text())
        assert code in (0, 3), said
        assert result.exists() == (code == 0)
        if code == 0:
            load(result)
        else:
            assert len(said.splitlines()) == 1 and said.startswith("graphopt: ") and "m.onnx: " in said, said
        return code


@pytest.mark.parametrize("name", originals())
def test_undamaged_models_are_taken(name: str) -> None:
    assert check(originals()[name].SerializeToString()) == 0


@settings(suppress_health_check=IGNORED)
@given(model=damaged_messages())
def test_damaged_messages(model: onnx.ModelProto) -> None:
    note(str(model))
    check(model.SerializeToString())


@settings(suppress_health_check=IGNORED)
@given(data=damaged_bytes())
def test_damaged_bytes(data: bytes) -> None:
    check(data)
