"""Find samples that the original model accepts, at sizes that tell much.

First one legal vector of sizes is looked for, small and with every dim different. From it follow the others:
all ones, larger, and each dim zero in turn. What the original rejects is illegal, not wrong.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphopt.verification.compare import Answer, magnitude, varies
from graphopt.verification.flow import Flow, nodes_of
from graphopt.verification.isolation import can_isolate, crash_of
from graphopt.verification.judge import Feeds, JudgeError
from graphopt.verification.pins import pinned_dims
from graphopt.verification.roles import role_of
from graphopt.verification.signature import inputs_of
from graphopt.verification.structure import Structure, all_equal, structures
from graphopt.verification.values import Spread, sample_value

Run = Callable[[Feeds], Sequence[Answer]]

MAX_ATTEMPTS = 150  # rejected vectors before giving up; a rejection takes about a millisecond
MAX_ELEMENTS = 1 << 22  # of all inputs together, where there is a choice: 16 MB of floats
MAX_ZEROS = 3  # dims that are zero in turn
_BRANCH_LENGTHS = (4, 12, 3, 8, 9, 16)
BRANCH_SAMPLES = len(_BRANCH_LENGTHS)
FIXED_SAMPLES = 3  # of a model without dynamic dims
ZERO_SECONDS = 5.0  # limit for a run at a size of zero, which some kernels never end
ONE_SECONDS = 60.0  # and at a size of one
LARGER_TRIED = 5  # levels above the first legal one, until one is legal
MAX_SAMPLES = 20  # ordinals from here on are those of samples with other numbers
BATCH = 2
LARGE_BATCH = 3

# Lengths of dims other than the batch: the first, and the step from one dim to the next. Primes come first;
# later ones are what convolutions, poolings and windows of real models need.
_PRIMES = (7, 5, 11, 13, 17, 19, 23, 29)
_LEVELS = (
    (33, 14), (32, 32), (64, 32), (64, 0), (48, 16), (128, 64), (224, 0), (256, 0), (416, 0), (576, 0),
    (1024, 0), (1600, 0), (4000, 0), (16000, 0),
)  # fmt: skip
_SMALL, _LARGE = -1, 0
_SAFE_SIZE = 2  # below it a kernel may end the process: one position makes no window, and none is divided by
_OTHER_SPREADS: tuple[Spread, ...] = ("unit", "wide")
# Longest length tried, by what it is of: attention over 4,000 tokens, or a plane of 1,600 x 1,600, would take
# gigabytes; sampled sound has but one long axis.
_LONGEST_TOKENS, _LONGEST_PLANE, _LONGEST_FRAMES, _LONGEST_SOUND = 576, 576, 1600, 16000


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs that the original accepts, with its answers.

    Attributes:
        sizes: Sizes of the dynamic dims by name.
        scales: Largest magnitude of each output over the samples that belong together.
    """

    feeds: Feeds
    sizes: dict[str, int]
    outputs: tuple[Answer, ...]
    scales: tuple[float, ...] = ()

    @property
    def elements(self) -> int:
        """How many numbers go in."""
        return sum(a.size for a in self.feeds.values() if isinstance(a, np.ndarray))


def with_scales(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, each with the scales of all.

    An answer that is small by chance carries the rounding of its kind all the same: a sigmoid of 1e-6 is as
    uncertain as one of 0.5.
    """
    columns = zip(*(map(magnitude, s.outputs) for s in samples), strict=True)
    scales = tuple(max(column) for column in columns)
    return [replace(s, scales=scales) for s in samples]


@dataclass(frozen=True, slots=True)
class Samples:
    """What was found.

    Attributes:
        skipped: How many vectors of sizes the original rejected.
        reason: Why it rejected the last one.
        notes: What could not be tried, for the reader.
    """

    found: tuple[Sample, ...]
    skipped: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()


def find_samples(model: ir.Model, run: Run, *, seconds: float, seed: int) -> Samples:
    """Sample inputs of `model` and run it on them.

    Args:
        model: The original.
        run: Runs the original; raises JudgeError where it rejects the inputs.
        seconds: Limit; at least one attempt is made.
        seed: Of everything random.
    """
    search = _Search(model, run, time.perf_counter() + seconds, seed)
    search.sample()
    return Samples(tuple(with_scales(search.found)), search.skipped, search.reason, tuple(search.notes))


class _Search:
    def __init__(self, model: ir.Model, run: Run, deadline: float, seed: int) -> None:
        flow = Flow(model)
        self._inputs = inputs_of(model)
        values = {v.name: v for v in model.graph.inputs}
        self._roles = {i.name: role_of(values[i.name], flow) for i in self._inputs}
        self._pinned = pinned_dims([values[i.name] for i in self._inputs], self._inputs)
        self._branches = any(n.op_type == "If" for n in nodes_of(model))
        self._run = run
        self._deadline = deadline
        self._seed = seed
        self._tried: set[tuple[tuple[str, int], ...]] = set()
        self.found: list[Sample] = []
        self.skipped = 0
        self.reason = ""
        self.notes: list[str] = []

    def sample(self) -> None:
        """Fill `found`."""
        if not any(i.symbols for i in self._inputs):
            for ordinal in range(FIXED_SAMPLES + (BRANCH_SAMPLES if self._branches else 0)):
                self._attempt({}, ordinal)
        else:
            first = self._first_legal()
            if first is None:
                return
            further = itertools.chain(self._further(*first), self._for_branches(*first))
            for ordinal, choices in enumerate(further, start=1):
                for sizes in choices:
                    if self._attempt(sizes, ordinal):
                        break
        self._make_telling()

    def _first_legal(self) -> tuple[Structure, int] | None:
        guesses = list(structures(self._inputs))
        # Last, the finest guesses with other choices for inputs that are compared with constants.
        rounds = ((0, guesses), (0, [all_equal(self._inputs)]), (1, guesses[:4]))
        for ordinal, guesses in rounds:
            limit = self.skipped + MAX_ATTEMPTS
            for level, structure in itertools.product(range(_SMALL, len(_LEVELS)), guesses):
                chosen = self._chosen(structure, level, BATCH)
                if chosen is not None and self._attempt(structure.sizes(chosen), ordinal):
                    return structure, level
                if self._is_late():
                    return None
                if self.skipped >= limit:
                    break
        return None

    def _further(self, structure: Structure, level: int) -> Iterator[list[dict[str, int]]]:
        """Sizes for each further sample: the first legal one of a list is taken."""
        base = self._chosen(structure, level, BATCH) or {}
        free = [name for name in structure.free if name not in self._pinned]
        ones = base | dict.fromkeys(free, 1)
        yield [structure.sizes(ones), structure.sizes(base | dict.fromkeys(structure.batch & set(free), 1))]
        further = range(max(level + 1, _LARGE), min(level + LARGER_TRIED + 1, len(_LEVELS)))
        larger = (self._chosen(structure, k, LARGE_BATCH) for k in further)
        yield [structure.sizes(chosen) for chosen in larger if chosen is not None]
        for name in free[:MAX_ZEROS]:
            yield [structure.sizes(base | {name: 0})]
        yield [structure.sizes(base)]

    def _for_branches(self, structure: Structure, level: int) -> Iterator[list[dict[str, int]]]:
        """More samples for a model with an If, whose condition may hang on a size or on data."""
        if not self._branches:
            return
        base = self._chosen(structure, level, BATCH) or {}
        free = [name for name in structure.free if name not in self._pinned]
        for length in _BRANCH_LENGTHS:
            lengths = {} if level != _SMALL else {n: length for n in free if n not in structure.batch}
            batch = {n: 1 + length % 2 for n in free if n in structure.batch}
            yield [structure.sizes(base | lengths | batch), structure.sizes(base | batch)]

    def _chosen(self, structure: Structure, level: int, batch: int) -> dict[str, int] | None:
        """Sizes of the free dims at a level; None where one would be too long."""
        found: dict[str, int] = {}
        place = 0
        for name in structure.free:
            if name in self._pinned:
                found[name] = self._pinned[name]
            elif name in structure.batch:
                found[name] = batch
            else:
                found[name] = _length(level, place)
                place += 1
                if found[name] > self._longest(name):
                    return None
        return found

    def _longest(self, name: str) -> int:
        users = [i for i in self._inputs if name in i.symbols]
        if any(i.dtype.is_integer() for i in users):
            return _LONGEST_TOKENS
        rank = max((len(i.dims or ()) for i in users), default=1)
        return _LONGEST_PLANE if rank > 3 else _LONGEST_FRAMES if rank == 3 else _LONGEST_SOUND

    def _attempt(self, sizes: dict[str, int], ordinal: int, spread: Spread = "normal") -> bool:
        key = (("#", ordinal), *sizes.items())
        elements = sum(math.prod(i.shape(sizes)) for i in self._inputs)
        too_large = elements > MAX_ELEMENTS and any(s > 1 for s in sizes.values())
        if (self.found and self._is_late()) or too_large or (key in self._tried and spread == "normal"):
            return False
        self._tried.add(key)
        feeds = self._feeds(sizes, ordinal, spread)
        if min(sizes.values(), default=_SAFE_SIZE) < _SAFE_SIZE and not self._is_safe(feeds, sizes):
            return False
        try:
            self.found.append(Sample(feeds, sizes, tuple(self._run(feeds))))
        except JudgeError as error:
            self.skipped += 1
            self.reason = str(error)
            return False
        return True

    def _is_safe(self, feeds: Feeds, sizes: dict[str, int]) -> bool:
        if not can_isolate():
            return 0 not in sizes.values()
        crash = crash_of(lambda: self._run(feeds), ZERO_SECONDS if 0 in sizes.values() else ONE_SECONDS)
        if crash is None:
            return True
        self.skipped += 1
        self.reason = f"{crash}, the original's judge crashes at {sizes}"
        self.notes.append(f"not verified at {_text(sizes)}: the judge crashes on the original ({crash})")
        return False

    def _feeds(self, sizes: dict[str, int], ordinal: int, spread: Spread) -> dict[str, Answer]:
        found = {}
        for place, i in enumerate(self._inputs):
            rng = np.random.default_rng([self._seed, ordinal, place])
            found[i.name] = sample_value(i, self._roles[i.name], sizes, ordinal, rng, spread)
        return found

    def _make_telling(self) -> None:
        """Where an output is the same in all samples, try other numbers at the sizes of the first sample."""
        for ordinal, spread in enumerate(_OTHER_SPREADS, start=MAX_SAMPLES):
            if not self.found or all(self._varies(k) for k in range(len(self.found[0].outputs))):
                return
            self._attempt(self.found[0].sizes, ordinal, spread)

    def _varies(self, k: int) -> bool:
        return varies([s.outputs[k] for s in self.found])

    def _is_late(self) -> bool:
        return time.perf_counter() > self._deadline


def _text(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _length(level: int, place: int) -> int:
    if level == _SMALL:
        return _PRIMES[place % len(_PRIMES)]
    first, step = _LEVELS[level]
    return first + step * place
