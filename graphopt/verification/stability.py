"""How far the original's answers move when its inputs move by next to nothing.

    scores[0.501, 0.501] -> TopK / NonMaxSuppression        which of the two comes first hangs on the last bit
    x -> QuantizeLinear -> ...                              so does which of two steps a number falls to

Where the original contradicts itself, no other answer can be called wrong for differing as much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.verification.compare import Answer, difference
from graphopt.verification.judge import Feeds, Judge, JudgeError
from graphopt.verification.sampling import Sample

# Re-associated sums in float32 were seen to differ by 1e-7 to 1e-5 of an output (65 models in onnxruntime,
# with its optimizations on against off); inputs moved by this much disturb about as much.
RELATIVE_NOISE = 1e-6
_STEPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
TRIES = 3
# Other flips of the same kind may move an output further than those that were seen.
ALLOWANCE = 2.0


class Stability:
    """The noise of each sample's outputs, measured when it is first asked for.

    Args:
        load: Loads the original into its judge.
    """

    def __init__(self, load: Callable[[], Judge]) -> None:
        self._load = load
        self._noise: dict[int, tuple[float, ...]] = {}
        self._samples: list[Sample] = []  # kept, as their ids are the keys

    def explains(self, sample: Sample, output: int, error: float) -> bool:
        """Whether the original itself moves by half of this error, or more, under the noise."""
        noise = self._of(sample)[output]
        return noise > 0 and error <= ALLOWANCE * noise

    def _of(self, sample: Sample) -> tuple[float, ...]:
        if id(sample) not in self._noise:
            self._noise[id(sample)] = self._measure(sample)
            self._samples.append(sample)
        return self._noise[id(sample)]

    def _measure(self, sample: Sample) -> tuple[float, ...]:
        found = [0.0] * len(sample.outputs)
        if not any(_is_float(a) for a in sample.feeds.values()):
            return tuple(found)
        judge = self._load()
        for seed in range(TRIES):
            try:
                answers = judge.run(_disturbed(sample.feeds, seed))
            except JudgeError:
                continue
            for i, (wanted, got) in enumerate(zip(sample.outputs, answers, strict=True)):
                found[i] = max(found[i], difference(wanted, got, scale=sample.scales[i]).error)
        return tuple(found)


def _disturbed(feeds: Feeds, seed: int) -> dict[str, Answer]:
    rng = np.random.default_rng(seed)
    found: dict[str, Answer] = {}
    for name, array in feeds.items():
        if not isinstance(array, np.ndarray) or not _is_float(array):
            found[name] = array
            continue
        noise = max(RELATIVE_NOISE, _STEPS[array.dtype.name])
        moved = array.astype(np.float64) * (1 + noise * rng.standard_normal(array.shape))
        found[name] = np.asarray(moved).astype(array.dtype)
    return found


def _is_float(value: Answer) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.name in _STEPS
