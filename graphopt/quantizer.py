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
from graphopt.quantization.compensating import Compensating
from graphopt.quantization.deciding import Deciding
from graphopt.quantization.finishing import Activations, finished
from graphopt.quantization.first_table import Observing
from graphopt.quantization.loss import Loss, measure
from graphopt.quantization.making import How, Made, States, make_table
from graphopt.quantization.memory import give_back
from graphopt.quantization.refinement import Method as Refinement
from graphopt.quantization.samples import samples_of
from graphopt.quantization.search import Search
from graphopt.quantization.spool import repeatable
from graphopt.quantization.summary import summary_of
from graphopt.reporting.audit import Audit
from graphopt.reporting.quantization import QuantizationReport, WeightBits
from graphopt.rewriting import pipeline as pipelines

__all__ = ["Quantized", "prepare", "quantize", "sha256_of"]

Array = npt.NDArray[np.generic]
Data = Path | str | Iterable[Mapping[str, Array]]
Progress = Callable[[str], None]

# A scale for each output came with 13, blocks of 4 bits with 21.
OPSET, OPSET_OF_BLOCKS = 13, 21
# Loss is measured on so many of the samples.
LOSS_SAMPLES = 64
# The smallest model that decides nearly all of the samples as before.
SEARCHED = Deciding()


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
    per_tensor: bool = False,
    refinement: Refinement = "auto",
    compensating: Compensating | None = None,
    deciding: Deciding | None = SEARCHED,
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
        per_tensor: Whether weights get one scale each, for kernels that know no other.
        refinement: How scales and codes of weights are refined with the samples.
        compensating: What makes up for errors before and after rounding; None: what helps most models.
        deciding: How it is decided what each operator does: as it is, by a search for the smallest model that
            decides 99 % of the samples as before; None: all is quantized that may be.
        verify: Whether what the optimizer makes of the model first is compared with it.
        verify_seconds: Time limit of that.
        progress: Called with a few words whenever a new part begins.
        state: File that calibration leaves its state in and goes on from, and beside which the search leaves
            its results (`.search`); both are removed at the end.
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
    how = How(
        observer,
        per_tensor,
        refinement,
        compensating or Compensating(),
        weights_only,
        deciding,
        activations,
        target,
    )
    text = str(pipelines.default(2, TARGET)) if table is None else table.model.pipeline
    digest = sha256_of(path)
    if table is not None:
        table.check_model(digest)
    needed = table.needed_opset if table is not None else OPSET
    needed = OPSET_OF_BLOCKS if weights_only == "int4" else needed
    prepared, warnings = prepare(path, text, needed, verify, verify_seconds, progress)
    states = States.beside(state, f"{digest} {text} {__version__}") if state is not None else None
    made = Made(table)
    if data is not None:
        data = repeatable(data)
        identity = ModelIdentity(digest, OPSET, text, f"graphopt {__version__}")
        made = make_table(prepared, data, identity, how, tell, states)
    tell("apply")
    result = with_table(prepared, made.table) if made.table else compressed(prepared, weights_only)
    warnings += [*made.warnings, *_left_as_it_was(path, result, made, table is not None)]
    weights = WeightBits.of(prepared, result)
    result = finished(result, target)
    give_back()
    report = _report(path, prepared, result, weights, made, how, data, warnings, tell)
    if states is not None:
        states.remove()
    return Quantized(result, made.table, replace(report, seconds=time.perf_counter() - start), made.search)


def _left_as_it_was(path: Path, result: ir.Model, made: Made, is_given: bool) -> list[str]:
    """A warning where a limit, or a table that was given, left nothing in 8 bits.

    Raises:
        ModelError: There was nothing to quantize.
    """
    if any(n.op_type == "DequantizeLinear" for graph in scopes.nested(result.graph) for n in graph):
        return []
    if made.search is not None:
        return ["the limit leaves nothing in 8 bits"]
    if is_given:
        return ["the quant table leaves nothing in 8 bits"]
    raise ModelError(
        f"{path.name}: nothing in it can be quantized", hint="weights must be constant, of float32 and large"
    )


def _report(
    path: Path,
    prepared: ir.Model,
    result: ir.Model,
    weights: WeightBits,
    made: Made,
    how: How,
    data: Data | None,
    warnings: list[str],
    tell: Progress,
) -> QuantizationReport:
    """What happened, with what the samples say of the result."""
    loss: Loss | None = None
    checked: Audit | None = None
    if data is not None:
        tell("measure")
        loss = measure(prepared, result, samples_of(data, prepared), LOSS_SAMPLES)
        checked = audit(result, how.target, next(iter(samples_of(data, prepared))))
    return QuantizationReport.of(
        path=path,
        mode=how.weights_only or "static",
        before=prepared,
        after=result,
        weights=weights,
        table=made.table,
        loss=loss,
        decision=summary_of(made.search) if made.search is not None else None,
        warnings=tuple(warnings),
        audit=checked,
        compensation=made.compensation,
        refinement=made.refinement,
        seconds=0.0,
    )


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
