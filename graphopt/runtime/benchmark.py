"""A model on several engines: runs take turns, so that what the machine does besides touches all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.runtime.arrays import Result
from graphopt.runtime.peers import Feeds, Run, opened, version_of
from graphopt.runtime.settings import Settings

__all__ = ["Benchmark", "Timing", "benchmark"]

OURS = "graphopt"
WARMUPS = 2
LEAST_ROUNDS = 5
# A turn is as many runs as take this long, so that reading the clock does not count.
TURN_NANOSECONDS = 2_000_000

Progress = Callable[[str], None]


@dataclass(slots=True)
class Timing:
    """One engine's numbers.

    Attributes:
        median_ns: Of one run; CPU time with one thread, else time that passed.
        load_ns: Time that passed until the model could be run.
        peak_bytes: Most memory for loading and running, over the engine itself; None: not measured.
        difference: Largest difference of an answer to ours, over the largest magnitude of that output.
        error: Why there are no numbers.
    """

    engine: str
    version: str
    median_ns: float = 0.0
    least_ns: float = 0.0
    load_ns: float = 0.0
    peak_bytes: int | None = None
    difference: float | None = None
    error: str | None = None


@dataclass(slots=True)
class Benchmark:
    """What was measured.

    Attributes:
        rounds: Turns of each engine.
        timings: Ours first.
    """

    model: str
    threads: int
    shapes: dict[str, list[int]]
    rounds: int = 0
    timings: list[Timing] = field(default_factory=list)

    def ratio(self, timing: Timing) -> float | None:
        """How many times as long as ours it took."""
        ours = self.timings[0]
        return timing.median_ns / ours.median_ns if ours.median_ns and timing.median_ns else None

    def to_dict(self, audio_seconds: float | None = None) -> dict[str, object]:
        """For JSON."""
        return {
            "model": self.model,
            "threads": self.threads,
            "shapes": self.shapes,
            "rounds": self.rounds,
            "engines": [
                {
                    "engine": t.engine,
                    "version": t.version,
                    "median_ns": t.median_ns,
                    "least_ns": t.least_ns,
                    "load_ns": t.load_ns,
                    "peak_bytes": t.peak_bytes,
                    "difference": t.difference,
                    "ratio": self.ratio(t),
                    "real_time_factor": t.median_ns / 1e9 / audio_seconds if audio_seconds else None,
                    "error": t.error,
                }
                for t in self.timings
            ],
        }


def benchmark(
    path: Path,
    feeds: Feeds,
    settings: Settings,
    peers: Sequence[str] = (),
    *,
    seconds: float = 5.0,
    with_memory: bool = True,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure a model on our engine and on others.

    Args:
        path: The model.
        feeds: Its inputs.
        settings: Of our session; threads and precision of the others too.
        peers: Other engines.
        seconds: How long runs take turns.
        with_memory: Whether each engine's peak memory is measured, in a process of its own.
        progress: Called with a few words whenever a new part begins.

    Raises:
        GraphoptError: Our own engine fails; what happens to others stands in their timings.
    """
    tell = progress or (lambda _: None)
    shapes = {name: list(np.shape(v)) for name, v in feeds.items() if isinstance(v, np.ndarray)}
    found = Benchmark(str(path), settings.threads, shapes)
    running: list[tuple[Timing, Run]] = []
    answers: list[Result] = []
    for engine in (OURS, *peers):
        tell(f"opening in {engine}")
        timing = Timing(engine, "")
        found.timings.append(timing)
        try:
            start = time.perf_counter_ns()
            run = opened(engine, path, feeds, settings)
            timing.load_ns = float(time.perf_counter_ns() - start)
            timing.version = version_of(engine)
            results = run()
        except GraphoptError as error:
            if engine == OURS:
                raise
            timing.error = str(error)
            continue
        except Exception as error:  # a peer may raise anything
            if engine == OURS:
                raise
            timing.error = f"{type(error).__name__}: {error}"
            continue
        answers = answers or results
        timing.difference = None if engine == OURS else _difference(answers, results)
        running.append((timing, run))
    tell("running in turns")
    found.rounds = _take_turns(running, seconds, settings.threads)
    if with_memory:
        for timing, _ in running:
            tell(f"measuring the memory of {timing.engine}")
            timing.peak_bytes = _memory(timing.engine, path, feeds, settings)
    return found


def _take_turns(running: Sequence[tuple[Timing, Run]], seconds: float, threads: int) -> int:
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    repeats = []
    for _, run in running:
        for _ in range(WARMUPS):
            run()
        start = time.perf_counter_ns()
        run()
        repeats.append(max(1, TURN_NANOSECONDS // max(1, time.perf_counter_ns() - start)))
    taken: list[list[float]] = [[] for _ in running]
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for i, (_, run) in enumerate(running):
            start = clock()
            for _ in range(repeats[i]):
                run()
            taken[i].append((clock() - start) / repeats[i])
        rounds += 1
    for (timing, _), times in zip(running, taken, strict=True):
        timing.median_ns, timing.least_ns = statistics.median(times), min(times)
    return rounds


def _memory(engine: str, path: Path, feeds: Feeds, settings: Settings) -> int | None:
    from graphopt.runtime.memory import peak_bytes

    try:
        return peak_bytes(engine, path, feeds, settings)
    except GraphoptError:
        return None


def _difference(ours: Sequence[Result], theirs: Sequence[Result]) -> float | None:
    """The largest difference, over the largest magnitude of its output; None: they can't be compared."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=False):
        if not isinstance(a, np.ndarray) or a.dtype.kind in "OUS":
            continue
        if not isinstance(b, np.ndarray) or a.shape != b.shape:
            return None
        if a.size:
            left, right = a.astype(np.float64), b.astype(np.float64)
            with np.errstate(invalid="ignore"):
                apart = np.nanmax(np.abs(left - right), initial=0.0)
                scale = np.nanmax(np.abs(left), initial=0.0)
            worst = max(worst, float(apart / scale if scale else apart))
    return worst
