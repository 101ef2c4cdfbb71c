"""graphopt's engine beside others: CPU time on one thread, runs interleaved.

    make bench-runtime [ARGS="--seconds 2 encoder ..."]      rows whose name has one of the words

A round runs every engine once, in turns first; a ratio is the peer's time over ours in the same round: above
1 we are faster. The ratio of the minima stands beside the median: other work on the machine disturbs it less.
GRAPHOPT_ZOO and GRAPHOPT_ASR name folders of models with recipes and of a recogniser; without them those rows
are left out, or run on the models of benchmarks/models.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import runtime_engines as engines
from benchmarks import runtime_others
from benchmarks.runtime_rows import Feeds, Row, rows
from benchmarks.runtime_timing import interleaved, over

SECONDS = 3.0


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.runtime")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for a row")
    parser.add_argument("--models", type=Path, help="where models are built (default: a temporary folder)")
    parser.add_argument("names", nargs="*", help="words of the rows to run")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.models or Path(scratch)

        def is_wanted(name: str) -> bool:
            return not options.names or any(word in name for word in options.names)

        print(
            f"{'work':44} {'ours ms':>9} {'peer':17} {'its ms':>9} {'ratio':>6} {'of minima':>9} "
            f"{'reach':>9} {'error':>8}"
        )
        for group in rows(folder):
            for row in group():
                if is_wanted(row.name):
                    measure(row, options.seconds)
        for name, others in runtime_others.GROUPS.items():
            if is_wanted(name):
                others(folder)


def measure(row: Row, seconds: float) -> None:
    """Run a row and print a line for each peer."""
    if row.prepare is not None:
        row.prepare()
    ours = engines.ours(row.path, row.precision, optimize=row.optimize)
    runs = {"": over(ours, row.feeds)}
    for peer in row.peers:
        try:
            runs[peer] = over(engines.PEERS[peer](row.compared), row.feeds)
        except ImportError:
            continue
    error = _error(ours, engines.onnxruntime(row.compared), row.feeds)
    mark = "" if error <= row.tolerance else " !"
    times = interleaved(list(runs.values()), seconds)
    for peer, taken in zip(runs, times, strict=True):
        if not peer:
            continue
        ratio = statistics.median(b / a for a, b in zip(times[0], taken, strict=True))
        unit = 1e3 / row.per
        reach = "" if row.reach is None or peer != row.peers[0] else f"{row.reach:.2f}"
        if row.reach_ms is not None:
            reach = f"{row.reach_ms:g} ms"
        print(
            f"{row.name:44} {_number(statistics.median(times[0]) * unit)} {peer:17} "
            f"{_number(statistics.median(taken) * unit)} {ratio:6.2f} {min(taken) / min(times[0]):9.2f} "
            f"{reach:>9} {error:8.1e}{mark}",
            flush=True,
        )


def _number(milliseconds: float) -> str:
    return f"{milliseconds:9.3f}" if milliseconds >= 0.1 else f"{milliseconds:9.6f}"


def _error(a: engines.Engine, b: engines.Engine, feeds: Sequence[Feeds]) -> float:
    """The largest difference, relative to the largest value of an output."""
    worst = 0.0
    for one in feeds:
        for x, y in zip(a(one), b(one), strict=True):
            if x.shape != y.shape:
                return float("inf")
            if y.size:
                off = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max()
                worst = max(worst, float(off) / max(1e-9, float(np.abs(np.asarray(y, np.float64)).max())))
    return worst


if __name__ == "__main__":
    main(sys.argv[1:])
