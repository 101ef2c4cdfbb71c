"""Is an optimized model still the same: run both on samples and compare."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from graphopt.errors import MismatchError
from graphopt.verification.compare import TOLERANCES, Answer, Difference, Tolerance, difference, varies
from graphopt.verification.data import Data, given_samples
from graphopt.verification.flow import nodes_of
from graphopt.verification.isolation import crash_of
from graphopt.verification.judge import Judge, JudgeError, load_onnxruntime, load_reference
from graphopt.verification.narrowing import NARROWED_NOTE, as_wide_as, fed_to, narrowed_tolerances
from graphopt.verification.rounding import QUANTIZERS, Rounding
from graphopt.verification.sampling import ZERO_SECONDS, Sample, find_samples, with_scales
from graphopt.verification.signature import inputs_of
from graphopt.verification.stability import Stability

_Loader: TypeAlias = Callable[[ir.Model | Path], Judge]
Status = Literal["verified", "unverified", "mismatch"]

# Rounding inside a quantized model turns a difference of 1e-7, which is allowed, into a step of a scale. Such
# models are held to the strict bound first, then to the wide one and to what rounding does in the original
# (`Rounding`); the report says so.
QUANTIZED = TOLERANCES | {"float32": Tolerance(5e-2, 5e-2), "float16": Tolerance(5e-2, 5e-2)}
QUANTIZED_NOTE = (
    "rounding in this quantized model amplifies differences: held to 5 % of an output's largest value "
    "and twice what the original moves by when a number that it rounds moves by 1e-6"
)
BEYOND_ROUNDING = "{}, which is more than rounding explains"
UNSTABLE_NOTE = "output '{}' not judged at {}: the original moves as much when its inputs move by 1e-6"
# Operators whose definition in the standard reshapes with -1, so that nothing runs them on empty tensors:
# neither onnxruntime, nor the reference implementation, nor their own function bodies.
REFUSE_EMPTY = frozenset({"Attention", "RotaryEmbedding"})
NEVER_RUN_NOTE = "output '{}' has no elements where a loop does not run: its other dims are not compared"
EMPTY_NOTE = "sizes of zero are not judged: {} can't run on empty tensors (skip its fusion if they occur)"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One output that is not what it was.

    Attributes:
        output: Its name, or "" where the whole result could not be run.
        sizes: Sizes of the sample that shows it.
        error: Largest difference over the output's largest magnitude; inf where they can't be compared.
        reason: The first place, or the error of the judge.
    """

    output: str
    sizes: dict[str, int]
    error: float
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        status: "unverified" where the original could not be run on any sample, or its outputs never vary.
        judge: Which engine ran both; "" where none could.
        samples: How many samples were compared.
        sizes: Sizes of the dynamic dims, each vector once.
        skipped: How many sampled sizes the original rejected.
        errors: Largest relative error of each output.
        mismatches: Outputs that differ in the first sample that shows a difference.
        notes: Sentences for the reader: what could not be judged and why.
        seconds: Time of this check; of the first check, with finding the samples.
    """

    status: Status
    judge: str = ""
    samples: int = 0
    sizes: tuple[dict[str, int], ...] = ()
    skipped: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    mismatches: tuple[Mismatch, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def max_error(self) -> float:
        """Largest relative error over all outputs."""
        return max(self.errors.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class _Original:
    """The original's side, computed once."""

    load: _Loader
    judge: str
    samples: tuple[Sample, ...]
    skipped: int
    stability: Stability
    rounding: Rounding
    random: frozenset[str]
    silent: bool  # no output says anything: all are random, empty, NaN or constant
    notes: tuple[str, ...]
    seconds: float


class Verifier:
    """Compares candidates with one original, whose samples and answers are computed once.

    Args:
        original: The model as it was read; it must stay unchanged as long as the verifier is used.
        path: Its file; onnxruntime then reads it by itself, so that faults of our own reading show as well.
        data: The user's samples: an .npz file, a folder of them, or feeds. They are compared beside our own.
        seconds: Half of it is the limit for finding samples, half for each check; one sample is always
            compared.
        seed: Of everything random.
    """

    def __init__(
        self,
        original: ir.Model,
        *,
        path: Path | None = None,
        data: Data | None = None,
        seconds: float = 10.0,
        seed: int = 0,
    ) -> None:
        self._model = original
        self._path = path
        self._data = data
        self._seconds = seconds
        self._seed = seed
        self._inputs = inputs_of(original)
        self._input_names = tuple(v.name or "" for v in original.graph.inputs)
        self._outputs = tuple(v.name or "" for v in original.graph.outputs)
        self._operators = _operators(original)
        self._has_scans = any(n.op_type in ("Loop", "Scan") for n in nodes_of(original))
        is_quantized = any(op_type in QUANTIZERS for _, op_type in self._operators)
        self._own_tolerances = QUANTIZED if is_quantized else None
        self._tolerances, self._wide_note = self._own_tolerances, QUANTIZED_NOTE
        self._candidate: ir.Model | None = None
        self._original: _Original | None = None
        self._telltale: Sample | None = None  # showed the last difference: it comes first in the next check

    def prepare(self) -> None:
        """Find samples and the original's answers; the first check does it otherwise.

        Raises:
            MismatchError: The original fails on every sample that the user gave.
            UsageError: The user's samples can't be read.
        """
        if self._original is None:
            start = time.perf_counter()
            found = self._prepare()
            self._original = replace(found, seconds=time.perf_counter() - start)

    def check(self, model: ir.Model | Path) -> Verification:
        """Compare one candidate with the original; the first sample that differs ends it.

        Args:
            model: A model in memory (its weights are not copied), or a file as it was written.

        Raises:
            MismatchError, UsageError: As `prepare`, where it has not run yet.
        """
        start = time.perf_counter()
        self.prepare()
        assert self._original is not None
        found = self._compare(self._original, model)
        return replace(found, seconds=time.perf_counter() - start)

    def _prepare(self) -> _Original:
        load, judge, reasons = self._judge()
        stability = Stability(lambda: load(self._path or self._model))
        rounding = Rounding(load, self._model, self._seconds / 4)
        nothing = _Original(load, "", (), 0, stability, rounding, frozenset(), True, tuple(reasons), 0.0)
        if judge is None:
            return nothing
        given, given_reason = self._run_given(judge)
        if self._data is not None and not given:
            raise MismatchError(
                f"the original fails on every given sample: {given_reason}",
                hint="check --data against its inputs",
            )
        sampled = find_samples(self._model, judge.run, seconds=self._seconds / 2, seed=self._seed)
        samples = (*given, *sampled.found)
        if not samples:
            reason = f"no sampled size is legal: {sampled.reason}"
            return replace(nothing, judge=judge.name, skipped=sampled.skipped, notes=(reason,))
        random, notes = self._meaning(judge, samples)
        silent = len(notes) >= len(self._outputs)
        notes = (*notes, *sampled.notes)
        found = replace(nothing, judge=judge.name, samples=samples, skipped=sampled.skipped)
        return replace(found, random=random, silent=silent, notes=notes)

    def _judge(self) -> tuple[_Loader, Judge | None, list[str]]:
        """The first judge that loads the original, and why others don't.

        What onnxruntime loads but rejects is illegal: the reference, which checks less, is not asked then.
        """
        reasons: list[str] = []
        for load in (load_onnxruntime, load_reference):
            try:
                return load, load(self._path or self._model), reasons
            except JudgeError as error:
                reasons.append(str(error))
        return load_onnxruntime, None, reasons

    def _run_given(self, judge: Judge) -> tuple[list[Sample], str]:
        """The user's samples that the original accepts, and why it rejects the last other one."""
        if self._data is None:
            return [], ""
        found: list[Sample] = []
        reason = ""
        end = time.perf_counter() + self._seconds / 2
        for sample in given_samples(self._data, self._inputs):
            if found and time.perf_counter() > end:
                break
            try:
                found.append(Sample(sample.feeds, sample.sizes, tuple(judge.run(sample.feeds))))
            except JudgeError as error:
                reason = f"{sample.source}: {error}"
        return with_scales(found), reason

    def _meaning(self, judge: Judge, samples: Sequence[Sample]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Outputs that differ from run to run, and notes on those that say nothing."""
        smallest = min(samples, key=lambda s: (_is_empty(s.outputs), s.elements))
        again = judge.run(smallest.feeds)
        random, notes = [], []
        for i, name in enumerate(self._outputs):
            if difference(smallest.outputs[i], again[i]) != Difference(0.0):
                random.append(name)
                notes.append(f"output '{name}' is random: only its type and shape are compared")
            elif not varies([s.outputs[i] for s in samples]):
                notes.append(f"output '{name}' is empty, NaN or constant in all samples: not verified")
        return frozenset(random), tuple(notes)

    def _compare(self, original: _Original, candidate: ir.Model | Path) -> Verification:
        base = Verification("unverified", original.judge, skipped=original.skipped, notes=original.notes)
        if not original.samples:
            return base
        self._expect(candidate)
        changed = self._changed_signature(candidate) if isinstance(candidate, ir.Model) else ""
        if changed:
            return replace(base, status="mismatch", mismatches=(Mismatch("", {}, float("inf"), changed),))
        try:
            judge = _load(original.load, candidate)
        except JudgeError as error:
            failed = Mismatch("", {}, float("inf"), f"the result does not load: {error}")
            return replace(base, status="mismatch", mismatches=(failed,))
        crashed = self._crash(original, judge, candidate)
        if crashed is not None:
            return replace(base, status="mismatch", mismatches=(crashed,))
        return self._compare_samples(original, judge, base)

    def _crash(self, original: _Original, judge: Judge, candidate: ir.Model | Path) -> Mismatch | None:
        """Whether the judge crashes on the result at a size of zero.

        Kernels that the original's answers have shown to survive it are not tried again: a fork takes 15 ms.
        """
        zero = [s for s in original.samples if 0 in s.sizes.values()]
        if not zero or (isinstance(candidate, ir.Model) and _operators(candidate) <= self._operators):
            return None
        crash = crash_of(lambda: [judge.run(s.feeds) for s in zero], ZERO_SECONDS)
        if crash is None:
            return None
        return Mismatch("", zero[0].sizes, float("inf"), f"running the result at a size of zero: {crash}")

    def _expect(self, candidate: ir.Model | Path) -> None:
        """Note how a candidate of shorter floats is fed and judged."""
        self._candidate = candidate if isinstance(candidate, ir.Model) else None
        self._tolerances, self._wide_note = self._own_tolerances, QUANTIZED_NOTE
        narrowed = narrowed_tolerances(self._model, self._candidate) if self._candidate is not None else None
        if narrowed is not None:
            name, self._tolerances = narrowed
            self._wide_note = NARROWED_NOTE.format(name, 100 * self._tolerances["float32"].scaled)

    def _changed_signature(self, candidate: ir.Model) -> str:
        inputs = tuple(v.name or "" for v in candidate.graph.inputs)
        outputs = tuple(v.name or "" for v in candidate.graph.outputs)
        if inputs != self._input_names:
            return f"inputs {list(self._input_names)} became {list(inputs)}"
        return "" if outputs == self._outputs else f"outputs {list(self._outputs)} became {list(outputs)}"

    def _compare_samples(self, original: _Original, judge: Judge, base: Verification) -> Verification:
        errors: dict[str, float] = {}
        sizes: list[dict[str, int]] = []
        said: dict[str, None] = dict.fromkeys(original.notes)
        count, status = 0, base.status
        end = time.perf_counter() + self._seconds / 2
        for sample in sorted(original.samples, key=lambda s: s is not self._telltale):
            if count and time.perf_counter() > end:
                said[f"time limit: {count} of {len(original.samples)} samples compared"] = None
                break
            mismatches, notes = self._compare_sample(original, judge, sample, errors)
            said.update(dict.fromkeys(notes))
            count += 1
            if sample.sizes not in sizes:
                sizes.append(sample.sizes)
            if mismatches:
                self._telltale = sample
                base, status = replace(base, mismatches=tuple(mismatches)), "mismatch"
                break
        if status != "mismatch" and errors and not original.silent:
            status = "verified"
        return replace(
            base, status=status, samples=count, sizes=tuple(sizes), errors=errors, notes=tuple(said)
        )

    def _compare_sample(
        self, original: _Original, judge: Judge, sample: Sample, errors: dict[str, float]
    ) -> tuple[list[Mismatch], list[str]]:
        """Mismatches of one sample, and what else there is to say of it."""
        try:
            feeds = sample.feeds if self._candidate is None else fed_to(self._candidate, sample.feeds)
            answers = judge.run(feeds)
        except JudgeError as error:
            refused = _refuses_empty(sample, error)
            if refused is not None:
                return [], [EMPTY_NOTE.format(refused)]
            return [Mismatch("", sample.sizes, float("inf"), f"the result fails: {error}")], []
        found, notes = [], []
        for i, (name, wanted, got) in enumerate(zip(self._outputs, sample.outputs, answers, strict=True)):
            scale = sample.scales[i]
            if self._tolerances is not None:
                got = as_wide_as(wanted, got)
            here = difference(wanted, got, scale=scale)
            if name in original.random:
                here = _type_difference(wanted, got)
            elif here.reason is not None and self._has_scans and _both_have_run_never(wanted, got):
                notes.append(NEVER_RUN_NOTE.format(name))
                continue
            elif here.reason is not None and original.stability.explains(sample, i, here.error):
                notes.append(
                    UNSTABLE_NOTE.format(name, ", ".join(f"{k}={v}" for k, v in sample.sizes.items()))
                )
                continue
            elif here.reason is not None and self._tolerances is not None:
                strict, here = here.reason, difference(wanted, got, self._tolerances, scale)
                is_own = here.reason is None and self._tolerances is self._own_tolerances
                if is_own and not original.rounding.explains(original.samples, i, wanted, got, scale):
                    here = replace(here, reason=BEYOND_ROUNDING.format(strict))
                notes += [self._wide_note] if here.reason is None else []
            errors[name] = max(errors.get(name, 0.0), here.error)
            if here.reason is not None:
                found.append(Mismatch(name, sample.sizes, here.error, here.reason))
        return found, notes


def _refuses_empty(sample: Sample, error: JudgeError) -> str | None:
    """The operator that failed, if it is one that no implementation runs on empty tensors."""
    if 0 not in sample.sizes.values():
        return None
    failed = re.findall(r"while running (\w+) node", str(error))
    return failed[-1] if failed and failed[-1] in REFUSE_EMPTY else None


def _load(load: _Loader, candidate: ir.Model | Path) -> Judge:
    """The result in the original's judge; onnxruntime where only it knows an operator of the result."""
    try:
        return load(candidate)
    except JudgeError:
        if load is load_onnxruntime:
            raise
        return load_onnxruntime(candidate)


def _type_difference(wanted: Answer, got: Answer) -> Difference:
    found = difference(wanted, got)
    same = type(wanted) is type(got) and (
        getattr(wanted, "shape", None),
        getattr(wanted, "dtype", None),
    ) == (getattr(got, "shape", None), getattr(got, "dtype", None))
    return Difference(0.0) if same else found


def _is_empty(outputs: Sequence[Answer]) -> bool:
    """Whether an output has no elements."""
    return any(isinstance(a, np.ndarray) and not a.size for a in outputs)


def _both_have_run_never(wanted: Answer, got: Answer) -> bool:
    """Whether both may be what a body that never ran has stacked: empty, other dims open by the standard."""
    if not (isinstance(wanted, np.ndarray) and isinstance(got, np.ndarray)) or wanted.dtype != got.dtype:
        return False
    return wanted.shape[:1] == (0,) and got.shape[:1] == (0,)


def _operators(model: ir.Model) -> set[tuple[str, str]]:
    """(domain, type) of every node, bodies and functions included."""
    return {(n.domain, n.op_type) for n in nodes_of(model)}
