"""The stage between the first table and the one that is applied: search, with whom and for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.quantization.choices import Choice
from graphopt.quantization.journal import Journal
from graphopt.quantization.limits import Limits
from graphopt.quantization.search import Search, search
from graphopt.quantization.statistics import Statistics
from graphopt.quantization.trials import Bench, Outcome, Trial, perform
from graphopt.quantization.workers import workers

__all__ = ["Bits", "Deciding", "decide"]

Array = npt.NDArray[np.generic]
Bits = Literal[4, 7, 8]

_CHOICES: dict[Bits, tuple[Choice, ...]] = {
    8: ("int8", "weight_only", "float16", "float"),
    7: ("int7", "weight_only", "float16", "float"),
    4: ("int8", "weight_only", "int4", "float16", "float"),
}


@dataclass(frozen=True, slots=True)
class Deciding:
    """How the decision is made.

    Attributes:
        limits: What the result must keep to.
        bits: Of weights: 8; 7, for kernels that add pairs in 16 bits; or 4, in blocks, where they may be.
        whole_front: Whether points beyond what the limits need are measured.
        workers: Processes that measure.
        dask: Address of a cluster that measures instead.
    """

    limits: Limits = field(default_factory=Limits)
    bits: Bits = 8
    whole_front: bool = False
    workers: int = 1
    dask: str | None = None


def decide(
    model: ir.Model,
    table: QuantTable,
    samples: Iterable[Mapping[str, Array]],
    how: Deciding,
    *,
    statistics: Statistics | None = None,
    blocks: Mapping[str, TensorPlan] | None = None,
    target: str = "onnx",
    journal: Journal | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Search:
    """Find what each operator does; arguments as of `search`."""
    with workers(how.workers, how.dask) as team:

        def run(bench: Bench, trials: Sequence[Trial], seen: Callable[[int, Outcome], None]) -> list[Outcome]:
            return team.map(perform, bench, trials, seen)

        return search(
            model,
            table,
            samples,
            statistics=statistics,
            limits=how.limits,
            choices=_CHOICES[how.bits],
            blocks=blocks,
            target=target,
            whole_front=how.whole_front,
            run=run,
            journal=journal,
            tell=tell,
        )
