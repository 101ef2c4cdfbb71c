"""Trials performed once: results that a journal has are not made again, new ones go there as they come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict

from graphopt.quantization.journal import Journal
from graphopt.quantization.noise import Noise
from graphopt.quantization.statistics import sample_key
from graphopt.quantization.trials import Bench, Choices, Outcome, Trial, perform

__all__ = ["Doing", "Performed", "digest_of", "here"]

# Performs trials, and shows each outcome with its number when it is there.
Doing = Callable[[Bench, Sequence[Trial], Callable[[int, Outcome], None]], Sequence[Outcome]]


def here(bench: Bench, trials: Sequence[Trial], seen: Callable[[int, Outcome], None]) -> list[Outcome]:
    """Perform trials in this process."""
    found = []
    for i, trial in enumerate(trials):
        found.append(perform(bench, trial))
        seen(i, found[i])
    return found


class Performed:
    """Performs trials on a bench.

    Args:
        bench: What they are on.
        run: Who performs them.
        journal: Open for this bench; None: nothing is kept.
    """

    def __init__(self, bench: Bench, run: Doing, journal: Journal | None = None) -> None:
        self._bench = bench
        self._run = run
        self._journal = journal

    def __call__(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in the order of the trials."""
        journal = self._journal
        if journal is None:
            return list(self._run(self._bench, trials, lambda *_: None))
        keys = [_key(f"{trial.choices} {trial.shard} {trial.is_free}") for trial in trials]
        left = [i for i, key in enumerate(keys) if journal.find(key) is None]
        if left:
            self._run(
                self._bench,
                [trials[i] for i in left],
                lambda n, found: journal.add(keys[left[n]], asdict(found)),
            )
        return [_outcome(journal.find(key) or {}) for key in keys]

    def size(self, choices: Choices, weigh: Callable[[], int]) -> int:
        """Bytes of a point's file.

        Args:
            choices: Of each group by name.
            weigh: Finds it out.
        """
        key = _key(f"size {choices}")
        known = self._journal.find(key) if self._journal is not None else None
        if known is not None:
            return int(str(known["bytes"]))
        found = weigh()
        if self._journal is not None:
            self._journal.add(key, {"bytes": found})
        return found


def digest_of(bench: Bench) -> str:
    """Digest of all that outcomes depend on, but for the float model."""
    table, blocks = bench.table, bench.blocks
    digest = hashlib.sha256(f"{bench.target} {table.operators} {bench.probes}".encode())
    for name, plan in [*table.tensors.items(), *blocks.items()]:
        grid = plan.grid
        words = (name, plan.role, plan.group, grid.dtype, grid.axis, grid.block_size, grid.narrow, grid.bits)
        digest.update(str(words).encode())
        for array in (grid.scale, grid.zero_point, plan.codes):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    digest.update(str([sample_key(feeds) for feeds in bench.samples]).encode())
    return digest.hexdigest()


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _outcome(entry: dict[str, object]) -> Outcome:
    noise = entry["noise"]
    assert isinstance(noise, dict)
    return Outcome(**{**entry, "noise": Noise(**noise)})  # type: ignore[arg-type]
