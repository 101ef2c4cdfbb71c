"""What refinement found, as data and as lines."""

from __future__ import annotations

from graphopt.quantization.refinement import Refinement
from graphopt.reporting.refinement import RefinementReport

STEPS = (
    Refinement("w", 8, "gptq", 1e-4, 1e-5, True),
    Refinement("v", 8, "admm", 1e-4, 2e-4, False),
    Refinement("w", 4, "gptq", 1e-2, 1e-3, True),
)


def test_as_json() -> None:
    found = RefinementReport(STEPS).to_dict()
    assert found.keys() == {"steps"}
    assert found["steps"][1] == {
        "weight": "v",
        "bits": 8,
        "method": "admm",
        "error_before": 0.0001,
        "error_after": 0.0002,
        "kept": False,
    }


def test_lines_count_what_was_kept() -> None:
    eight, four = RefinementReport(STEPS).lines()
    assert eight.endswith("1 of 2 weights of 8 bits (gptq 1): 40.0 -> 42.6 dB at their outputs")
    assert four.endswith("1 of 1 weights of 4 bits (gptq 1): 20.0 -> 30.0 dB at their outputs")
    assert RefinementReport(()).lines() == []
