"""optimize(): load -> pipeline -> verify -> bisect -> report.

The one place that knows the order of things. A result that differs from the original is bisected over
the trace to the firing that made it differ; that firing is denied, everything runs again without it,
and the report names it.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from graphopt import targets
from graphopt.errors import MismatchError, ModelError
from graphopt.ir.load import from_proto, load
from graphopt.ir.verifier import verify as verify_structure
from graphopt.reporting.report import DroppedFiring, Report
from graphopt.reporting.summary import Before, summarize, with_costs
from graphopt.rewriting import Driver, Editor, FiringId, PassFault, Trace, registry
from graphopt.rewriting import pipeline as pipelines
from graphopt.rewriting.opsets import OpsetPolicy
from graphopt.rewriting.pipeline import Pipeline

if TYPE_CHECKING:
    import onnx

    from graphopt.targets import Target
    from graphopt.verification import Verification, Verifier
    from graphopt.verification.data import Data

# A run that needs more repairs than this has a fault that dropping firings one by one won't mend.
MOST_DROPS = 12

# A rule that is guilty this often is wrong for this model: left out everywhere, it costs no more bisections.
GUILTY_RULE = 2

Progress = Callable[[str], None]
OpsetChoice = Literal["auto", "keep"] | int


@dataclass(frozen=True, slots=True)
class Result:
    """What `optimize` gives.

    Attributes:
        model: The optimized model. Its weights may still lie in the input's file until it is saved.
        report: What happened.
        trace: Every firing, in order.
    """

    model: ir.Model
    report: Report
    trace: Trace


@dataclass(slots=True)
class _Run:
    """One optimization: the settings that every repetition of the pipeline shares.

    Attributes:
        again: The source's file where nobody needs the source itself: then that is changed, not a copy.
        is_changed: Whether that has happened.
    """

    source: ir.Model
    target: Target
    pipeline: Pipeline
    opset: OpsetChoice
    stop_after: int | None
    explain: str | None
    progress: Progress | None
    again: Path | None = None
    is_changed: bool = False
    policy: OpsetPolicy | None = None
    denied: frozenset[FiringId] = frozenset()
    denied_rules: frozenset[tuple[str, str]] = frozenset()
    faults: list[str] = field(default_factory=list)

    def deny(self, guilty: FiringId) -> str:
        """Leave a firing out from now on, or its whole rule; returns what the report calls it."""
        place = guilty.place
        self.denied |= {guilty}
        same = sum(d.place.pass_name == place.pass_name and d.place.rule == place.rule for d in self.denied)
        if same < GUILTY_RULE:
            return str(guilty)
        self.denied_rules |= {(place.pass_name, place.rule)}
        return f"{place.pass_name}/{place.rule} everywhere"

    def once(self, limit: int | None = None) -> tuple[ir.Model, Trace]:
        """The pipeline on a fresh copy of the source, less what is denied; a pass that fails is left out."""
        while True:
            try:
                return self._once(limit)
            except PassFault as fault:
                self.faults.append(f"{fault}; it was left out")
                self.pipeline = self.pipeline.without([fault.pass_name])

    def warnings(self, trace: Trace) -> list[str]:
        """What went otherwise than asked, in the run that left this trace."""
        raised = self.policy.raised if self.policy is not None else ()
        return [
            *self.faults,
            *(f"rule {name} failed and did not fire: {error}" for name, error in trace.faults.items()),
            *(f"opset raised from {old} to {new}" for old, new in raised),
        ]

    def _once(self, limit: int | None) -> tuple[ir.Model, Trace]:
        trace = Trace(
            limit=self.stop_after if limit is None else limit,
            denied=self.denied,
            denied_rules=self.denied_rules,
            explain=self.explain,
        )
        self.policy = OpsetPolicy(self.opset, self.target)
        with _collecting_later():
            model = self._taken()
            editor = Editor(model, target=self.target, trace=trace, opset_policy=self.policy)
            Driver(editor).run(self.pipeline, self.progress)
        return editor.model, trace

    def _taken(self) -> ir.Model:
        """A model to change, as the source was read."""
        if self.again is None:
            return self.source.clone()
        if self.is_changed:
            self.source, _ = _source(self.again)
        self.is_changed = True
        return self.source


@contextmanager
def _collecting_later() -> Iterator[None]:
    """No search for garbage meanwhile: a graph is one large cycle, walked again and again for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def optimize(
    model: str | Path | ir.Model | onnx.ModelProto,
    *,
    target: str = "onnx",
    level: int = 2,
    passes: str | None = None,
    skip: Iterable[str] = (),
    opset: OpsetChoice = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
    data: Data | None = None,
    verify: bool = True,
    verify_seconds: float = 10.0,
    stop_after: int | None = None,
    explain: str | None = None,
    plugins: Iterable[str] = (),
    costs: bool | Mapping[str, int] = False,
    progress: Progress | None = None,
) -> Result:
    """Optimize a model and prove on samples that its answers stayed.

    Args:
        model: A file, or a model (left as it is).
        target: Who will run the result: "onnx" (standard operators only), "onnxruntime", "graphopt".
        level: 0 nothing, 1 exact rewrites, 2 and fusions, 3 and costly search.
        passes: A pipeline as text instead of the level's.
        skip: Names of passes to leave out.
        opset: "auto" raises it where something fuses by it and every operator converts exactly; "keep"
            leaves it; a number converts to that version first.
        shapes: Input dims to fix, by input name (opt-in; changes the signature).
        data: Samples to verify on beside our own: an .npz file, a folder of them, or feeds.
        verify: Whether to compare the result with the original.
        verify_seconds: Time limit of that.
        stop_after: Stop rewriting after this many firings.
        explain: Keep why the near misses of this pass did not fire.
        plugins: Modules that define further passes; they join the level's pipeline at their stage.
        costs: Estimate FLOPs and memory for the report: at these sizes of the dynamic dims (`True`: the
            largest ones that were verified, else all 1).
        progress: Called with a few words whenever a new part begins.

    Raises:
        UsageError: The arguments are wrong.
        ModelError: The input can't be taken.
        MismatchError: The original fails on every sample in `data`, or the result could not be made equal.
    """
    start = time.perf_counter()
    added = [cls for plugin in plugins for cls in registry.load_plugin(plugin)]
    if explain is not None:
        registry.find(explain)
    who = targets.find(target)
    pipeline = (
        pipelines.parse(passes) if passes is not None else pipelines.default(level, who.name, added)
    ).without(skip)
    source, path = _source(model)
    notes = dict(source.meta)
    source, path = _prepared(source, path, opset, shapes)
    source, path, pipeline = _with_signature(source, path, pipeline, who)
    run = _Run(
        source, who, pipeline, opset if isinstance(opset, str) else "keep", stop_after, explain, progress
    )
    before, name = Before.of(source), path.name if path is not None else source.graph.name or "model"
    if path is not None and not verify and costs is False:
        run.again = path
    result, trace = run.once()
    dropped: list[DroppedFiring] = []
    verification: Verification | None = None
    if verify:
        result, trace, verification = _verified(run, result, trace, path, data, verify_seconds, dropped)
    verify_structure(result)
    # Copies have none: that the weights lay in a file of their own is known from there.
    result.meta.update(notes)
    report = summarize(
        before,
        result,
        name=name,
        target=who.name,
        trace=trace,
        verification=verification,
        dropped=dropped,
        warnings=run.warnings(trace),
        seconds=time.perf_counter() - start,
    )
    sizes = _cost_sizes(costs, verification)
    if sizes is not None:
        report = with_costs(report, source, result, sizes)
    return Result(result, report, trace)


def _cost_sizes(
    costs: bool | Mapping[str, int], verification: Verification | None
) -> Mapping[str, int] | None:
    if not isinstance(costs, bool):
        return costs
    verified = verification.sizes if verification is not None else ()
    return max(verified, key=lambda s: math.prod(s.values()), default={}) if costs else None


def _source(model: str | Path | ir.Model | onnx.ModelProto) -> tuple[ir.Model, Path | None]:
    path = Path(model) if isinstance(model, str | Path) else None
    if isinstance(model, str | Path):
        source = load(model)
    elif isinstance(model, ir.Model):
        source = model
    else:
        source = from_proto(model)
    # Loading has looked at names alone; rules rely on what operators are given.
    verify_structure(source)
    return source, path


def _prepared(
    source: ir.Model, path: Path | None, opset: OpsetChoice, shapes: Mapping[str, Sequence[int]] | None
) -> tuple[ir.Model, Path | None]:
    """What was asked of the signature and the opset, done first; a changed model is no longer its file."""
    if isinstance(opset, int) and opset != source.graph.opset_imports.get("", opset):
        from graphopt.ir import opset_conversion

        current = source.graph.opset_imports[""]
        blockers = opset_conversion.can_convert(source, opset) if opset > current else []
        if opset < current or blockers:
            why = "; ".join(str(b) for b in blockers[:3]) or f"it is at {current} and opsets are only raised"
            raise ModelError(f"the model can't be converted to opset {opset}: {why}", hint="use --opset keep")
        source, path = source.clone(), None
        opset_conversion.convert(source, opset)
    if shapes:
        from graphopt.ir.freeze import freeze_inputs

        source, path = source.clone(), None
        freeze_inputs(source, shapes)
    return source, path


def _with_signature(
    source: ir.Model, path: Path | None, pipeline: Pipeline, target: Target
) -> tuple[ir.Model, Path | None, Pipeline]:
    """What passes make of the signature, done first: samples are of the new one."""
    first, rest = pipeline.parted()
    if not first.groups:
        return source, path, pipeline
    source = source.clone()
    editor = Editor(source, target=target, opset_policy=OpsetPolicy("keep", target))
    Driver(editor).run(first)
    return editor.model, None, rest


def _verified(
    run: _Run,
    result: ir.Model,
    trace: Trace,
    path: Path | None,
    data: Data | None,
    seconds: float,
    dropped: list[DroppedFiring],
) -> tuple[ir.Model, Trace, Verification]:
    """Check the result; while it differs, find the guilty firing, deny it and run again."""
    from graphopt.verification import Verifier

    if run.progress is not None:
        run.progress("verify")
    verifier = Verifier(run.source, path=path, data=data, seconds=seconds)
    found = verifier.check(result)
    while found.status == "mismatch":
        reason = found.mismatches[0].reason if found.mismatches else "the results differ"
        if len(dropped) >= MOST_DROPS or not trace.firings:
            raise MismatchError(
                f"the result differs from the original and could not be repaired: {reason}",
                hint=f"dropped so far: {', '.join(d.id for d in dropped) or 'nothing'}",
            )
        guilty = _first_guilty(run, trace, verifier)
        dropped.append(DroppedFiring(run.deny(guilty), guilty.place.pass_name, reason))
        result, trace = run.once()
        found = verifier.check(result)
    return result, trace, found


def _first_guilty(run: _Run, trace: Trace, verifier: Verifier) -> FiringId:
    from graphopt.verification.bisection import bisect

    def is_good(count: int) -> bool:
        partial, _ = run.once(limit=count)
        return verifier.check(partial).status != "mismatch"

    index = bisect(len(trace.firings), is_good)
    if index is None:
        raise MismatchError("the result differs from the original, but not when the run is repeated")
    return trace.firings[index].id


__all__ = ["Result", "optimize"]
