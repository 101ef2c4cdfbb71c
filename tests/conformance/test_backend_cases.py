"""ONNX's own backend tests: every case optimized at -O2 still gives what the case expects.

A slice runs in the default suite, all of them by `make conformance`. Cases that onnxruntime can't run as they
stand are passed over.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from graphopt import optimize
from graphopt.errors import ModelError

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
PARTS = 12

RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
)

# What graphopt says it does not take.
REFUSED = ("a map", "sparse", "opset", "training")


class NotRunnable(Exception):
    """The case says nothing of graphopt: it is refused, or onnxruntime can't run it as it stands."""


@dataclass(frozen=True)
class Case:
    """A model, and the inputs it is to be run on."""

    name: str
    model: onnx.ModelProto
    feeds: list[dict[str, object]]
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
    if case.model is not None:
        names = [value.name for value in case.model.graph.input]
        feeds = [dict(zip(names, inputs, strict=False)) for inputs, _ in case.data_sets]
        return Case(case.name, case.model, feeds, case.rtol, case.atol)
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    feeds = [
        # Weights that are inputs too have no file: they come last, and keep their defaults.
        {
            v.name: stored(data / f"input_{i}.pb", v.type)
            for i, v in enumerate(model.graph.input)
            if (data / f"input_{i}.pb").exists()
        }
        for data in sorted(folder.glob("test_data_set_*"))
    ]
    return Case(case.name, model, feeds, case.rtol, case.atol)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def stored(path: Path, kind: onnx.TypeProto) -> object:
    """An input or an expected output of a case, as onnxruntime takes it."""
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def assert_agree(name: str, expected: object, found: object, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected), name
        for a, b in zip(expected, found, strict=True):
            assert_agree(name, a, b, rtol, atol)
        return
    if expected is None:
        assert found is None, name
        return
    a, b = np.asarray(expected), np.asarray(found)
    assert a.shape == b.shape, f"{name}: {a.shape} became {b.shape}"
    if a.dtype.kind in "OUS":
        assert [str(x) for x in a.flat] == [str(x) for x in b.flat], name
    elif a.dtype.kind in "fcV":
        np.testing.assert_allclose(b.astype(np.float64), a.astype(np.float64), rtol, atol, err_msg=name)
    else:
        assert (a == b).all(), name


def check(case: Case) -> None:
    """Raises where the case answers otherwise once it is optimized; NotRunnable where nothing can be said."""
    try:
        before = session(case.model)
        answers = [before.run(None, feeds) for feeds in case.feeds]
    except Exception as error:
        raise NotRunnable(str(error)) from error
    changed = optimized(case.model)
    assert [v.name for v in changed.graph.output] == [v.name for v in case.model.graph.output]
    after = session(changed)
    for feeds, expected in zip(case.feeds, answers, strict=True):
        found = after.run(None, feeds)
        for value, a, b in zip(case.model.graph.output, expected, found, strict=True):
            assert_agree(value.name, a, b, case.rtol, case.atol)


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        result = optimize(model, verify=False)
    except ModelError as error:
        if any(word in str(error) for word in REFUSED):
            raise NotRunnable(str(error)) from error
        raise
    faults = [w for w in result.report.warnings if "left out" in w or "failed" in w]
    assert not faults, faults
    return ir.to_proto(result.model)


def is_random(model: onnx.ModelProto) -> bool:
    return any(node.op_type in RANDOM for node in model.graph.node)


def check_part(part: int) -> None:
    ran, wrong = 0, []
    for case in map(read, every_case()[part::PARTS]):
        if is_random(case.model):
            continue
        try:
            check(case)
            ran += 1
        except NotRunnable:
            continue
        except Exception as error:
            wrong.append(f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    assert not wrong, "\n".join(wrong)
    assert ran >= 100  # of some 170


def test_a_slice() -> None:
    check_part(0)


@pytest.mark.conformance
@pytest.mark.parametrize("part", range(1, PARTS))
def test_the_rest(part: int) -> None:
    check_part(part)
