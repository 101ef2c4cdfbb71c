"""Contents that inference knows to the last element, as arrays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.fact import Fact, TensorFact

__all__ = ["known_array"]

# Integers up to here are exact in a float32.
EXACT_IN_FLOAT = 1 << 24
INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})


def known_array(fact: Fact) -> np.ndarray | None:
    """The contents of a small tensor; None unless every element is known and exact.

    A dim that varies is not known. Inference counts floats in integers and knows neither rounding nor the
    sign of a zero: only whole numbers but 0 are taken from it.
    """
    if type(fact) is not TensorFact or fact.elements is None or fact.dims is None:
        return None
    elements = [e for e in fact.elements if isinstance(e, int)]
    if fact.dtype is None or len(elements) < len(fact.elements):
        return None
    exact = fact.dtype in FLOATS and all(0 < abs(e) <= EXACT_IN_FLOAT for e in elements)
    if not exact and fact.dtype not in INTEGERS:
        return None
    shape = [d for d in fact.dims if isinstance(d, int)]
    if len(shape) < len(fact.dims):
        return None  # [0, N]: no elements, and still no constant.
    try:
        return np.array(elements, dtype=fact.dtype.numpy()).reshape(shape)
    except OverflowError:
        return None
