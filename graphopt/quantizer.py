"""quantize(): optimize -> calibrate -> plan -> search -> apply -> measure -> report.

The stages are functions of `graphopt.quantization`, each usable alone; this is the one place that knows their
order. With data a quant table is made and applied; without, a table is applied that was made, and perhaps
edited, before; or weights alone are stored as integers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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
from graphopt.quantization.checkpoint import Checkpoint
from graphopt.quantization.deciding import Deciding, decide
from graphopt.quantization.finishing import Activations, finished, with_activations, with_short_scales
from graphopt.quantization.first_table import first_table
from graphopt.quantization.loss import Loss, measure
from graphopt.quantization.observers import Method
from graphopt.quantization.samples import samples_of
from graphopt.quantization.search import Search
from graphopt.quantization.spool import repeatable
from graphopt.reporting.quantization import QuantizationReport, WeightBits
from graphopt.rewriting import pipeline as pipelines

__all__ = ["Quantized", "quantize"]

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
    observer: Method = "mse",
    deciding: Deciding | None = None,
    verify: bool = True,
    verify_seconds: float = 10.0,
    progress: Progress | None = None,
    state: str | Path | None = None,
    target: str = TARGET,
    activations: Activations = "u8",
) -> Quantized:
    """Quantize a float model; just one of `data`, `table` and `weights_only` is given.

    Args:
        model: An .onnx file.
        data: Samples to calibrate on: an .npz file, a folder of .npz or .npy files, or feeds; what can be
            gone over only once is kept on disk meanwhile.
        table: A quant table of this model.
        weights_only: Store weights in so many bits, compute floats.
        observer: How ranges are chosen from what samples made of values.
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
    if sum(x is not None for x in (data, table, weights_only)) != 1:
        raise UsageError("quantize takes samples, or a quant table, or weights alone: one of them")
    start = time.perf_counter()
    tell = progress or (lambda _: None)
    path = Path(model)
    text = str(pipelines.default(2, TARGET)) if table is None or not table.model.pipeline else ""
    text = text or (table.model.pipeline if table is not None else "")
    digest = _sha256(path)
    if table is not None:
        table.check_model(digest)
    optimized = optimize(
        path, target=TARGET, passes=text, verify=verify, verify_seconds=verify_seconds, progress=progress
    )
    prepared = optimized.model
    warnings = list(optimized.report.warnings)
    needed = table.needed_opset if table is not None else OPSET
    raise_opset(prepared, OPSET_OF_BLOCKS if weights_only == "int4" else needed)
    name_nodes(prepared)
    checkpoint = Checkpoint(state, f"{digest} {text} {__version__}") if state is not None else None
    loss: Loss | None = None
    found: Search | None = None
    if data is not None:
        data = repeatable(data)
        tell("calibrate")
        identity = ModelIdentity(digest, OPSET, text, f"graphopt {__version__}")
        first = first_table(prepared, data, identity, observer, tell=tell, checkpoint=checkpoint)
        table = with_activations(first.table, activations)
        warnings += first.warnings
        if deciding is not None and table.operators:
            found = decide(
                prepared,
                table,
                samples_of(data, prepared),
                deciding,
                statistics=first.statistics,
                tell=tell,
            )
            table = found.table
        table = with_short_scales(table) if target == "graphopt" else table
    tell("apply")
    result = with_table(prepared, table) if table is not None else compressed(prepared, weights_only)
    if not any(node.op_type == "DequantizeLinear" for graph in scopes.nested(result.graph) for node in graph):
        raise ModelError(
            f"{path.name}: nothing in it can be quantized",
            hint="weights must be constant, of float32 and large",
        )
    weights = WeightBits.of(prepared, result)
    result = finished(result, target)
    if data is not None:
        tell("measure")
        loss = measure(prepared, result, samples_of(data, prepared), LOSS_SAMPLES)
    report = QuantizationReport.of(
        path=path,
        mode=weights_only or "static",
        before=prepared,
        after=result,
        weights=weights,
        table=table,
        loss=loss,
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
    )
    if checkpoint is not None:
        checkpoint.remove()
    return Quantized(result, table, report, found)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror or error}") from error
