"""What an optimization did, as data; `report.schema.json` beside this file describes its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from graphopt import __version__
from graphopt.reporting.counts import OperatorCounts

if TYPE_CHECKING:
    from graphopt.verification import Verification

SCHEMA = "urn:graphopt:report:1"

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class PassStatistics:
    """One pass of the pipeline: how often its rules fired, how many near misses it rejected, and its time."""

    name: str
    fired: int = 0
    rejected: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DroppedFiring:
    """A firing that changed answers and was left out.

    Attributes:
        id: The firing's id in the trace.
        passname: The pass that made it.
        reason: What differed with it.
    """

    id: str
    passname: str
    reason: str


@dataclass(frozen=True, slots=True)
class ValueSignature:
    """A graph input or output. `shape` holds numbers, names of dynamic dims, or None for a nameless one."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[ValueSignature, ...]
    outputs: tuple[ValueSignature, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A number before and after; None where it is not known, such as a cost that depends on data."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class OperatorChange:
    """Operators of each type, before and after."""

    before: OperatorCounts
    after: OperatorCounts


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say about one optimization.

    Attributes:
        model: The model's name: its file, or its graph's name.
        bytes: Bytes of all weights.
        graph_bytes: Bytes of everything else in the file.
        flops: Floating-point operations at `sizes`.
        nanoseconds: Time of a run at `sizes` as the target's table of costs predicts it.
        peak_bytes: Most memory that values between operators need at once, at `sizes`.
        sizes: Sizes of the dynamic dims for `flops`, `nanoseconds` and `peak_bytes`.
        seconds: Time of the whole run.
    """

    model: str
    target: str
    signature: Signature
    operators: OperatorChange
    bytes: Change
    graph_bytes: Change = Change(None, None)
    flops: Change = Change(None, None)
    nanoseconds: Change = Change(None, None)
    peak_bytes: Change = Change(None, None)
    sizes: dict[str, int] = field(default_factory=dict)
    passes: tuple[PassStatistics, ...] = ()
    verification: Verification | None = None
    dropped: tuple[DroppedFiring, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Json]:
        """Plain data as the published schema describes it."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "graphopt", "version": __version__},
            "model": self.model,
            "target": self.target,
            "signature": signature_to_dict(self.signature),
            "operators": {
                "before": counts_to_dict(self.operators.before),
                "after": counts_to_dict(self.operators.after),
            },
            "bytes": {"before": self.bytes.before, "after": self.bytes.after},
            "graph_bytes": {"before": self.graph_bytes.before, "after": self.graph_bytes.after},
            "flops": {"before": self.flops.before, "after": self.flops.after},
            "nanoseconds": {"before": self.nanoseconds.before, "after": self.nanoseconds.after},
            "peak_bytes": {"before": self.peak_bytes.before, "after": self.peak_bytes.after},
            "sizes": dict(self.sizes),
            "passes": [
                {"name": p.name, "fired": p.fired, "rejected": p.rejected, "seconds": round(p.seconds, 6)}
                for p in self.passes
            ],
            "verification": None if self.verification is None else _verification(self.verification),
            "dropped": [{"id": d.id, "pass": d.passname, "reason": d.reason} for d in self.dropped],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 6),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)


def schema() -> dict[str, Json]:
    """The JSON schema of a report."""
    from importlib.resources import files

    text = files("graphopt.reporting").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Json] = json.loads(text)
    return found


def signature_to_dict(signature: Signature) -> dict[str, Json]:
    """A signature as the schema describes it."""
    return {
        "inputs": [_value(v) for v in signature.inputs],
        "outputs": [_value(v) for v in signature.outputs],
    }


def _value(value: ValueSignature) -> dict[str, Json]:
    shape = None if value.shape is None else list(value.shape)
    return {"name": value.name, "type": value.type, "shape": shape}


def counts_to_dict(counts: OperatorCounts) -> dict[str, Json]:
    """Operator counts as the schema describes them."""
    return {"total": counts.total, "constants": counts.constants, "types": dict(counts.types)}


def _verification(found: Verification) -> dict[str, Json]:
    return {
        "status": found.status,
        "judge": found.judge,
        "samples": found.samples,
        "sizes": [dict(s) for s in found.sizes],
        "skipped": found.skipped,
        "errors": {name: _number(error) for name, error in found.errors.items()},
        "mismatches": [
            {"output": m.output, "sizes": dict(m.sizes), "error": _number(m.error), "reason": m.reason}
            for m in found.mismatches
        ],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 6),
    }


def _number(error: float) -> float | str:
    """JSON has no infinity."""
    return error if math.isfinite(error) else "inf"
