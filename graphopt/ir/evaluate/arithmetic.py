"""Arithmetic whose every bit is defined: integers, bools, and IEEE 754's basic operations.

Half precision and bfloat16 are computed in float32 and rounded once more, which gives the correctly rounded
result: 24 bits are at least twice 11 plus 2. That is how runtimes compute them as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import ml_dtypes
import numpy as np

from graphopt.ir.evaluate.call import Array, Call, Compute

Binary = Callable[[Array, Array], Array]
Unary = Callable[[Array], Array]
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype == _BFLOAT16


def _is_number(array: Array) -> bool:
    return array.dtype.kind in "iu" or _is_float(array)


def _pair(call: Call) -> tuple[Array, Array] | None:
    """Both operands, if of one type and broadcast as numpy does; before opset 7 only equal shapes do."""
    left, right = call.array(0), call.array(1)
    if left.dtype != right.dtype or (call.version < 7 and left.shape != right.shape):
        return None
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise call.refusal(f"{list(left.shape)} and {list(right.shape)} do not broadcast") from None
    return left, right


def _numbers(function: Binary, call: Call) -> list[Array] | None:
    pair = _pair(call)
    if pair is None or not _is_number(pair[0]):
        return None
    return [np.asarray(function(*pair), pair[0].dtype)]


def _division(call: Call) -> list[Array] | None:
    """Integers are cut towards zero; what would trap at run time is refused."""
    pair = _pair(call)
    if pair is None or not _is_number(pair[0]):
        return None
    left, right = pair
    if _is_float(left):
        return [np.asarray(np.divide(left, right), left.dtype)]
    _refuse_traps(call, left, right)
    quotient = np.floor_divide(left, right)
    exact = np.equal(np.multiply(quotient, right), left)
    round_up = ~exact & (np.less(left, 0) != np.less(right, 0))
    return [np.asarray(np.add(quotient, round_up.astype(left.dtype)), left.dtype)]


def _remainder(call: Call) -> list[Array] | None:
    """Of integers alone: with the divisor's sign, or the dividend's under `fmod`."""
    pair = _pair(call)
    if pair is None or pair[0].dtype.kind not in "iu":
        return None
    _refuse_traps(call, *pair)
    function = np.fmod if call.int_attr("fmod", 0) else np.mod
    return [np.asarray(function(*pair), pair[0].dtype)]


def _refuse_traps(call: Call, left: Array, right: Array) -> None:
    if not right.all() and np.broadcast_shapes(left.shape, right.shape).count(0) == 0:
        raise call.refusal("an integer is divided by zero")
    least = -(2 ** (8 * left.dtype.itemsize - 1))
    if left.dtype.kind == "i" and bool((np.equal(left, least) & np.equal(right, -1)).any()):
        raise call.refusal("the smallest integer is divided by -1")


def _comparison(function: Binary, call: Call) -> list[Array] | None:
    pair = _pair(call)
    if pair is None or not (_is_number(pair[0]) or pair[0].dtype.kind == "b"):
        return None
    return [np.asarray(function(*pair), np.bool_)]


def _logic(function: Binary, call: Call) -> list[Array] | None:
    pair = _pair(call)
    return [np.asarray(function(*pair), np.bool_)] if pair is not None and pair[0].dtype.kind == "b" else None


def _bits(function: Binary, call: Call) -> list[Array] | None:
    pair = _pair(call)
    return [np.asarray(function(*pair), pair[0].dtype)] if pair and pair[0].dtype.kind in "iu" else None


def _extreme(function: Binary, call: Call) -> list[Array] | None:
    """NaN wins, in numpy as in onnxruntime; which of 0.0 and -0.0 does is left to the latter."""
    operands = [call.array(index) for index in range(len(call.arrays))]
    if not _is_number(operands[0]) or len({array.dtype for array in operands}) > 1 or call.version < 8:
        return None
    if _is_float(operands[0]):
        signs = {bool(sign) for array in operands for sign in np.unique(np.signbit(array[array == 0]))}
        if len(signs) > 1:
            return None
    try:
        return [np.asarray(reduce(function, operands), operands[0].dtype)]
    except ValueError:
        raise call.refusal("the shapes do not broadcast") from None


def _one(function: Unary, accepts: Callable[[Array], bool], call: Call) -> list[Array] | None:
    array = call.array(0)
    return [np.asarray(function(array), array.dtype)] if accepts(array) else None


def _reciprocal(array: Array) -> Array:
    return np.divide(np.ones((), array.dtype), array)


def _is_bool(array: Array) -> bool:
    return array.dtype.kind == "b"


def _is_integer(array: Array) -> bool:
    return array.dtype.kind in "iu"


def _is_nan(call: Call) -> list[Array] | None:
    array = call.array(0)
    return [np.asarray(np.isnan(array), np.bool_)] if _is_float(array) else None


OPERATORS: dict[str, Compute] = {
    "Add": partial(_numbers, np.add),
    "Sub": partial(_numbers, np.subtract),
    "Mul": partial(_numbers, np.multiply),
    "Div": _division,
    "Mod": _remainder,
    "Max": partial(_extreme, np.maximum),
    "Min": partial(_extreme, np.minimum),
    "Equal": partial(_comparison, np.equal),
    "Less": partial(_comparison, np.less),
    "Greater": partial(_comparison, np.greater),
    "LessOrEqual": partial(_comparison, np.less_equal),
    "GreaterOrEqual": partial(_comparison, np.greater_equal),
    "And": partial(_logic, np.logical_and),
    "Or": partial(_logic, np.logical_or),
    "Xor": partial(_logic, np.logical_xor),
    "BitwiseAnd": partial(_bits, np.bitwise_and),
    "BitwiseOr": partial(_bits, np.bitwise_or),
    "BitwiseXor": partial(_bits, np.bitwise_xor),
    "BitwiseNot": partial(_one, np.bitwise_not, _is_integer),
    "Not": partial(_one, np.logical_not, _is_bool),
    "Neg": partial(_one, np.negative, _is_number),
    "Abs": partial(_one, np.abs, _is_number),
    "Sqrt": partial(_one, np.sqrt, _is_float),
    "Reciprocal": partial(_one, _reciprocal, _is_float),
    "Floor": partial(_one, np.floor, _is_float),
    "Ceil": partial(_one, np.ceil, _is_float),
    "Round": partial(_one, np.rint, _is_float),
    "IsNaN": _is_nan,
}
