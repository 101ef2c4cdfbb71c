"""What was tried to make up for errors of quantizing, and what of it stayed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graphopt.ir.json_file import Json

__all__ = ["CompensationReport", "CompensationStep"]


@dataclass(frozen=True, slots=True)
class CompensationStep:
    """One thing that was tried at one place.

    Attributes:
        operator: Scoped name of the first operator there.
        step: "equalize", "smooth", "adjust" or "correct-bias".
        strength: Of smoothing; else None.
        before: Squared error on held-out rows over squared outputs, summed over the operators there.
        after: The same with it.
        kept: Whether it stayed.
    """

    operator: str
    step: str
    strength: float | None
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class CompensationReport:
    """All of it.

    Attributes:
        steps: In order.
        sqnr: Of the whole model in decibels, channels as they were and rescaled; None: not measured.
        corrected: The same without corrections of biases, and with those that stayed.
    """

    steps: tuple[CompensationStep, ...]
    sqnr: tuple[float, float] | None
    corrected: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        found: dict[str, Json] = {
            "steps": [
                {
                    "operator": step.operator,
                    "step": step.step,
                    "strength": step.strength,
                    "error_before": float(f"{step.before:.4g}"),
                    "error_after": float(f"{step.after:.4g}"),
                    "kept": step.kept,
                }
                for step in self.steps
            ]
        }
        for name, ends in (("sqnr_db", self.sqnr), ("corrected_sqnr_db", self.corrected)):
            if ends is not None:
                found[name] = {"before": round(ends[0], 3), "after": round(ends[1], 3)}
        return found

    def lines(self) -> list[str]:
        """One line for people; none where nothing was tried."""
        if not self.steps:
            return []
        tried = Counter(step.step for step in self.steps)
        kept = Counter(step.step for step in self.steps if step.kept)
        words = [f"{name} {kept[name]} of {count}" for name, count in tried.items()]
        for what, ends in (("rescaled", self.sqnr), ("corrected", self.corrected)):
            words += [] if ends is None else [f"{what} {ends[0]:.1f} -> {ends[1]:.1f} dB"]
        return [f"compensate {', '.join(words)}"]
