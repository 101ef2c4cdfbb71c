"""Find samples that the original model accepts."""

from __future__ import annotations
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import numpy as np
import onnx_ir as ir
from graphopt.verification.compare import Answer
from graphopt.verification.judge import Feeds, JudgeError
from graphopt.verification.signature import inputs_of
from graphopt.verification.values import sample_value


@dataclass(frozen=True, slots=True)
class Sample:
    feeds: Feeds
    sizes: dict[str, int]
    outputs: tuple[Answer, ...]

    @property
    def elements(self) -> int:
        return sum(a.size for a in self.feeds.values() if isinstance(a, np.ndarray))


@dataclass(frozen=True, slots=True)
class Samples:
    found: tuple[Sample, ...]
    skipped: int = 0
    reason: str = ""


def find_samples(
    model: ir.Model, run: Callable[[Feeds], Sequence[Answer]], *, seconds: float, seed: int
) -> Samples:
    inputs = inputs_of(model)
    symbols = list(dict.fromkeys(s for i in inputs for s in i.symbols))
    found, skipped, reason = [], 0, ""
    end = time.perf_counter() + seconds
    primes = [2, 7, 5, 11, 13, 17, 19, 23]
    vectors = [
        {s: primes[i % 8] for i, s in enumerate(symbols)},
        dict.fromkeys(symbols, 1),
        {s: 3 + 31 * (i > 0) for i, s in enumerate(symbols)},
        dict.fromkeys(symbols, 0),
    ]
    vectors += [dict.fromkeys(symbols, k) for k in (2, 16, 32, 64, 224)]
    seen = []
    for n, sizes in enumerate(vectors):
        if sizes in seen or time.perf_counter() > end or len(found) >= 5:
            continue
        seen.append(sizes)
        rng = np.random.default_rng([seed, n])
        feeds = {i.name: sample_value(i, sizes, rng) for i in inputs}
        try:
            found.append(Sample(feeds, sizes, tuple(run(feeds))))
        except JudgeError as error:
            skipped += 1
            reason = str(error)
    return Samples(tuple(found), skipped, reason)
