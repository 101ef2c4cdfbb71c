"""A quantized model beside the float one, on samples that nothing was fitted to.

Scales, codes and corrections are found layer by layer, and each is kept where its own layer loses less by it.
What errors of layers do together only the outputs of the whole model show: changes stay where those are no
farther off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable
from graphopt.quantization.applying import with_table
from graphopt.quantization.memory import give_back
from graphopt.quantization.noise import Noise, noise_between
from graphopt.quantization.replay import Replay, decisions_of, probes_of, ranks_of
from graphopt.quantization.statistics import HELD_OUT, is_held_out, sample_key

__all__ = ["Decibels", "Judge", "Settled", "decibels", "gains", "parted", "settled"]

Feeds = Mapping[str, npt.NDArray[np.generic]]
Decibels = npt.NDArray[np.float64]

# Models are judged on so many samples; changes that hurt together are looked at in so many parts.
SAMPLES, TRIALS = 16, 12
# What a sample without any noise counts for.
SILENCE = 200.0


class Judge:
    """The float model's path on some samples.

    Args:
        model: The float model, its nodes named.
        samples: To judge on.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Feeds]) -> None:
        self._samples = list(samples)
        self._decisions, self._probes = decisions_of(model), probes_of(model)
        recorder = Replay(model, self._decisions, self._probes)
        self._runs = [recorder.run(feeds) for feeds in self._samples]

    def noises(self, model: ir.Model, table: QuantTable) -> list[Noise]:
        """Of each sample.

        Args:
            model: A float model whose nodes have the names of the one that is recorded.
            table: Is applied to it.
        """
        follower = Replay(with_table(model, table), self._decisions, self._probes, ranks_of(self._runs))
        pairs = zip(self._samples, self._runs, strict=True)
        found = [noise_between(self._probes, run, follower.run(feeds, run)) for feeds, run in pairs]
        # Models are judged one after the other: each would wait for the next collection.
        del follower
        give_back()
        return found

    def sqnr(self, model: ir.Model, table: QuantTable) -> Decibels:
        """Signal to noise of each sample in decibels; empty where there is nothing to compare.

        Of the noise of all samples together one sample often has most, and says nothing of the others.
        """
        return decibels(self.noises(model, table))


def decibels(noises: Sequence[Noise]) -> Decibels:
    """Signal to noise of each sample; empty where there is nothing to compare."""
    if not any(noise.signal > 0 or noise.lost for noise in noises):
        return np.zeros(0)
    return np.asarray([_decibels(noise) for noise in noises])


def _decibels(noise: Noise) -> float:
    loss = noise.loss("sqnr")
    return min(-10 * math.log10(loss), SILENCE) if loss > 0 else SILENCE


def parted(samples: Iterable[Feeds], most: int = SAMPLES) -> tuple[list[Feeds], list[Feeds]]:
    """Samples to fit to, at most thrice `most`, and at most `most` of those that calibration holds out.

    Where chance has left a side empty every fourth sample is held out; fewer than four are on both sides.
    """
    fit: list[Feeds] = []
    held: list[Feeds] = []
    for feeds in samples:
        side, limit = (held, most) if is_held_out(sample_key(feeds)) else (fit, 3 * most)
        if len(side) < limit:
            side.append(feeds)
        if len(held) == most and len(fit) == 3 * most:
            break
    if held and fit:
        return fit, held
    every = fit or held
    if len(every) < HELD_OUT:
        return every, every
    return [f for i, f in enumerate(every) if (i + 1) % HELD_OUT], every[HELD_OUT - 1 :: HELD_OUT]


@dataclass(frozen=True, slots=True)
class Settled:
    """Changes to keep.

    Attributes:
        kept: Their names.
        sqnr: Of the whole model without any, and with those kept; None: nothing to judge by.
    """

    kept: frozenset[str]
    sqnr: tuple[float, float] | None


def settled(
    names: Sequence[str], sqnr_with: Callable[[frozenset[str]], Decibels], *, must_gain: bool = False
) -> Settled:
    """All changes, if the whole model is no worse with them; else those parts of them that do no harm.

    What hurts together is halved, and each half tried on top of what was kept, for `TRIALS` trials.

    Args:
        names: Of the changes, in the order of the model.
        sqnr_with: Of the model with some of them, for each sample.
        must_gain: Whether samples must agree that the model is better, not only no worse.
    """
    kept: frozenset[str] = frozenset()
    first = best = sqnr_with(kept)
    if not len(first):
        return Settled(kept if must_gain else frozenset(names), None)
    pending = [tuple(names)] if names else []
    for _ in range(TRIALS):
        if not pending:
            break
        part = pending.pop(0)
        found = sqnr_with(kept | frozenset(part))
        if gains(best, found) if must_gain else found.mean() >= best.mean():
            kept, best = kept | frozenset(part), found
        elif len(part) > 1:
            middle = len(part) // 2
            pending += [part[:middle], part[middle:]]
    return Settled(kept, (float(first.mean()), float(best.mean())))


def gains(before: Decibels, after: Decibels) -> bool:
    """Whether samples are better by more than the standard error of how much."""
    gained = after - before
    spread = float(gained.std(ddof=1)) / math.sqrt(len(gained)) if len(gained) > 1 else 0.0
    return bool(gained.size and gained.mean() > spread)
