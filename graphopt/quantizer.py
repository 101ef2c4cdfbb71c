"""quantize(): optimize -> calibrate -> plan -> search -> apply -> measure -> report.

The stages are functions of `graphopt.quantization`, each usable alone; this is the one place that knows their
order. With data a quant table is made and applied; without, a table is applied that was made, and perhaps
edited, before; or weights alone are stored as integers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt import __version__
from graphopt.compiler import optimize
from graphopt.errors import ModelError, UsageError
from graphopt.ir import scopes
from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.applying import TARGET, compressed, raise_opset, with_table
from graphopt.quantization.audit import already_quantized, audit
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.compensating import Compensated, Compensating, corrected, report_of, rescaled
from graphopt.quantization.deciding import Deciding, decide
from graphopt.quantization.finishing import Activations, finished, with_activations, with_short_scales
from graphopt.quantization.first_table import Observing, first_table
from graphopt.quantization.loss import Loss, measure
from graphopt.quantization.refinement import Method as Refinement
from graphopt.quantization.refinement import Refinement as RefinementNote
from graphopt.quantization.refinement import refine
from graphopt.quantization.samples import samples_of
from graphopt.quantization.search import Search
from graphopt.quantization.spool import repeatable
from graphopt.quantization.summary import summary_of
from graphopt.quantization.weights_alone import weights_alone
from graphopt.reporting.audit import Audit
from graphopt.reporting.compensation import CompensationReport
from graphopt.reporting.quantization import QuantizationReport, WeightBits
from graphopt.reporting.refinement import RefinementReport
from graphopt.rewriting import pipeline as pipelines

__all__ = ["Quantized", "prepare", "quantize", "sha256_of"]

Array = npt.NDArray[np.generic]
Data = Path | str | Iterable[Mapping[str, Array]]
Progress = Callable[[str], None]

# A scale for each output came with 13, blocks of 4 bits with 21.
OPSET, OPSET_OF_BLOCKS = 13, 21
# Loss is measured on so many of the samples.
LOSS_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Quantized:
    """What `quantize` gives.

    Attributes:
        model: The quantized model.
        table: What was applied; None where weights alone were stored.
        report: What happened; bytes on disk are known once it is saved.
        search: All points that were measured; None: nothing was decided.
    """

    model: ir.Model
    table: QuantTable | None
    report: QuantizationReport
    search: Search | None = None


def quantize(
    model: str | Path,
    *,
    data: Data | None = None,
    table: QuantTable | None = None,
    weights_only: Literal["int8", "int4"] | None = None,
    observer: Observing = "auto",
    refinement: Refinement = "auto",
    compensating: Compensating | None = None,
    deciding: Deciding | None = None,
    verify: bool = True,
    verify_seconds: float = 10.0,
    progress: Progress | None = None,
    state: str | Path | None = None,
    target: str = TARGET,
    activations: Activations = "u8",
) -> Quantized:
    """Quantize a float model; one of `data`, `table` and `weights_only` is given, or data for weights alone.

    Args:
        model: An .onnx file.
        data: Samples to calibrate on: an .npz file, a folder of .npz or .npy files, or feeds; what can be
            gone over only once is kept on disk meanwhile.
        table: A quant table of this model.
        weights_only: Store weights in so many bits, compute floats.
        observer: How ranges are chosen from what samples made of values.
        refinement: How scales and codes of weights are refined with the samples.
        compensating: What makes up for errors before and after rounding; None: what helps most models.
        deciding: How it is decided what each operator does; None: all is quantized that may be.
        verify: Whether what the optimizer makes of the model first is compared with it.
        verify_seconds: Time limit of that.
        progress: Called with a few words whenever a new part begins.
        state: File that calibration leaves its state in and goes on from; it is removed at the end.
        target: Who runs the result: "onnx", "onnxruntime" or "graphopt".
        activations: "u8" with a zero point, or "s8" around zero; a given table says it itself.

    Raises:
        UsageError: The arguments, the samples or the table are wrong.
        ModelError: The input can't be taken.
        MismatchError: As `optimize`.
    """
    if (table is not None) == (data is not None or weights_only is not None):
        raise UsageError("quantize takes samples, weights alone with or without them, or a quant table")
    start = time.perf_counter()
    tell = progress or (lambda _: None)
    path = Path(model)
    text = str(pipelines.default(2, TARGET)) if table is None else table.model.pipeline
    digest = sha256_of(path)
    if table is not None:
        table.check_model(digest)
    needed = table.needed_opset if table is not None else OPSET
    needed = OPSET_OF_BLOCKS if weights_only == "int4" else needed
    prepared, warnings = prepare(path, text, needed, verify, verify_seconds, progress)
    checkpoint = Checkpoint(state, f"{digest} {text} {__version__}") if state is not None else None
    loss: Loss | None = None
    checked: Audit | None = None
    found: Search | None = None
    compensation: CompensationReport | None = None
    refining: RefinementReport | None = None
    if data is not None:
        data = repeatable(data)
        tell("calibrate")
        identity = ModelIdentity(digest, OPSET, text, f"graphopt {__version__}")
        first = first_table(prepared, data, identity, observer, tell=tell, checkpoint=checkpoint)
        warnings += first.warnings
        chosen = (compensating or Compensating()) if weights_only is None else None
        before = rescaled(prepared, first, data, observer, chosen, tell)
        table, found, tried = _decided(
            before, data, refinement, weights_only, deciding, activations, target, tell
        )
        table, biases = corrected(before.model, table, data, chosen, tell)
        table = replace(table, scalings=before.scalings)
        compensation = report_of(before, biases)
        refining = RefinementReport(tried) if tried else None
    tell("apply")
    result = with_table(prepared, table) if table is not None else compressed(prepared, weights_only)
    is_done = any(n.op_type == "DequantizeLinear" for graph in scopes.nested(result.graph) for n in graph)
    if not is_done and found is not None:
        warnings.append("the limit leaves nothing in 8 bits")
    elif not is_done:
        raise ModelError(
            f"{path.name}: nothing in it can be quantized",
            hint="weights must be constant, of float32 and large",
        )
    weights = WeightBits.of(prepared, result)
    result = finished(result, target)
    if data is not None:
        tell("measure")
        loss = measure(prepared, result, samples_of(data, prepared), LOSS_SAMPLES)
        checked = audit(result, target, next(iter(samples_of(data, prepared))))
    report = QuantizationReport.of(
        path=path,
        mode=weights_only or "static",
        before=prepared,
        after=result,
        weights=weights,
        table=table,
        loss=loss,
        decision=summary_of(found) if found is not None else None,
        warnings=tuple(warnings),
        audit=checked,
        compensation=compensation,
        refinement=refining,
        seconds=time.perf_counter() - start,
    )
    if checkpoint is not None:
        checkpoint.remove()
    return Quantized(result, table, report, found)


def _decided(
    before: Compensated,
    data: Data,
    refinement: Refinement,
    weights_only: Literal["int8", "int4"] | None,
    deciding: Deciding | None,
    activations: Activations,
    target: str,
    tell: Progress,
) -> tuple[QuantTable, Search | None, tuple[RefinementNote, ...]]:
    """The table of a rescaled model, what was measured to decide on it, and what was refined."""
    model, first = before.model, before.first
    found: Search | None = None
    table = with_activations(first.table, activations)
    bits = 8 if weights_only == "int8" or deciding is None else deciding.bits
    bits = 4 if weights_only == "int4" else bits
    refined = refine(model, table, first.statistics, refinement, bits=bits, tell=tell)
    table = refined.table
    if weights_only is not None:
        table = weights_alone(model, table, refined.blocks)
    elif deciding is not None and table.operators:
        search = decide(
            model,
            table,
            samples_of(data, model),
            deciding,
            statistics=first.statistics,
            blocks=refined.blocks,
            target=target,
            tell=tell,
        )
        # Tables of other points are of the file, too, not of the rescaled model.
        found = replace(search, tables=lambda i: replace(search.tables(i), scalings=before.scalings))
        table = found.table
    return with_short_scales(table) if target == "graphopt" else table, found, refined.notes


def prepare(
    path: Path,
    pipeline: str,
    opset: int = OPSET,
    verify: bool = False,
    verify_seconds: float = 10.0,
    progress: Progress | None = None,
) -> tuple[ir.Model, list[str]]:
    """The float model that names in a quant table are of, and what there is to warn of.

    Args:
        path: An .onnx file.
        pipeline: What runs on it, as text; "" for nothing.
        opset: The model's is raised to it.
        verify: Whether the result is compared with the file.
        verify_seconds: Time limit of that.
        progress: Called with a few words whenever a new part begins.
    """
    optimized = optimize(
        path, target=TARGET, passes=pipeline, verify=verify, verify_seconds=verify_seconds, progress=progress
    )
    raise_opset(optimized.model, opset)
    name_nodes(optimized.model)
    return optimized.model, [*optimized.report.warnings, *already_quantized(optimized.model)]


def sha256_of(path: Path) -> str:
    """Hash of a model's file.

    Raises:
        ModelError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from error
