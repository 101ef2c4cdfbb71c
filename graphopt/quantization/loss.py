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

__all__ = ["Answers", "Loss", "agreeing", "answers_of", "measure"]

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Loss:
    """How far the outputs of two models are apart.

    Attributes:
        samples: How many samples ran through both.
        agreement: Share of the samples whose integer outputs are all the same; without any, the share of
            rows whose largest number is at the same place; None: nothing of that kind.
        sqnr: Signal to noise of float outputs in decibels, where shapes are the same; None: nothing to
            compare, infinite: no difference.
        other_shapes: Samples with an output of another shape.
    """

    samples: int
    agreement: float | None
    sqnr: float | None
    other_shapes: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What outputs decide.

    Attributes:
        arrays: Integer outputs, or positions of largest numbers along the last axis.
        is_whole: Whether they are one answer (a text), not one for each row.
    """

    arrays: list[Array]
    is_whole: bool


def measure(
    reference: ir.Model, quantized: ir.Model, samples: Iterable[Mapping[str, Array]], limit: int
) -> Loss:
    """Run both in onnxruntime on at most `limit` samples and compare what they give."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        sessions = [
            _session(model, Path(folder, f"{i}.onnx")) for i, model in enumerate((reference, quantized))
        ]
        count = alike = asked = other_shapes = 0
        signal = noise = 0.0
        for feeds in samples:
            if count == limit:
                break
            count += 1
            first, second = (session.run(None, dict(feeds)) for session in sessions)
            same, of = agreeing(answers_of(first), answers_of(second))
            alike, asked = alike + same, asked + of
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
    return Loss(count, alike / asked if asked else None, sqnr, other_shapes)


def _session(model: ir.Model, path: Path) -> ort.InferenceSession:
    import onnxruntime

    save(model, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers_of(outputs: Sequence[Array]) -> Answers | None:
    """What outputs decide; None: nothing."""
    found = [a for a in outputs if a.dtype.kind in "iub"]
    if found:
        return Answers(found, True)
    scores = [a for a in outputs if a.dtype.kind == "f" and a.ndim and a.shape[-1] > 1]
    found = [a.argmax(-1) if a.size else np.zeros(a.shape[:-1], np.int64) for a in scores]
    return Answers(found, False) if found else None


def agreeing(first: Answers | None, second: Answers | None) -> tuple[int, int]:
    """How many decisions of one sample are alike, and how many there are: one, or one for each row."""
    if first is None or second is None:
        return 0, 0
    pairs = list(zip(first.arrays, second.arrays, strict=True))
    if first.is_whole:
        return int(all(np.array_equal(a, b) for a, b in pairs)), 1
    alike = sum(int((a == b).sum()) if a.shape == b.shape else 0 for a, b in pairs)
    return alike, sum(max(a.size, b.size) for a, b in pairs)
