"""What quantization lost: outputs of the quantized model beside those of the float one, without labels."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.save import save

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["Loss", "decided", "measure"]

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Loss:
    """How far the outputs of two models are apart.

    Attributes:
        samples: How many samples ran through both.
        agreement: Share of the samples whose decoded outputs are all the same: the integer ones, or without
            any the positions of the largest number along the last axis; None: nothing of that kind.
        sqnr: Signal to noise of float outputs in decibels, where shapes are the same; None: nothing to
            compare, infinite: no difference.
        other_shapes: Samples with an output of another shape.
    """

    samples: int
    agreement: float | None
    sqnr: float | None
    other_shapes: int


def measure(
    reference: ir.Model, quantized: ir.Model, samples: Iterable[Mapping[str, Array]], limit: int
) -> Loss:
    """Run both in onnxruntime on at most `limit` samples and compare what they give."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        sessions = [
            _session(model, Path(folder, f"{i}.onnx")) for i, model in enumerate((reference, quantized))
        ]
        count = agreeing = other_shapes = 0
        signal = noise = 0.0
        is_decoded = False
        for feeds in samples:
            if count == limit:
                break
            count += 1
            first, second = (session.run(None, dict(feeds)) for session in sessions)
            same = _same_decisions(first, second)
            is_decoded |= same is not None
            agreeing += bool(same)
            if any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
                other_shapes += 1
                continue
            for a, b in zip(first, second, strict=True):
                if a.dtype.kind == "f":
                    wide = a.astype(np.float64)
                    signal += float((wide**2).sum())
                    noise += float(((wide - b.astype(np.float64)) ** 2).sum())
    sqnr = None
    if signal > 0:
        sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise)
    return Loss(count, agreeing / count if is_decoded and count else None, sqnr, other_shapes)


def _session(model: ir.Model, path: Path) -> ort.InferenceSession:
    import onnxruntime

    save(model, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def decided(outputs: Sequence[Array]) -> list[Array] | None:
    """What outputs decide: the integer ones, else positions of largest numbers; None: nothing."""
    found = [a for a in outputs if a.dtype.kind in "iub"]
    if not found:
        scores = [a for a in outputs if a.dtype.kind == "f" and a.ndim and a.shape[-1] > 1]
        found = [a.argmax(-1) if a.size else np.zeros(a.shape[:-1], np.int64) for a in scores]
    return found or None


def _same_decisions(first: Sequence[Array], second: Sequence[Array]) -> bool | None:
    """Whether decided outputs are the same; None where nothing is decided."""
    a, b = decided(first), decided(second)
    if a is None or b is None:
        return None if a is b else False
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
