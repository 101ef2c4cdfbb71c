"""What quantizing a model did, as data; `quantization.schema.json` beside this file describes its JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import onnx_ir as ir

from graphopt import __version__
from graphopt.ir import scopes
from graphopt.ir.element_types import FLOATS
from graphopt.ir.json_file import Json
from graphopt.reporting.audit import Audit
from graphopt.reporting.compensation import CompensationReport
from graphopt.reporting.decision import DecisionReport
from graphopt.reporting.refinement import RefinementReport

if TYPE_CHECKING:
    from graphopt.ir.quant_table import QuantTable

__all__ = ["SCHEMA", "QuantizationReport", "WeightBits", "schema"]

SCHEMA = "urn:graphopt:quantization:1"


# Types of weights; integers of more bits are sizes and indices.
_NUMBERS = FLOATS | {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4}


class MeasuredLoss(Protocol):
    """How far the outputs are from those of the float model."""

    @property
    def samples(self) -> int: ...
    @property
    def agreement(self) -> float | None: ...
    @property
    def sqnr(self) -> float | None: ...
    @property
    def other_shapes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class WeightBits:
    """Bits of all constants that are weights: floats, codes and their scales, before and after."""

    before: int
    after: int

    @property
    def ratio(self) -> float:
        """What could be saved if a file held nothing else."""
        return self.before / self.after if self.after else 1.0

    @classmethod
    def of(cls, before: ir.Model, after: ir.Model) -> WeightBits:
        """Count both."""
        return cls(_bits(before), _bits(after))


def _bits(model: ir.Model) -> int:
    tensors = (
        value.const_value
        for graph in scopes.all_graphs(model)
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    return int(sum(t.size * t.dtype.bitwidth for t in tensors if t.dtype in _NUMBERS))


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """What quantizing a model did.

    Attributes:
        name: Of the input file.
        mode: "static", "int8" or "int4" (weights alone).
        operators: How many operators of each kind the optimized float model has, and the quantized one.
        file_bytes: Of the input file; and of the output once it was saved.
        weights: Bits of weights.
        modes: How many operators the table has in each mode.
        reasons: Operators that were left out, and why.
        loss: On the samples; None: not measured.
        decision: What was measured to decide, and what was taken; None: nothing was decided.
        samples: How many calibrated.
        warnings: One line each.
        seconds: All in all.
        audit: What of the result computes with integers; None: it was not run.
        compensation: What was tried to make up for errors; None: nothing.
        refinement: What was tried on scales and codes of weights; None: nothing.
    """

    name: str
    mode: str
    operators: tuple[dict[str, int], dict[str, int]]
    file_bytes: tuple[int, int | None]
    weights: WeightBits
    modes: dict[str, int]
    reasons: dict[str, str]
    loss: MeasuredLoss | None
    decision: DecisionReport | None
    samples: int | None
    warnings: tuple[str, ...]
    seconds: float
    audit: Audit | None = None
    compensation: CompensationReport | None = None
    refinement: RefinementReport | None = None

    @classmethod
    def of(
        cls,
        *,
        path: Path,
        mode: str,
        before: ir.Model,
        after: ir.Model,
        weights: WeightBits,
        table: QuantTable | None,
        loss: MeasuredLoss | None,
        decision: DecisionReport | None = None,
        warnings: tuple[str, ...],
        seconds: float,
        audit: Audit | None = None,
        compensation: CompensationReport | None = None,
        refinement: RefinementReport | None = None,
    ) -> QuantizationReport:
        """Gather what is known before the result is saved."""
        plans = table.operators if table is not None else {}
        note = table.calibration if table is not None else None
        return cls(
            path.name,
            mode,
            (_operators(before), _operators(after)),
            (path.stat().st_size, None),
            weights,
            dict(sorted(Counter(plan.mode for plan in plans.values()).items())),
            {name: plan.reason for name, plan in plans.items() if plan.reason},
            loss,
            decision,
            note.samples if note is not None else None,
            warnings,
            seconds,
            audit,
            compensation,
            refinement,
        )

    def saved(self, path: Path) -> QuantizationReport:
        """The report with the bytes of the output, its external data included."""
        beside = path.with_name(path.name + ".data")
        size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
        return replace(self, file_bytes=(self.file_bytes[0], size))

    def to_dict(self) -> dict[str, Json]:
        """As JSON."""
        before, after = self.operators
        found: dict[str, Json] = {
            "schema": SCHEMA,
            "tool": f"graphopt {__version__}",
            "model": self.name,
            "mode": self.mode,
            "bytes": {"before": self.file_bytes[0], "after": self.file_bytes[1]},
            "weights": {
                "bits_before": self.weights.before,
                "bits_after": self.weights.after,
                "theoretical_ratio": round(self.weights.ratio, 4),
            },
            "operators": {"before": dict(before), "after": dict(after)},
            "modes": dict(self.modes),
            "reasons": dict(self.reasons),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }
        if self.samples is not None:
            found["calibration"] = {"samples": self.samples}
        if self.loss is not None:
            sqnr = self.loss.sqnr
            found["loss"] = {
                "samples": self.loss.samples,
                "agreement": self.loss.agreement,
                "sqnr_db": None if sqnr is None or math.isinf(sqnr) else round(sqnr, 3),
                "other_shapes": self.loss.other_shapes,
            }
        if self.decision is not None:
            found["decision"] = self.decision.to_dict()
        if self.compensation is not None:
            found["compensation"] = self.compensation.to_dict()
        if self.refinement is not None:
            found["refinement"] = self.refinement.to_dict()
        if self.audit is not None:
            found["audit"] = self.audit.to_dict()
        return found

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def lines(self) -> list[str]:
        """A few lines for people."""
        before, after = self.file_bytes
        found = [f"{self.name}  {self.mode}"]
        if after is not None:
            found.append(f"bytes      {before:,} -> {after:,}  ({before / max(after, 1):.2f}x)")
        found.append(f"weights    {self.weights.ratio:.2f}x fewer bits, scales included")
        counts = [sum(kinds.values()) for kinds in self.operators]
        found.append(f"operators  {counts[0]:,} (optimized) -> {counts[1]:,}")
        if self.modes:
            found.append("plan       " + ", ".join(f"{count} {mode}" for mode, count in self.modes.items()))
        if self.loss is not None:
            parts = [] if self.loss.agreement is None else [f"{self.loss.agreement:.1%} decided alike"]
            parts += [] if self.loss.sqnr is None else [f"{self.loss.sqnr:.1f} dB"]
            found.append(
                f"loss       {', '.join(parts) or 'nothing to compare'} on {self.loss.samples} samples"
            )
        if self.compensation is not None:
            found += self.compensation.lines()
        if self.refinement is not None:
            found += self.refinement.lines()
        if self.decision is not None:
            found += self.decision.lines()
        if self.audit is not None:
            found += self.audit.lines()
        return found + [f"warning    {warning}" for warning in self.warnings]


def schema() -> dict[str, Json]:
    """The JSON schema of a report."""
    text = files("graphopt.reporting").joinpath("quantization.schema.json").read_text(encoding="utf-8")
    return cast(dict[str, Json], json.loads(text))


def _operators(model: ir.Model) -> dict[str, int]:
    kinds = Counter(
        node.op_type for graph in scopes.nested(model.graph) for node in graph if node.op_type != "Constant"
    )
    return dict(sorted(kinds.items()))
