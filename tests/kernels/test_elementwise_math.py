"""Accuracy of the vector functions, in units of the last place of float32, over floats of all sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from graphopt.lowering.elementwise_program import Op
from tests.kernels.elementwise_programs import single

# kernels/simd/math.h states these.
BOUNDS: dict[Op, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    Op.EXP: (1.0, np.exp),
    Op.LOG: (1.0, np.log),
    Op.ERF: (1.5, np.vectorize(math.erf, otypes=[np.float64])),
    Op.TANH: (2.0, np.tanh),
    Op.SIGMOID: (2.5, lambda x: np.exp(-np.logaddexp(0, -x))),
    Op.SOFTPLUS: (2.5, lambda x: np.logaddexp(0, x)),
    Op.SIN: (1.0, np.sin),
    Op.COS: (1.0, np.cos),
    Op.SQRT: (0.5, np.sqrt),
}


def every_size(step: int) -> np.ndarray:
    """Finite floats evenly over all bit patterns."""
    bits = np.arange(0, 1 << 32, step, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    return values[np.isfinite(values)]


@pytest.mark.parametrize("op", BOUNDS, ids=lambda op: op.name)
def test_error_in_units_of_the_last_place(op: Op) -> None:
    bound, function = BOUNDS[op]
    near = np.random.default_rng(1).normal(0, 3, 50_000).astype(np.float32)
    x = np.concatenate([every_size(65_521), near])
    with np.errstate(all="ignore"):
        wanted = function(x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    got = single(op, x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    np.testing.assert_array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])
    finite = np.isfinite(rounded) & np.isfinite(got)
    unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    error = np.abs(got[finite].astype(np.float64) - wanted[finite]) / unit
    assert error.max() <= bound + 0.01, f"{error.max()} at {x[finite][error.argmax()]}"
    assert np.count_nonzero(np.isinf(got) != np.isinf(rounded)) == 0


@pytest.mark.parametrize("op", [Op.GELU, Op.GELU_TANH], ids=lambda op: op.name)
def test_gelu(op: Op) -> None:
    x = np.linspace(-12, 12, 200_001).astype(np.float32)
    wide = x.astype(np.float64)
    inner = wide / np.sqrt(2) if op is Op.GELU else np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    bent = np.vectorize(math.erf, otypes=[np.float64])(inner) if op is Op.GELU else np.tanh(inner)
    error = np.abs(single(op, x) - 0.5 * wide * (1 + bent))
    assert (error <= 2e-7 * np.abs(wide)).all()


def test_tails_are_exact() -> None:
    x = np.array([-1e30, -100, -30, 30, 100, 1e30], np.float32)
    np.testing.assert_array_equal(single(Op.GELU, x), [0, 0, 0, 30, 100, np.float32(1e30)])
    np.testing.assert_array_equal(single(Op.TANH, x), [-1, -1, -1, 1, 1, 1])
    np.testing.assert_array_equal(single(Op.ERF, x), [-1, -1, -1, 1, 1, 1])
    np.testing.assert_array_equal(single(Op.SOFTPLUS, x[4:]), x[4:])
