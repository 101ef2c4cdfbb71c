"""Comparison, logic and choice of single elements of partly known tensors.

None where the answer depends on the values of symbols.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.ir.dims import high, low
from graphopt.ir.fact import Element
from graphopt.ir.partial_values import fraction

__all__ = ["COMPARISONS", "select"]


def select(condition: Element, then: Element, otherwise: Element) -> Element:
    """The element of Where."""
    if condition is None:
        return then if _same(then, otherwise) else None
    return then if condition else otherwise


def _same(a: Element, b: Element) -> bool:
    return a is b or (type(a) is type(b) and a == b)


def equal(a: Element, b: Element) -> bool | None:
    """a == b."""
    if isinstance(a, (str, bool)) or isinstance(b, (str, bool)):
        return a == b if type(a) is type(b) else None
    order = _difference(a, b)
    return None if order is None else _equal_within(*order)


def less(a: Element, b: Element) -> bool | None:
    """a < b."""
    order = _difference(a, b)
    if order is None:
        return None
    least, most = order
    return True if most < 0 else False if least >= 0 else None


def _equal_within(least: float, most: float) -> bool | None:
    if least == most == 0:
        return True
    return False if least > 0 or most < 0 else None


def _difference(a: Element, b: Element) -> tuple[float, float] | None:
    """Bounds of a - b; None where there are none, or where a NaN takes part."""
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) or math.isnan(b):
            return None
        order = (a > b) - (a < b)
        return order, order
    left, right = fraction(a), fraction(b)
    if left is None or right is None:
        return None
    difference = left[0] * right[1] - right[0] * left[1]
    least, most = low(difference), high(difference)
    return (-math.inf if least is None else least, math.inf if most is None else most)


def _not_less(a: Element, b: Element) -> bool | None:
    found = less(a, b)
    return None if found is None else not found


def _bool_function(
    known: Callable[[bool, bool], bool], absorbing: bool | None
) -> Callable[[Element, Element], bool | None]:
    def function(a: Element, b: Element) -> bool | None:
        if absorbing is not None and (a is absorbing or b is absorbing):
            return absorbing
        return known(a, b) if isinstance(a, bool) and isinstance(b, bool) else None

    return function


COMPARISONS: dict[str, Callable[[Element, Element], bool | None]] = {
    "Equal": equal,
    "Less": less,
    "Greater": lambda a, b: less(b, a),
    "LessOrEqual": lambda a, b: _not_less(b, a),
    "GreaterOrEqual": _not_less,
    "And": _bool_function(lambda a, b: a and b, False),
    "Or": _bool_function(lambda a, b: a or b, True),
    "Xor": _bool_function(lambda a, b: a is not b, None),
}
