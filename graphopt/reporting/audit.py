"""What of a quantized model really computes with integers, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.ir.json_file import Json

__all__ = ["Audit", "AuditedOperator", "Conversions", "Verdict"]


# "stored": floats times weights that are read as integers. "float": integers are turned into floats first.
Verdict = Literal["integer", "stored", "float", "not run"]

# How many lines people get of what computes floats.
_MOST_LINES = 12


@dataclass(frozen=True, slots=True)
class AuditedOperator:
    """A quantized operator of the model, and what the runtime made of it.

    Attributes:
        name: Of its node; of a body with the nodes around it.
        operator: What the model says.
        kernel: What ran; "" where nothing of that name did: it was not reached, is part of another one, or
            only another look at memory.
        verdict: How it computes.
        share: Of the time of all operators.
    """

    name: str
    operator: str
    kernel: str
    verdict: Verdict
    share: float


@dataclass(frozen=True, slots=True)
class Conversions:
    """Operators that only turn floats into codes or codes into floats.

    Attributes:
        quantize: How many QuantizeLinear ran.
        dequantize: How many DequantizeLinear ran, of values made at run time.
        of_weights: How many ran of constants: in each run again.
        share: Of the time of all operators.
    """

    quantize: int
    dequantize: int
    of_weights: int
    share: float


@dataclass(frozen=True, slots=True)
class Audit:
    """How a runtime runs a quantized model.

    Attributes:
        runtime: Which, with its release.
        operators: Quantized ones, in the model's order.
        conversions: What is left of Q and DQ.
        milliseconds: Of all operators in one run.
    """

    runtime: str
    operators: tuple[AuditedOperator, ...]
    conversions: Conversions
    milliseconds: float

    def of(self, verdict: Verdict) -> tuple[AuditedOperator, ...]:
        """The operators with a verdict."""
        return tuple(found for found in self.operators if found.verdict == verdict)

    def share(self, verdict: Verdict) -> float:
        """Of the time, what operators with a verdict take."""
        return sum(found.share for found in self.of(verdict))

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        left = self.conversions
        return {
            "runtime": self.runtime,
            "milliseconds": round(self.milliseconds, 4),
            "verdicts": {
                verdict: {"operators": len(self.of(verdict)), "share": round(self.share(verdict), 4)}
                for verdict in sorted({found.verdict for found in self.operators})
            },
            "conversions": {
                "quantize": left.quantize,
                "dequantize": left.dequantize,
                "of_weights": left.of_weights,
                "share": round(left.share, 4),
            },
            "operators": [
                {
                    "name": found.name,
                    "operator": found.operator,
                    "kernel": found.kernel,
                    "verdict": found.verdict,
                    "share": round(found.share, 5),
                }
                for found in self.operators
            ],
        }

    def lines(self) -> list[str]:
        """A few lines for people: what computes floats, the most expensive first."""
        counts = Counter(found.verdict for found in self.operators)
        parts = [f"{counts[v]} {v} ({self.share(v):.0%} of the time)" for v in sorted(counts)]
        left = self.conversions
        found = [
            f"audit      {self.runtime}: {', '.join(parts) or 'nothing is quantized'}",
            f"           {left.quantize} QuantizeLinear, {left.dequantize} DequantizeLinear and "
            f"{left.of_weights} of weights run: {left.share:.0%} of the time",
        ]
        floats = sorted(self.of("float"), key=lambda o: -o.share)
        return found + _listed(floats)


def _listed(floats: Sequence[AuditedOperator]) -> list[str]:
    lines = [f"           {o.share:6.1%}  {o.operator} {o.name}: floats ({o.kernel})" for o in floats]
    more = len(lines) - _MOST_LINES
    return lines[:_MOST_LINES] + ([f"           and {more} more"] if more > 0 else [])
