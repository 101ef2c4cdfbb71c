"""ONNX's own backend tests, as models with inputs and expected outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

__all__ = ["RANDOM", "Case", "every_case", "is_random", "read"]

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
)


@dataclass(frozen=True)
class Case:
    """A model, the inputs it is to be run on, and what it is to give.

    Attributes:
        expected: One list of outputs for each of the feeds.
    """

    name: str
    model: onnx.ModelProto
    feeds: list[dict[str, object]]
    expected: list[list[object]]
    rtol: float
    atol: float


@cache
def every_case() -> list[TestCase]:
    """All cases by name. Building them takes seconds, so that it is not done while tests are collected."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    return sorted(found, key=lambda case: case.name)


def read(case: TestCase) -> Case:
    """A case with all its data; that of most lies in files."""
    if case.model is not None:
        names = [value.name for value in case.model.graph.input]
        feeds = [dict(zip(names, map(_array, inputs), strict=False)) for inputs, _ in case.data_sets]
        expected = [[_array(value) for value in outputs] for _, outputs in case.data_sets]
        return Case(case.name, case.model, feeds, expected, case.rtol, case.atol)
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = sorted(folder.glob("test_data_set_*"))
    feeds = [
        # Weights that are inputs too have no file: they come last, and keep their defaults.
        {
            v.name: _stored(data / f"input_{i}.pb", v.type)
            for i, v in enumerate(model.graph.input)
            if (data / f"input_{i}.pb").exists()
        }
        for data in sets
    ]
    expected = [
        [_stored(data / f"output_{i}.pb", v.type) for i, v in enumerate(model.graph.output)] for data in sets
    ]
    return Case(case.name, model, feeds, expected, case.rtol, case.atol)


def is_random(model: onnx.ModelProto) -> bool:
    """Whether a model draws random numbers, which no two implementations draw alike."""
    return any(node.op_type in RANDOM for node in model.graph.node)


def _array(value: object) -> object:
    """Types that numpy does not have are given as tensors of protobuf."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _stored(path: Path, kind: onnx.TypeProto) -> object:
    """An input or an expected output of a case."""
    data = path.read_bytes()
    readers: dict[str, Callable[[bytes], object]] = {
        "sequence_type": lambda b: numpy_helper.to_list(onnx.SequenceProto.FromString(b)),
        "optional_type": lambda b: numpy_helper.to_optional(onnx.OptionalProto.FromString(b)),
    }
    for field, reader in readers.items():
        if kind.HasField(field):
            return reader(data)
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))
