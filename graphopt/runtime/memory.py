"""Peak memory of loading and running a model, measured in a process of its own."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from graphopt.errors import ModelError
from graphopt.runtime.peers import Feeds, imported, opened
from graphopt.runtime.settings import Settings

__all__ = ["peak_bytes"]

RUNS = 3


def peak_bytes(engine: str, path: Path, feeds: Feeds, settings: Settings) -> int | None:
    """Peak resident memory over that of a process that has imported the engine; None: it can't be told here.

    Raises:
        ModelError: The engine failed on the model.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        pickle.dump(dict(feeds), file)
        file.flush()
        arguments = [engine, str(path), file.name, json.dumps(asdict(settings))]
        done = subprocess.run(  # noqa: S603 (ourselves)
            [sys.executable, "-m", "graphopt.runtime.memory", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ModelError(f"{engine}: {lines[-1] if lines else f'its process ended with {done.returncode}'}")
    return int(done.stdout)


def _measured(engine: str, path: Path, feeds_file: Path, settings: Settings) -> int:
    imported(engine)
    # Before, so that making the inputs does not count.
    feeds = pickle.loads(feeds_file.read_bytes())  # noqa: S301 (our parent wrote it)
    # "5" forgets the peak until now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    run = opened(engine, path, feeds, settings)
    for _ in range(RUNS):
        run()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


if __name__ == "__main__":
    _engine, _path, _feeds, _settings = sys.argv[1:]
    print(_measured(_engine, Path(_path), Path(_feeds), Settings(**json.loads(_settings))))
