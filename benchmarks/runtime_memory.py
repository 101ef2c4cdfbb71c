"""Peak memory of loading a recogniser and running it, over the same process once the engine is imported.

python -m benchmarks.runtime_memory ours|onnxruntime MODEL      prints MiB
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def _status() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    parts = dict(line.split(":", 1) for line in lines if line.startswith(("VmHWM", "VmRSS")))
    return {name: float(value.split()[0]) / 1024 for name, value in parts.items()}


def main(engine: str, path: Path) -> None:
    """Load and run, three lengths."""
    import numpy as np

    import_module("graphopt.runtime" if engine == "ours" else "onnxruntime")
    from benchmarks import runtime_engines

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is forgotten
    before = _status()["VmRSS"]
    run = runtime_engines.ours(path) if engine == "ours" else runtime_engines.onnxruntime(path)
    loaded = _status()
    for length in (64, 100, 200):
        run({"feats": np.random.default_rng(length).standard_normal((1, length, 80)).astype(np.float32)})
    after = _status()
    print(
        f"import {before:.1f} MiB, then {loaded['VmRSS'] - before:+.1f} loaded, "
        f"{loaded['VmHWM'] - before:+.1f} at the highest of loading, {after['VmHWM'] - before:+.1f} of all"
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
