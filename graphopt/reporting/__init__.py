"""What happened: counts, costs, reports, differences."""

from graphopt.reporting.counts import OperatorCounts, count_operators
from graphopt.reporting.report import (
    Change,
    DroppedFiring,
    OperatorChange,
    PassStatistics,
    Report,
    Signature,
    ValueSignature,
)
from graphopt.reporting.signatures import signature_of

__all__ = [
    "Change",
    "DroppedFiring",
    "OperatorChange",
    "OperatorCounts",
    "PassStatistics",
    "Report",
    "Signature",
    "ValueSignature",
    "count_operators",
    "signature_of",
]
