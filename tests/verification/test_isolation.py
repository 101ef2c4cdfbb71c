from __future__ import annotations

import os
import time

import pytest

from graphopt.verification.isolation import can_isolate, crash_of

pytestmark = pytest.mark.skipif(not can_isolate(), reason="this platform can't fork")


def fail() -> None:
    raise ValueError("no crash")


def test_what_returns_or_raises_is_no_crash():
    assert crash_of(lambda: 1, 10) is None
    assert crash_of(fail, 10) is None


def test_a_signal_is_named():
    assert crash_of(os.abort, 10) == "the process ended with SIGABRT"


def test_an_exit_code_is_named():
    assert crash_of(lambda: os._exit(3), 10) == "the process ended with exit code 3"


def test_what_never_ends_is_ended():
    start = time.monotonic()
    assert crash_of(lambda: time.sleep(60), 0.2) == "still running after 0.2 s"
    assert time.monotonic() - start < 10


def test_the_child_changes_nothing_here():
    seen = []
    assert crash_of(lambda: seen.append(1), 10) is None
    assert seen == []
