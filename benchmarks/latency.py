"""Is a result faster: both files in onnxruntime with all its optimizations, runs interleaved.

    python -m benchmarks.latency ORIGINAL RESULT RECIPE [SECONDS]      prints the ratio as JSON

Time is CPU time of the one thread that runs the session, which a busy machine disturbs least. Each round
runs both, in turns first, and gives one ratio; the interval of their median is distribution-free (from the
order statistics), so that a few disturbed rounds do not move it.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.recipes import Recipe
from benchmarks.sessions import session

SECONDS = 4.0
FEWEST, MOST = 12, 400


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the result over time of the original: below 1 is faster.

    Attributes:
        low: Lower end of the 95 % confidence interval of the median.
        high: Its upper end.
        original_ms: Median time of the original.
    """

    median: float
    low: float
    high: float
    rounds: int
    original_ms: float

    @property
    def is_slower(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low > 1.0


def measure(original: Path, result: Path, recipe: Recipe, seconds: float = SECONDS) -> Ratio:
    """Time both at the last size of the recipe, for about `seconds`."""
    size = recipe.sizes[-1]
    feeds = recipe.feeds(size, seed=2)
    runs = []
    for path in (original, result):
        loaded = session(path)
        runs.append(lambda loaded=loaded: loaded.run(None, feeds))
        for _ in range(3):
            runs[-1]()
    return interleaved(runs[0], runs[1], seconds)


def interleaved(first: Callable[[], object], second: Callable[[], object], seconds: float) -> Ratio:
    """The ratio of the second's time to the first's."""
    ratios: list[float] = []
    firsts: list[float] = []
    end = time.perf_counter() + seconds
    while len(ratios) < FEWEST or (time.perf_counter() < end and len(ratios) < MOST):
        if len(ratios) % 2:
            after, before = _time(second), _time(first)
        else:
            before, after = _time(first), _time(second)
        ratios.append(after / before)
        firsts.append(before)
    low, high = median_interval(ratios)
    return Ratio(statistics.median(ratios), low, high, len(ratios), statistics.median(firsts) * 1e3)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median: the order statistics n/2 -+ 0.98 sqrt(n)."""
    ordered = sorted(values)
    count = len(ordered)
    half_width = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half_width))
    high = min(count - 1, math.ceil(count / 2 + half_width))
    return ordered[low], ordered[high]


def _time(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


if __name__ == "__main__":
    before, after, how = (Path(argument) for argument in sys.argv[1:4])
    limit = float(sys.argv[4]) if len(sys.argv) > 4 else SECONDS
    print(json.dumps(asdict(measure(before, after, Recipe.read(how), limit))))
