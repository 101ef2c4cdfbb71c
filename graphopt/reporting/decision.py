"""What the decision of a quantization measured and took, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.ir.json_file import Json

__all__ = ["DecisionReport", "PointRow", "SensitivityRow"]


# Operators that lines name: those that lose most.
NAMED = 5


@dataclass(frozen=True, slots=True)
class PointRow:
    """A quantized model that was built and measured on samples.

    Attributes:
        bytes: Of the file.
        time: Predicted time of operators with weights, of the fastest point's.
        fallbacks: Operators that compute floats though they could compute with codes.
        predicted: Loss as a sum over groups.
        measured: The same, measured; None: outputs can't be compared.
        kl: Mean divergence of a step; None: nothing is a distribution.
        sqnr: Decibels; None: no noise at all, or no signal.
        flips: Share of steps whose largest number is another one.
        distance: Mean difference of a number.
        agreement: Share of samples decided alike.
        edits: Edit distance of what was decided, of its length.
        is_on_front: Whether no other point beats it in bytes, time and loss at once.
    """

    bytes: int
    time: float
    fallbacks: int
    predicted: float
    measured: float | None
    kl: float | None
    sqnr: float | None
    flips: float | None
    distance: float | None
    agreement: float | None
    edits: float | None
    is_on_front: bool


@dataclass(frozen=True, slots=True)
class SensitivityRow:
    """What quantizing an operator's group alone does.

    Attributes:
        operator: Its scoped name.
        group: Name of its group.
        choice: What it is.
        loss: That this adds.
        is_measured: Whether the group was measured alone; else its gain is that of others.
        losses: Of all choices.
        reason: Why it is so, where it is not what is fastest.
    """

    operator: str
    group: str
    choice: str
    loss: float
    is_measured: bool
    losses: Mapping[str, float]
    reason: str | None


@dataclass(frozen=True, slots=True)
class DecisionReport:
    """What was measured, and what was taken.

    Attributes:
        limits: What was to be kept, in words.
        is_reached: Whether it is.
        metric: Of losses: "kl" or "sqnr" (noise to signal power).
        taken: Number of the point.
        points: By rising bytes.
        predicted: Sum of all groups' losses.
        measured: All groups together.
        halves: The same of sets of half of them.
        operators: In the order of the model.
    """

    limits: str
    is_reached: bool
    metric: str
    taken: int
    points: tuple[PointRow, ...]
    predicted: float
    measured: float
    halves: tuple[tuple[float, float], ...]
    operators: tuple[SensitivityRow, ...]

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "limits": self.limits,
            "reached": self.is_reached,
            "metric": self.metric,
            "taken": self.taken,
            "points": [_point(row) for row in self.points],
            "additivity": {
                "predicted": self.predicted,
                "measured": self.measured,
                "halves": [[predicted, measured] for predicted, measured in self.halves],
            },
            "sensitivity": {row.operator: _sensitivity(row) for row in self.operators},
        }

    def lines(self) -> list[str]:
        """For people: the front, whether losses add up, and who loses most."""
        found = [f"limit      {self.limits}: {'kept' if self.is_reached else 'OUT OF REACH'}"]
        for i, row in enumerate(self.points):
            if row.is_on_front or i == self.taken:
                found.append(f"{'-> ' if i == self.taken else '   '}        {_line(row, self.metric)}")
        if self.predicted > 0:
            ratio = self.measured / self.predicted
            found.append(
                f"additive   losses of single groups sum up to {1 / ratio if ratio else 0:.2f}x of all"
            )
        loudest = sorted(self.operators, key=lambda operator: -operator.loss)[:NAMED]
        found += [
            f"loses      {self.metric} {loud.loss:.1e}  {loud.choice}  {loud.operator}"
            for loud in loudest
            if loud.loss > 0
        ]
        return found


def _line(row: PointRow, metric: str) -> str:
    parts = [f"{row.bytes:>12,} bytes", f"{row.fallbacks:>3} fall back", f"{row.time:5.2f}x time"]
    if metric == "kl" and row.kl is not None:
        parts.append(f"kl {row.kl:.1e}")
    parts += [] if row.sqnr is None else [f"{row.sqnr:.1f} dB"]
    parts += [] if row.agreement is None else [f"{row.agreement:.1%} alike"]
    return "  ".join(parts)


def _point(row: PointRow) -> dict[str, Json]:
    return {
        "bytes": row.bytes,
        "time": round(row.time, 6),
        "fallbacks": row.fallbacks,
        "predicted": row.predicted,
        "measured": row.measured,
        "kl": row.kl,
        "sqnr_db": row.sqnr,
        "flips": row.flips,
        "mean_difference": row.distance,
        "agreement": row.agreement,
        "edits": row.edits,
        "on_front": row.is_on_front,
    }


def _sensitivity(row: SensitivityRow) -> dict[str, Json]:
    found: dict[str, Json] = {
        "group": row.group,
        "choice": row.choice,
        "loss": row.loss,
        "measured": row.is_measured,
        "losses": dict(row.losses),
    }
    if row.reason is not None:
        found["reason"] = row.reason
    return found
