"""Random graphs: optimized at -O1 they answer bit for bit as before, at -O2 and above within rounding."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, note, settings

from graphopt import optimize
from graphopt.ir.evaluate.plain import plain_session
from tests.fuzz.graphs import feeds, models
from tests.fuzz.kinds import EXACT, STEADY

# The default suite repeats a few hundred; `make fuzz` searches thousands.
MORE = settings.default.max_examples if settings.default.max_examples > 100 else 150
SIZES = ({"N": 2, "M": 3}, {"N": 1, "M": 1}, {"N": 0, "M": 2}, {"N": 3, "M": 0}, {"N": 4, "M": 4})
SLOW_IS_FINE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

# Fusions re-associate sums of a few dozen float32 terms: a few units in the last place of the largest value.
BOUND = 2e-5


def answers(run: ort.InferenceSession, given: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """The outputs; None where the model refuses the sizes."""
    try:
        return run.run(None, given)
    except Exception:
        return None


def has_attention(model: onnx.ModelProto) -> bool:
    return any(node.op_type in ("Attention", "MultiHeadAttention") for node in model.graph.node)


def optimized(model: onnx.ModelProto, level: int, target: str = "onnx") -> onnx.ModelProto:
    result = optimize(model, level=level, target=target, verify=False)
    faults = [w for w in result.report.warnings if "left out" in w or "failed" in w]
    assert not faults, faults
    return ir.to_proto(result.model)


def check(model: onnx.ModelProto, level: int, target: str = "onnx") -> None:
    note(onnx.printer.to_text(model))
    try:
        before = plain_session(model)
    except Exception:
        return  # onnxruntime has no kernel for it
    changed = optimized(model, level, target)
    note(onnx.printer.to_text(changed))
    after = plain_session(changed)
    for seed, sizes in enumerate(SIZES):
        given = feeds(model, sizes, seed, finite=level > 1 or seed < 2)
        expected = answers(before, given)
        if expected is None:
            continue
        found = answers(after, given)
        if found is None and 0 in sizes.values() and has_attention(changed):
            continue  # no implementation of Attention takes an empty tensor (see docs/architecture.md)
        assert found is not None, f"the result refuses {sizes}"
        for i, (output, a, b) in enumerate(zip(model.graph.output, expected, found, strict=True)):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), (
                f"{output.name} at {sizes}: {a.shape} became {b.shape}"
            )
            if level == 1 or a.dtype != np.float32:
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (
                    f"{output.name} at {sizes}:\n{a}\n{b}"
                )
            else:
                close(f"{output.name} at {sizes}", a, b, before.run(None, nearby(given))[i])


def nearby(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(x * np.float32(1 + 3e-7), np.float32) for name, x in given.items()}


def close(where: str, a: np.ndarray, b: np.ndarray, moved: np.ndarray) -> None:
    assert np.array_equal(np.isnan(a), np.isnan(b)), f"{where}: other NaNs\n{a}\n{b}"
    finite = np.isfinite(a) & np.isfinite(b)
    scale = max(float(np.abs(a[finite]).max(initial=0.0)), 1.0)
    off = float(np.abs(a[finite].astype(np.float64) - b[finite]).max(initial=0.0))
    if off <= BOUND * scale:
        return
    # An answer that a change in the last place of the inputs moves as far is not wrong.
    noise = float(np.nanmax(np.abs(a[finite].astype(np.float64) - moved[finite]), initial=0.0))
    assert off <= 20 * noise, f"{where} differs by {off} where its noise is {noise}:\n{a}\n{b}"


@settings(max_examples=MORE, suppress_health_check=SLOW_IS_FINE)
@given(model=models(EXACT))
def test_exact_rewrites_change_no_bit(model: onnx.ModelProto) -> None:
    check(model, level=1)


@pytest.mark.parametrize("target", ["onnx", "onnxruntime", "graphopt"])
@settings(max_examples=MORE // 3, suppress_health_check=SLOW_IS_FINE)
@given(model=models(STEADY))
def test_fusions_stay_within_rounding(target: str, model: onnx.ModelProto) -> None:
    check(model, level=3, target=target)
