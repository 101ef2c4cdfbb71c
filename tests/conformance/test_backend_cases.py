"""ONNX's own backend tests: every case optimized at -O2 still gives what the case expects.

A slice runs in the default suite, all of them by `make conformance`. Cases that onnxruntime can't run as they
stand are passed over.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt import optimize
from graphopt.errors import ModelError
from graphopt.ir.evaluate.plain import plain_session
from tests.conformance.cases import Case, every_case, is_random, read

PARTS = 12

# What graphopt says it does not take.
REFUSED = ("a map", "sparse", "opset", "training")


class NotRunnable(Exception):
    """The case says nothing of graphopt: it is refused, or onnxruntime can't run it as it stands."""


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
        before = plain_session(case.model)
        answers = [before.run(None, feeds) for feeds in case.feeds]
    except Exception as error:
        raise NotRunnable(str(error)) from error
    changed = optimized(case.model)
    assert [v.name for v in changed.graph.output] == [v.name for v in case.model.graph.output]
    after = plain_session(changed)
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
