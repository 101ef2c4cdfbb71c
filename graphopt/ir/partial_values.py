"""Arithmetic on single elements of partly known tensors.

An element of an integer tensor is a Dim, of a bool tensor a bool, of a float tensor a float, or
what came out of integers by exact steps: a Dim or a `Ratio`. Every function gives None where the
result can't be told exactly. Integers are taken not to overflow, and an integer that passes
through float32 to be below 2^24 (float16 and bfloat16 carry no symbols: 2^11 and 2^8 are dims
that occur).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import (
    Dim,
    Expr,
    exact_quotient,
    floordiv,
    high,
    low,
    maximum,
    minimum,
    mod,
)
from graphopt.ir.fact import Element, Ratio

__all__ = [
    "BINARY",
    "FLOATS",
    "INTEGERS",
    "UNARY",
    "as_dim",
    "cast",
    "fraction",
]

DataType = ir.DataType

FLOATS = frozenset(dtype for dtype in DataType if dtype.is_floating_point())
INTEGERS = frozenset(dtype for dtype in DataType if dtype.is_integer())

# Denominators up to which a float is followed as a ratio; 0.1 (13421773 / 2^27) is not.
MAX_DENOMINATOR = 4096

BinaryFunction: TypeAlias = "Callable[[Element, Element, DataType], Element]"
UnaryFunction: TypeAlias = "Callable[[Element, DataType], Element]"


def as_dim(element: Element) -> Dim | None:
    """The element where it is an integer (number or expression); else None."""
    if type(element) is int or type(element) is Expr:
        return element
    if type(element) is float and element.is_integer():
        return int(element)
    return None


def cast(element: Element, source: DataType | None, target: DataType) -> Element:
    """Cast of one element; float to integer cuts the fraction off."""
    if element is None or source is None or isinstance(element, str):
        return None
    if target is DataType.BOOL:
        return _truth(element)
    if target in INTEGERS:
        whole = _truncated(int(element) if isinstance(element, bool) else element)
        return whole if whole is None or _fits(whole, target) else None
    if isinstance(element, bool):
        element = int(element)
    if isinstance(element, (Expr, Ratio)):
        return element if target in (DataType.FLOAT, DataType.DOUBLE) else None
    return _rounded(float(element), target) if target in FLOATS else None


def _truth(element: Element) -> bool | None:
    if isinstance(element, (bool, int, float)):
        return bool(element)
    if isinstance(element, Expr):
        return True if (low(element) or 0) >= 1 or (high(element) or 0) <= -1 else None
    return None


def _truncated(element: Element) -> Dim | None:
    if isinstance(element, float):
        return int(element) if math.isfinite(element) else None
    if isinstance(element, Ratio):
        return _divided_towards_zero(element.numerator, element.denominator)
    return element if isinstance(element, (int, Expr)) else None


def _divided_towards_zero(a: Dim, k: int) -> Dim:
    """Integer division as ONNX's Div has it, k >= 1: -7 / 2 is -3, which FLOORDIV is not."""
    if (least := low(a)) is not None and least >= 0:
        return floordiv(a, k)
    if (most := high(a)) is not None and most <= 0:
        return -floordiv(-a, k)
    return floordiv(maximum(a, 0), k) - floordiv(maximum(-a, 0), k)


def _fits(whole: Dim, dtype: DataType) -> bool:
    """Whether a number is in the dtype's range, and an expression not known to leave it."""
    if type(whole) is Expr:
        return dtype.bitwidth >= 32 and (
            dtype.is_signed() or ((bound := low(whole)) is not None and bound >= 0)
        )
    bits = dtype.bitwidth
    least, most = (-(1 << (bits - 1)), 1 << (bits - 1)) if dtype.is_signed() else (0, 1 << bits)
    return least <= whole < most  # type: ignore[operator]


def _rounded(number: float, dtype: DataType) -> float | None:
    """The number as the dtype keeps it; None for types whose rounding we do not follow."""
    if dtype is DataType.DOUBLE:
        return number
    if dtype is DataType.FLOAT:
        with np.errstate(over="ignore"):
            return float(np.float32(number))
    if number.is_integer() and abs(number) <= 16:
        return number  # exact in every floating-point type in use
    return None


def fraction(element: Element) -> tuple[Dim, int] | None:
    """Numerator and denominator (a power of two if it comes from a float)."""
    if isinstance(element, Ratio):
        return element.numerator, element.denominator
    if isinstance(element, float):
        if not math.isfinite(element):
            return None
        numerator, denominator = element.as_integer_ratio()
        return (numerator, denominator) if denominator <= MAX_DENOMINATOR else None
    if isinstance(element, bool) or not isinstance(element, (int, Expr)):
        return None
    return element, 1


def _ratio(numerator: Dim, denominator: int) -> Element:
    """The float that stands for numerator / denominator."""
    whole = exact_quotient(numerator, denominator)
    if whole is not None:
        return float(whole) if type(whole) is int else whole
    if type(numerator) is int:
        return None  # rounding is the caller's, who has both numbers
    return Ratio(numerator, denominator)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _number(element: Element) -> bool:
    return type(element) is float or type(element) is int


def add(a: Element, b: Element, dtype: DataType) -> Element:
    """a + b. With a third of an integer in it only floor and ceil are exact, and those are all we take."""
    if dtype in FLOATS:
        if _number(a) and _number(b):
            return _rounded(float(a) + float(b), dtype)  # type: ignore[arg-type]
        left, right = fraction(a), fraction(b)
        if left is None or right is None:
            return None
        return _ratio(left[0] * right[1] + right[0] * left[1], left[1] * right[1])
    x, y = as_dim(a), as_dim(b)
    return None if x is None or y is None else x + y


def subtract(a: Element, b: Element, dtype: DataType) -> Element:
    """a - b."""
    negative = negate(b, dtype)
    return None if negative is None else add(a, negative, dtype)


def multiply(a: Element, b: Element, dtype: DataType) -> Element:
    """a * b. A third times three is three thirds only by luck of rounding: None."""
    if dtype in FLOATS:
        if _number(a) and _number(b):
            return _rounded(float(a) * float(b), dtype)  # type: ignore[arg-type]
        left, right = fraction(a), fraction(b)
        if left is None or right is None or not _is_power_of_two(left[1] * right[1]):
            return None
        return _ratio(left[0] * right[0], left[1] * right[1])
    x, y = as_dim(a), as_dim(b)
    if x is None or y is None:
        return 0 if 0 in (x, y) else None
    return x * y


def divide(a: Element, b: Element, dtype: DataType) -> Element:
    """a / b; of integers towards zero."""
    if dtype in FLOATS:
        return _divide_floats(a, b, dtype)
    x, y = as_dim(a), as_dim(b)
    if x is None or y is None or y == 0:
        return None
    if type(y) is int:
        return _divided_towards_zero(x, y) if y > 0 else _divided_towards_zero(-x, -y)
    if (least := low(x)) is not None and least >= 0 and (least := low(y)) is not None and least >= 0:
        return floordiv(x, y)
    # Towards zero and down are one where nothing is left over.
    return exact_quotient(x, y) if (low(y) or 0) >= 1 else None


def _divide_floats(a: Element, b: Element, dtype: DataType) -> Element:
    if _number(a) and _number(b):
        return _rounded(float(a) / float(b), dtype) if b else None  # type: ignore[arg-type]
    left, right = fraction(a), fraction(b)
    if left is None or right is None or right[0] == 0:
        return None
    numerator, divisor = left[0] * right[1], right[0]
    if type(divisor) is Expr:
        known = left[1] == 1 and right[1] == 1 and (low(divisor) or 0) >= 1
        return exact_quotient(numerator, divisor) if known else None
    if divisor < 0:  # type: ignore[operator]
        numerator, divisor = -numerator, -divisor
    # One rounding at most may stand between an integer and floor: no ratio of ratios but by 2^n.
    if not (_is_power_of_two(divisor) or (left[1] == 1 and right[1] == 1)):  # type: ignore[arg-type]
        return None
    return _ratio(numerator, left[1] * divisor)  # type: ignore[arg-type]


def modulo(a: Element, b: Element, dtype: DataType) -> Element:
    """Mod without fmod: the sign is the divisor's."""
    x, y = as_dim(a), as_dim(b)
    if x is None or y is None or y == 0 or dtype in FLOATS:
        return None
    return mod(x, y)


def smaller(a: Element, b: Element, dtype: DataType) -> Element:
    """Min of two."""
    return _extreme(a, b, dtype, min, minimum)


def larger(a: Element, b: Element, dtype: DataType) -> Element:
    """Max of two."""
    return _extreme(a, b, dtype, max, maximum)


def _extreme(
    a: Element,
    b: Element,
    dtype: DataType,
    of_numbers: Callable[[float, float], float],
    of_dims: Callable[[Dim, Dim], Dim],
) -> Element:
    if _number(a) and _number(b):
        return None if math.isnan(a) or math.isnan(b) else of_numbers(a, b)  # type: ignore[arg-type]
    x, y = as_dim(a), as_dim(b)
    if x is None or y is None:
        return None
    result = of_dims(x, y)
    return float(result) if dtype in FLOATS and type(result) is int else result


def power(a: Element, b: Element, dtype: DataType) -> Element:
    """a ** b for small whole exponents, where it is repeated multiplication."""
    exponent = as_dim(b)
    if type(exponent) is not int or not 0 <= exponent <= 4:
        return None
    result: Element = 1.0 if dtype in FLOATS else 1
    for _ in range(exponent):
        result = multiply(result, a, dtype)
    return result


def negate(a: Element, _: DataType) -> Element:
    """-a."""
    if isinstance(a, Ratio):
        return Ratio(-a.numerator, a.denominator)
    return -a if isinstance(a, (float, int, Expr)) and not isinstance(a, bool) else None


def absolute(a: Element, _: DataType) -> Element:
    """|a|."""
    if isinstance(a, Expr):
        return maximum(a, -a)
    return abs(a) if _number(a) else None  # type: ignore[arg-type]


def sign(a: Element, dtype: DataType) -> Element:
    """-1, 0 or 1."""
    if _number(a):
        result = (a > 0) - (a < 0)  # type: ignore[operator]
    elif isinstance(a, Expr) and (low(a) or 0) >= 1:
        result = 1
    else:
        return None
    return float(result) if dtype in FLOATS else result


def floor(a: Element, _: DataType) -> Element:
    """The next integer below. Exact for x / k: it misses an integer by 1 / k or more, rounding errs less."""
    if isinstance(a, Ratio):
        return floordiv(a.numerator, a.denominator)
    if isinstance(a, float):
        return float(math.floor(a)) if math.isfinite(a) else a
    return a if isinstance(a, Expr) else None


def ceil(a: Element, dtype: DataType) -> Element:
    """The next integer above."""
    negative = floor(negate(a, dtype), dtype)
    return negate(negative, dtype)


def rounded(a: Element, _: DataType) -> Element:
    """Round: halves to even."""
    if isinstance(a, float):
        return float(round(a)) if math.isfinite(a) else a
    return a if isinstance(a, Expr) else None


def square_root(a: Element, dtype: DataType) -> Element:
    """Sqrt of numbers; rounding once more after float64's is rounding once for float32."""
    return _rounded(math.sqrt(a), dtype) if isinstance(a, float) and a >= 0 else None


def reciprocal(a: Element, dtype: DataType) -> Element:
    """1 / a."""
    return divide(1.0, a, dtype)


def unchanged(a: Element, dtype: DataType) -> Element:
    """a itself, of an operator that only rectifies: max(a, 0)."""
    return larger(a, 0.0 if dtype in FLOATS else 0, dtype)


def negation(a: Element, _: DataType) -> Element:
    """Not."""
    return None if a is None else not a


BINARY: dict[str, BinaryFunction] = {
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Mod": modulo,
    "Min": smaller,
    "Max": larger,
    "Pow": power,
}

UNARY: dict[str, UnaryFunction] = {
    "Abs": absolute,
    "Ceil": ceil,
    "Floor": floor,
    "Neg": negate,
    "Not": negation,
    "Reciprocal": reciprocal,
    "Relu": unchanged,
    "Round": rounded,
    "Sign": sign,
    "Sqrt": square_root,
}
