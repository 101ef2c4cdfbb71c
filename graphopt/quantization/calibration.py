"""Calibration: an observer for each value, over all samples and all iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.quantization.checkpoint import Checkpoint, Resumable
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
    checkpoint: Checkpoint | None = None,
) -> Calibration:
    """Observe values while samples run.

    Args:
        model: The float model; it stays as it is.
        names: Scoped names of values; those of bodies are observed in every iteration.
        samples: Inputs by name.
        progress: Called with the number of samples done.
        statistics: Of operators' inputs, to be gathered in the same pass.
        checkpoint: Where an interrupted run left its state, and this one leaves its own.

    Raises:
        UsageError: There is no value of such a name, or the checkpoint is of other samples.
        ExecutionError: A sample does not run.
    """
    observers = {name: Observer() for name in names}
    parts: list[tuple[str, Resumable]] = [*observers.items()]
    wanted = list(names)
    if statistics is not None:
        parts += statistics.parts
        wanted = list(dict.fromkeys([*names, *statistics.values]))
    if checkpoint is not None:
        checkpoint.open(parts)
    before = checkpoint.samples if checkpoint is not None else 0

    def see(name: str, array: Array) -> None:
        if name in observers:
            observers[name].update(array)
        if statistics is not None:
            statistics.see(name, array)

    def after(count: int) -> None:
        if checkpoint is not None:
            checkpoint.after(before + count, parts)
        if progress is not None:
            progress(before + count)

    count = collect(model, wanted, _left(samples, statistics, checkpoint), see, after)
    return Calibration(observers, before + count)


def _left(
    samples: Iterable[Mapping[str, Array]], statistics: Statistics | None, checkpoint: Checkpoint | None
) -> Iterator[Mapping[str, Array]]:
    """The samples that an interrupted run has not done; statistics are told of each."""
    number = 0
    for number, feeds in enumerate(samples, 1):
        if checkpoint is not None and checkpoint.is_done(number - 1, feeds):
            continue
        if statistics is not None:
            statistics.begin(feeds)
        yield feeds
    if checkpoint is not None:
        checkpoint.end(number)
