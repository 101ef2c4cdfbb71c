"""Compare what two models answered.

Shapes, element types, integers, booleans and strings must be equal; the positions of NaN, +inf and -inf too.
Finite floats may differ by `relative * |wanted| + scaled * max|wanted|`, by element type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]
Answer: TypeAlias = "Array | list[Answer] | None"  # a tensor, a sequence, or an empty optional


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An allowed difference: `relative` to the element, `scaled` to the output's largest magnitude."""

    relative: float
    scaled: float


# A fusion re-associates sums, so errors grow with the depth of the model and with cancellation: an element
# near zero carries the error of the large ones it was made from, hence the term of the output's scale. The
# short types get 10 to 20 units in the last place (2^-11 for float16, 2^-8 for bfloat16). A fused kernel of
# float32 that sums in another order over a deep model stays orders below 1e-4; a wrong one rarely does.
TOLERANCES = {
    "float64": Tolerance(1e-6, 1e-7),
    "float32": Tolerance(1e-3, 1e-4),
    "float16": Tolerance(1e-2, 1e-2),
    "bfloat16": Tolerance(4e-2, 4e-2),
    # One step of the format: a value on the edge of two codes may fall either way.
    "float8_e4m3fn": Tolerance(0.125, 0.0),
    "float8_e4m3fnuz": Tolerance(0.125, 0.0),
    "float8_e5m2": Tolerance(0.25, 0.0),
    "float8_e5m2fnuz": Tolerance(0.25, 0.0),
    "float4_e2m1fn": Tolerance(0.5, 0.0),
    "complex64": Tolerance(1e-3, 1e-4),
    "complex128": Tolerance(1e-6, 1e-7),
}
# An output that is zero everywhere has no scale; this keeps its tolerance positive, far below any real value.
SMALLEST_SCALE = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one answer is from the wanted one.

    Attributes:
        error: Largest difference over the output's largest magnitude; for exact types the share of elements
            that differ; inf where the two can't be compared.
        reason: What differs first, or None where the answers are equal within the tolerance.
    """

    error: float
    reason: str | None = None


EQUAL = Difference(0.0)


def difference(
    wanted: Answer, got: Answer, tolerances: dict[str, Tolerance] = TOLERANCES, scale: float = 0.0
) -> Difference:
    """Compare one output of two models.

    Args:
        wanted: What the original gave.
        got: What the other gave.
        tolerances: By name of the element type; types that are not in it must be equal.
        scale: Largest magnitude of this output elsewhere, where this answer happens to be small.
    """
    if isinstance(wanted, np.ndarray) and isinstance(got, np.ndarray):
        return _arrays_differ(wanted, got, tolerances, scale)
    if wanted is None or got is None:
        return EQUAL if wanted is got else Difference(np.inf, "an empty optional on one side only")
    return _sequences(wanted, got, tolerances, scale)


def magnitude(answer: Answer) -> float:
    """The largest finite magnitude of an output of floats; 0 for other types."""
    largest = 0.0
    for array in _arrays([answer]):
        if array.dtype.name in TOLERANCES and not array.dtype.name.startswith("complex"):
            finite = np.abs(array.astype(np.float64))
            finite = finite[np.isfinite(finite)]
            largest = max(largest, float(finite.max()) if finite.size else 0.0)
    return largest


def _arrays_differ(wanted: Array, got: Array, tolerances: dict[str, Tolerance], scale: float) -> Difference:
    if wanted.dtype != got.dtype:
        return Difference(np.inf, f"{wanted.dtype} became {got.dtype}")
    if wanted.shape != got.shape:
        return Difference(np.inf, f"shape {list(wanted.shape)} became {list(got.shape)}")
    tolerance = tolerances.get(wanted.dtype.name)
    if tolerance is None:
        return _exact(wanted, got)
    if wanted.dtype.name.startswith("complex"):
        parts = (difference(_part(wanted, p), _part(got, p), tolerances, scale) for p in ("real", "imag"))
        return max(parts, key=lambda d: (d.reason is not None, d.error))
    return _floats(wanted, got, tolerance, scale)


def varies(answers: Sequence[Answer]) -> bool:
    """Whether these answers of one output, over all samples, hold two different finite values.

    An output that is empty, all NaN or constant looks the same whatever is wrong before it.
    """
    seen: object = None
    for array in _arrays(answers):
        flat = array.reshape(-1)
        if array.dtype.name in TOLERANCES and not array.dtype.name.startswith("complex"):
            flat = flat.astype(np.float64)
            flat = flat[np.isfinite(flat)]
        if not flat.size:
            continue
        if seen is None:
            seen = flat[0]
        if bool((flat != seen).any()):
            return True
    return False


def _arrays(answers: Sequence[Answer]) -> list[Array]:
    found: list[Array] = []
    for answer in answers:
        if isinstance(answer, list):
            found += _arrays(answer)
        elif answer is not None:
            found.append(answer)
    return found


def _sequences(wanted: Answer, got: Answer, tolerances: dict[str, Tolerance], scale: float) -> Difference:
    if not isinstance(wanted, list) or not isinstance(got, list):
        return Difference(np.inf, "a sequence on one side only")
    if len(wanted) != len(got):
        return Difference(np.inf, f"a sequence of {len(wanted)} became one of {len(got)}")
    worst = EQUAL
    for i, (a, b) in enumerate(zip(wanted, got, strict=True)):
        found = difference(a, b, tolerances, scale)
        if found.reason is not None:
            return Difference(found.error, f"element {i}: {found.reason}")
        worst = max(worst, found, key=lambda d: d.error)
    return worst


def _part(array: Array, name: str) -> Array:
    part: Array = getattr(array, name)
    return part


def _exact(wanted: Array, got: Array) -> Difference:
    differs = wanted != got
    if not np.any(differs):
        return EQUAL
    return Difference(float(np.mean(differs)), _at(wanted, got, differs))


def _floats(wanted: Array, got: Array, tolerance: Tolerance, scale: float) -> Difference:
    if not wanted.size:
        return EQUAL
    x, y = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    # NaN equals NaN, +inf equals +inf, and nothing else.
    odd = ~finite & ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if odd.any():
        return Difference(np.inf, _at(wanted, got, odd))
    x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)
    distance = np.abs(x - y)
    scale = max(scale, float(np.abs(x).max()), SMALLEST_SCALE)
    error = float(distance.max()) / scale
    beyond = distance > tolerance.relative * np.abs(x) + tolerance.scaled * scale
    if not beyond.any():
        return Difference(error)
    worst = np.zeros_like(beyond)
    worst.reshape(-1)[int(np.where(beyond, distance, -1.0).argmax())] = True
    return Difference(error, _at(wanted, got, worst))


def _at(wanted: Array, got: Array, where: npt.NDArray[np.bool_]) -> str:
    """Such as "at [0, 3]: 0.5 became 0.75", the first place of `where`."""
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))
    return f"at {list(index)}: {_show(wanted[index])} became {_show(got[index])}"


def _show(element: object) -> str:
    if isinstance(element, (str, bytes, bool, np.bool_, int, np.integer)):
        return str(element)
    return f"{float(element):.6g}" if isinstance(element, (float, np.floating)) else str(element)
