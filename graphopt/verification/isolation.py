"""Try something that may take the process down in a child of it first.

onnxruntime 1.32 ends the process where an LSTM or GRU meets a batch of zero, for one. Sizes of zero are legal
and tell much, so they are tried in a forked child before they are run here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable

_POLL_SECONDS = 0.001


def can_isolate() -> bool:
    """Whether this platform can fork."""
    return hasattr(os, "fork")


def crash_of(action: Callable[[], object], seconds: float) -> str | None:
    """Run `action` in a child process and say how it ended the child; None where it did not.

    Exceptions of the action are not crashes. Without fork nothing is run.
    """
    if not can_isolate():
        return None
    with warnings.catch_warnings():
        # Other threads of this process do not run in the child, which calls nothing that waits for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _run_and_exit(action)
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"still running after {seconds:g} s"
        time.sleep(_POLL_SECONDS)
    code = os.waitstatus_to_exitcode(status)
    return None if code == 0 else f"the process ended with {_signal_name(code)}"


def _run_and_exit(action: Callable[[], object]) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        with contextlib.suppress(Exception):
            action()
    finally:
        os._exit(0)


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
