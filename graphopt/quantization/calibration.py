"""Calibration: an observer for each value, over all samples and all iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.quantization.collect import collect
from graphopt.quantization.observers import Observer
from graphopt.quantization.statistics import Statistics

__all__ = ["Calibration", "calibrate"]

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What samples made of values.

    Attributes:
        observers: One for each value, by scoped name; those that saw nothing too.
        samples: How many samples ran.
    """

    observers: Mapping[str, Observer]
    samples: int

    def merged(self, other: Calibration) -> Calibration:
        """Both as one: the same values on other samples."""
        found: dict[str, Observer] = {}
        for name in self.observers:
            found[name] = Observer()
            found[name].merge(self.observers[name])
            found[name].merge(other.observers[name])
        return Calibration(found, self.samples + other.samples)


def calibrate(
    model: ir.Model,
    names: Sequence[str],
    samples: Iterable[Mapping[str, Array]],
    progress: Callable[[int], None] | None = None,
    statistics: Statistics | None = None,
) -> Calibration:
    """Observe values while samples run.

    Args:
        model: The float model; it stays as it is.
        names: Scoped names of values; those of bodies are observed in every iteration.
        samples: Inputs by name.
        progress: Called with the number of samples done.
        statistics: Of operators' inputs, to be gathered in the same pass.

    Raises:
        UsageError: There is no value of such a name.
        ExecutionError: A sample does not run.
    """
    observers = {name: Observer() for name in names}
    if statistics is None:
        count = collect(model, names, samples, lambda name, array: observers[name].update(array), progress)
        return Calibration(observers, count)

    def see(name: str, array: Array) -> None:
        if name in observers:
            observers[name].update(array)
        statistics.see(name, array)

    wanted = list(dict.fromkeys([*names, *statistics.values]))
    count = collect(model, wanted, _announced(samples, statistics), see, progress)
    return Calibration(observers, count)


def _announced(
    samples: Iterable[Mapping[str, Array]], statistics: Statistics
) -> Iterator[Mapping[str, Array]]:
    for feeds in samples:
        statistics.begin(feeds)
        yield feeds
