"""ONNX's own backend tests on the engine: every case gives what it is to give, and none takes the process down.

A slice runs in the default suite, all of them by `make conformance`, which also says how many cases ran without
the reference implementation. Cases run in children of this process, so that a crash is one case's failure.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx.backend.test.case.test_case import TestCase

from graphopt.runtime.backend import prepare
from tests.conformance.cases import Case, every_case, read

PARTS = 8
SECONDS = 60

# What differs, and why.
KNOWN = {
    **dict.fromkeys(
        [f"test_bernoulli{kind}{form}" for kind in ("", "_double", "_seed") for form in ("", "_expanded")],
        "random numbers",
    ),
    "test_gradient_of_add": "there is no implementation of training operators",
    "test_gradient_of_add_and_mul": "there is no implementation of training operators",
}


def run(case: Case) -> int:
    """Check a case; how many kinds of operators the reference implementation ran."""
    prepared = prepare(case.model, optimize=False)
    for feeds, expected in zip(case.feeds, case.expected, strict=True):
        # Weights that are inputs too keep their defaults.
        found = prepared.session.run(None, feeds)
        assert len(found) == len(expected)
        for wanted, given in zip(expected, found, strict=True):
            assert_agree(wanted, given, case.rtol, case.atol)
    return len(prepared.session.fallbacks)


def assert_agree(wanted: object, given: object, rtol: float, atol: float) -> None:
    """As onnx's own runner compares; that has no way to compare scalars in sequences."""
    if isinstance(wanted, list):
        assert isinstance(given, list)
        assert len(wanted) == len(given)
        for a, b in zip(wanted, given, strict=True):
            assert_agree(a, b, rtol, atol)
    elif wanted is None:
        assert given is None
    else:
        a, b = np.asarray(wanted), np.asarray(given)
        assert a.shape == b.shape
        if a.dtype.kind in "OUS":
            np.testing.assert_array_equal(b, a)
            return
        assert a.dtype == b.dtype
        if a.dtype.kind == "V" or a.dtype.name == "bfloat16":
            rtol = max(rtol, 2**-6) if a.dtype.name == "bfloat16" else rtol
            a, b = a.astype(np.float32), b.astype(np.float32)
        np.testing.assert_allclose(b, a, rtol=rtol, atol=atol)


def in_children(cases: Sequence[TestCase], check: Callable[[Case], int]) -> dict[str, str | int]:
    """What became of each case: a number where it passed, else why it did not."""
    found: dict[str, str | int] = {}
    left = list(cases)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        while left:
            log.unlink(missing_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
                child = os.fork()
            if child == 0:
                _child(left, check, log)
            _, status = os.waitpid(child, 0)
            entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            results = [entry for entry in entries if len(entry) == 2]
            found.update((name, result) for name, result in results)
            left = left[len(results) :]
            if status != 0 and left:
                found[left.pop(0).name] = f"took the process down: signal {os.WTERMSIG(status)}"
            assert status != 0 or not left
    return found


def _child(cases: Sequence[TestCase], check: Callable[[Case], int], log: Path) -> None:
    """Runs cases and writes what became of them; does not return."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a case that hangs is ended
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    with log.open("w", buffering=1) as file:
        for case in cases:
            signal.alarm(SECONDS)
            result: str | int
            try:
                result = check(read(case))
            except BaseException as error:
                result = " ".join(f"{type(error).__name__}: {error}".split())[:400]
                if os.environ.get("GRAPHOPT_TRACEBACKS"):
                    traceback.print_exc()
            file.write(json.dumps([case.name, result]) + "\n")
    os._exit(0)


def check_part(part: int, record: Callable[[str, object], None]) -> None:
    results = in_children(every_case()[part::PARTS], run)
    passed = [result for result in results.values() if isinstance(result, int)]
    native = sum(result == 0 for result in passed)
    record("conformance", [len(results), len(passed), native])
    wrong = {n: r for n, r in results.items() if not isinstance(r, int) and n not in KNOWN}
    assert not wrong, "\n".join(f"{name}: {reason}" for name, reason in sorted(wrong.items()))
    assert native >= 1500 // PARTS
    late = [name for name in KNOWN if isinstance(results.get(name), int) and KNOWN[name] != "random numbers"]
    assert not late, f"these pass by now: {late}"


def test_a_slice(record_property: Callable[[str, object], None]) -> None:
    check_part(0, record_property)


@pytest.mark.conformance
@pytest.mark.parametrize("part", range(1, PARTS))
def test_the_rest(part: int, record_property: Callable[[str, object], None]) -> None:
    check_part(part, record_property)
