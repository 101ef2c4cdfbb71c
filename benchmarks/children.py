"""Run a command as a child: its whole wall time, and its peak memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that ended.

    Attributes:
        code: Exit code; negative for a signal; None where it was stopped at its time limit.
        seconds: Wall time, process start included.
        peak_mib: Highest resident memory, mapped files included; 0 where not watched.
        peak_anonymous_mib: Highest anonymous memory, sampled every 2 ms; 0 where not watched.
    """

    code: int | None
    seconds: float
    peak_mib: float
    peak_anonymous_mib: float
    output: str
    errors: str

    @property
    def why(self) -> str:
        """One line for a table: what it said last, or how it ended."""
        if self.code is None:
            return f"over {self.seconds:.0f} s"
        lines = self.errors.strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {self.code}"


def run(command: Sequence[str], timeout: float = 600, watch_memory: bool = False) -> Ended:
    """Run a command to its end or its time limit."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = _Watch(process.pid)
    if watch_memory:
        watch.start()
    expired = False
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        expired = True
        process.kill()
        output, errors = process.communicate()
    seconds = time.perf_counter() - start
    watch.ended.set()
    return Ended(
        code=None if expired else process.returncode,
        seconds=seconds,
        peak_mib=watch.peak_mib,
        peak_anonymous_mib=watch.peak_anonymous_mib,
        output=output,
        errors=errors,
    )


def run_python(
    module: str, *arguments: str | Path, timeout: float = 600, watch_memory: bool = False
) -> Ended:
    """Run a module with this interpreter."""
    command = [sys.executable, "-m", module, *(str(a) for a in arguments)]
    return run(command, timeout, watch_memory)


class _Watch(threading.Thread):
    """Samples /proc/PID/status, whose VmHWM and RssAnon say what a process holds."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self.ended = threading.Event()
        self.peak_mib = 0.0
        self.peak_anonymous_mib = 0.0

    def run(self) -> None:
        while not self.ended.wait(0.002):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            held = dict(line.split(":", 1) for line in lines if line.startswith(("VmHWM:", "RssAnon:")))
            self.peak_mib = max(self.peak_mib, _mib(held.get("VmHWM")))
            self.peak_anonymous_mib = max(self.peak_anonymous_mib, _mib(held.get("RssAnon")))


def _mib(text: str | None) -> float:
    """From "  1234 kB"; None, as for a process that is just ending, is nothing."""
    return float(text.split()[0]) / 1024 if text else 0.0
