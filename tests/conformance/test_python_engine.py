"""ONNX's own backend tests where graphopt was installed without its native engine: the same programs, in Python.

A slice runs in the default suite, all of them by `make conformance`.
"""

from __future__ import annotations

import pytest

from graphopt.runtime.backend import prepare
from tests.conformance.cases import Case, every_case
from tests.conformance.test_engine import KNOWN as OF_BOTH
from tests.conformance.test_engine import assert_agree, in_children

PARTS = 8

# What differs, and why.
KNOWN = {
    **OF_BOTH,
    "test_if_opt": "the reference implementation puts the sequence of an optional into a list",
    "test_scan_sum": "the reference implementation has no Scan of opset 8",
    "test_scatter_with_axis": "the reference implementation has no Scatter",
    "test_scatter_without_axis": "the reference implementation has no Scatter",
}


def run(case: Case) -> int:
    """Check a case."""
    prepared = prepare(case.model, engine="python")
    for feeds, expected in zip(case.feeds, case.expected, strict=True):
        found = prepared.session.run(None, feeds)
        assert len(found) == len(expected)
        for wanted, given in zip(expected, found, strict=True):
            assert_agree(wanted, given, case.rtol, case.atol)
    return 0


def check_part(part: int) -> None:
    results = in_children(every_case()[part::PARTS], run)
    wrong = {n: r for n, r in results.items() if not isinstance(r, int) and n not in KNOWN}
    assert not wrong, "\n".join(f"{name}: {reason}" for name, reason in sorted(wrong.items()))
    assert len(results) >= 2000 // PARTS


def test_a_slice() -> None:
    check_part(3)


@pytest.mark.conformance
@pytest.mark.parametrize("part", [p for p in range(PARTS) if p != 3])
def test_the_rest(part: int) -> None:
    check_part(part)
