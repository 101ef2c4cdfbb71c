"""Two products with constant matrices, one after the other, as one.

    before   MatMul(x, a[K,M]) -> Add(c) -> MatMul(b[M,N]) -> Add(d)
    after    MatMul(x, a @ b) -> Add(c @ b + d)

Only where that multiplies less: K * N < K * M + M * N. A narrow middle (a low rank) stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, any_of, constant, op, rule
from graphopt.rewriting.weights import LAZY_BYTES, parameter

NOT_CONSTANT = "a factor is no constant matrix, or others need it too"
COSTS_MORE = "the product of the constants would multiply more than the two do"
OTHER_BIAS = "what is added between is no constant vector"


@rule
def product_of_product(x, a, b, bias):
    """MatMul(MatMul(x, a), b) -> MatMul(x, a @ b)."""
    inner = op.MatMul(x, a).named("inner")
    return op.MatMul(any_of(inner, op.Add(inner, bias).named("biased")), b)


@product_of_product.when
def costs_less(m: Match) -> Rejection | None:
    first, second = parameter(m["a"]), parameter(m["b"])
    if first is None or second is None or first.dtype not in FLOATS or first.dtype != second.dtype:
        return Rejection(NOT_CONSTANT, m["a"])
    left, right = constants.shape_of(first), constants.shape_of(second)
    rank = m.rank(m["inner"])
    if len(left) != 2 or len(right) != 2 or rank is None or rank < 2:
        return Rejection(NOT_CONSTANT, m["b"])
    (rows, middle), columns = left, right[1]
    if rows * columns >= rows * middle + middle * columns or 0 in (rows, middle, columns):
        return Rejection(COSTS_MORE, m["inner"])
    if "biased" in m:
        bias = m.tensor("bias")
        shape = () if bias is None else constants.shape_of(bias)
        if (
            bias is None
            or len(shape) > rank
            or not (bias.size == 1 or (middle,) == (bias.size,) == shape[-1:])
        ):
            return Rejection(OTHER_BIAS, m["bias"])
    return None


@product_of_product.rewrite
def one_product(m: Match) -> ir.Value:
    first, second = m.tensor("a"), m.tensor("b")
    assert first is not None and second is not None
    rows, middle = constants.shape_of(first)
    dims = (rows, constants.shape_of(second)[1])

    def multiplied(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype)

    product = lazy.mapped((first, second), multiplied, first.dtype, dims)
    small = max(first.nbytes, second.nbytes, product.nbytes) <= LAZY_BYTES
    result = op.MatMul(m["x"], constant(product.numpy() if small else product))
    if "biased" not in m:
        return result
    vector = np.broadcast_to(np.asarray(m.array("bias")).reshape(-1), (middle,)).astype(np.float64)
    added = vector @ np.asarray(second.numpy()).astype(np.float64)
    return op.Add(result, added.astype(first.dtype.numpy()))


@dataclass(frozen=True)
class MergeConsecutiveProducts(Pass):
    """Merge consecutive products with constant matrices where that multiplies less."""

    name = "merge-consecutive-products"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the products: the constants are multiplied first"
    rules = (product_of_product,)
