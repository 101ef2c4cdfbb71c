"""Runs in turns, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.runtime_engines import Engine, Feeds

FEWEST, MOST = 9, 300
LEAST_S = 1e-3  # shorter runs are repeated within a round


def over(engine: Engine, feeds: Sequence[Feeds]) -> Callable[[], object]:
    """A run of an engine on all feeds, warmed up."""

    def run() -> None:
        for one in feeds:
            engine(one)

    for _ in range(3):
        run()
    return run


def interleaved(
    runs: Sequence[Callable[[], object]], seconds: float, clock: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Seconds of each run in each round."""
    repeats = max(1, round(LEAST_S / max(1e-7, min(timed(run, 1, clock) for run in runs))))
    taken: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(taken[0]) < FEWEST or (time.perf_counter() < end and len(taken[0]) < MOST):
        order = list(range(len(runs)))
        for k in order[:: -1 if len(taken[0]) % 2 else 1]:
            taken[k].append(timed(runs[k], repeats, clock))
    return taken


def timed(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds of one run."""
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats
