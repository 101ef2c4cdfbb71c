"""What refining scales and codes of weights found, layer by layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from graphopt.ir.json_file import Json

__all__ = ["RefinementReport", "Step"]


class Step(Protocol):
    """What was tried on a weight."""

    @property
    def weight(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def before(self) -> float: ...
    @property
    def after(self) -> float: ...
    @property
    def kept(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RefinementReport:
    """All of it.

    Attributes:
        steps: One for each weight and number of bits, in order.
        sqnr: By bits, of the whole model in decibels: without and with those that stayed.
    """

    steps: Sequence[Step]
    sqnr: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """As JSON; errors are of a layer's output on held-out rows, as shares of its squares."""
        steps: list[Json] = [
            {
                "weight": step.weight,
                "bits": step.bits,
                "method": step.method,
                "error_before": float(f"{step.before:.4g}"),
                "error_after": float(f"{step.after:.4g}"),
                "kept": step.kept,
            }
            for step in self.steps
        ]
        found: dict[str, Json] = {"steps": steps}
        if self.sqnr:
            found["sqnr_db"] = {
                str(bits): {"before": round(before, 3), "after": round(after, 3)}
                for bits, (before, after) in self.sqnr.items()
            }
        return found

    def lines(self) -> list[str]:
        """A line for people for each number of bits."""
        found = []
        for bits in sorted({step.bits for step in self.steps}, reverse=True):
            steps = [step for step in self.steps if step.bits == bits]
            kept = Counter(step.method for step in steps if step.kept)
            words = ", ".join(f"{name} {count}" for name, count in sorted(kept.items()))
            before = _decibels([step.before for step in steps])
            after = _decibels([step.after if step.kept else step.before for step in steps])
            whole = "{:.1f} -> {:.1f} dB at the model's".format(*self.sqnr[bits]) if bits in self.sqnr else ""
            found.append(
                f"refine     {sum(kept.values())} of {len(steps)} weights of {bits} bits "
                f"({words or 'none'}): {before} -> {after} dB at their outputs{', ' if whole else ''}{whole}"
            )
        return found


def _decibels(errors: Sequence[float]) -> str:
    """Mean signal to noise."""
    mean = sum(errors) / len(errors)
    return f"{-10 * math.log10(mean):.1f}" if mean > 0 else "inf"
