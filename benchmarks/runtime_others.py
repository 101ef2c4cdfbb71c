"""What a ratio of times does not say: first runs, threads, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import runtime_engines as engines
from benchmarks.children import run_python
from benchmarks.runtime_rows import QUANTIZED_RECOGNISER, encoder, frames, recogniser_files
from benchmarks.runtime_timing import interleaved, over, timed

FIRST_LENGTHS = range(31, 51)
WIDTHS = (256, 512)
SECONDS = 3.0


def first_runs(folder: Path) -> None:
    """What the first run at a length costs over one that was run before; longer ones were run already."""
    for width in WIDTHS:
        for name, make in (("ours", engines.ours), ("onnxruntime", engines.onnxruntime)):
            engine = make(encoder(folder, width))
            for _ in range(3):
                engine(frames(100, width))
            extra = []
            for length in FIRST_LENGTHS:
                run = partial(engine, frames(length, width))
                first = timed(run, 1, time.process_time)
                again = statistics.median(timed(run, 1, time.process_time) for _ in range(5))
                extra.append((first - again) * 1e3)
            print(
                f"{f'first run at a new length, encoder 6x{width}':44} {name:12} "
                f"{statistics.median(extra):.3f} ms over a repeated one (least {min(extra):.3f}, "
                f"most {max(extra):.3f}); reach 0.1",
                flush=True,
            )


def two_threads(folder: Path) -> None:
    """Wall time: other work on the machine shows in it."""
    for width in WIDTHS:
        feeds = (frames(100, width),)
        runs = [over(engines.ours(encoder(folder, width), threads=n), feeds) for n in (1, 2)]
        one, two = interleaved(runs, SECONDS, time.perf_counter)
        ratio = statistics.median(a / b for a, b in zip(one, two, strict=True))
        print(
            f"{f'two threads, encoder 6x{width} T=100':44} {min(one) * 1e3:.2f} -> {min(two) * 1e3:.2f} ms "
            f"of wall time, ratio {ratio:.2f}, of minima {min(one) / min(two):.2f}; reach 1.6",
            flush=True,
        )


def memory(folder: Path) -> None:
    """Peak memory of loading and running over the same process after importing the engine."""
    path, _ = recogniser_files(folder)
    cases = [("ours", path), ("onnxruntime", path)]
    for source in (path, folder / QUANTIZED_RECOGNISER):  # the latter if its row was run
        compiled = folder / f"{source.stem}.gopt"
        if source.exists() and run_python("graphopt", "compile", source, "-o", compiled).code == 0:
            cases.insert(0, ("ours", compiled))
    for engine, file in cases:
        ended = run_python("benchmarks.runtime_memory", engine, file)
        what = f"memory, recogniser from {file.name}"
        print(f"{what:44} {engine:12} {ended.output.strip() or ended.why}; reach 55", flush=True)


GROUPS: dict[str, Callable[[Path], None]] = {
    "first run at a new length, encoder": first_runs,
    "two threads, encoder": two_threads,
    "memory, recogniser": memory,
}
