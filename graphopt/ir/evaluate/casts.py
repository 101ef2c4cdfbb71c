"""Cast, CastLike and BitCast, where ONNX and onnxruntime leave no doubt about a bit.

Left to a runtime: floats outside of an integer type's range (undefined in C++), and conversions that
runtimes round twice (float64 and wide integers to types narrower than float32).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from graphopt.ir.evaluate.call import Array, Call, Compute

_FLOAT8 = {
    np.dtype(kind)
    for kind in (
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
    )
}
_BFLOAT16, _FLOAT4 = np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float4_e2m1fn)
# Every value of these is a float32.
_WITHIN_FLOAT32 = {np.dtype(np.float16), np.dtype(np.float32), _BFLOAT16, _FLOAT4, *_FLOAT8}
_FLOATS = {*_WITHIN_FLOAT32, np.dtype(np.float64)}
_NARROW_INTEGERS = {np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)}
# Integers up to here are exact in a float32.
_EXACT_IN_FLOAT32 = 2**24


def _limits(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """The least and the greatest integer of a dtype."""
    found = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(found.min), int(found.max)


def cast(array: Array, target: np.dtype[np.generic], saturate: bool = True) -> Array | None:
    """`array` as `target`; None where only a runtime can say.

    Args:
        array: Numbers or bools.
        target: A dtype of numpy or ml_dtypes.
        saturate: Whether what is too large for a float8 becomes its largest number.
    """
    source = array.dtype
    if source == target:
        return array
    if source.kind == "b":
        return array.astype(np.uint8).astype(target)
    if target.kind == "b":
        return np.asarray(array.astype(np.float32) != 0 if source in _WITHIN_FLOAT32 else array != 0)
    if source in _FLOATS:
        return _from_float(array, target, saturate)
    if source in _NARROW_INTEGERS:
        array = array.astype(np.int8)
    return _from_integer(array, target, saturate) if array.dtype.kind in "iu" else None


def _from_integer(array: Array, target: np.dtype[np.generic], saturate: bool) -> Array | None:
    if target.kind in "iu":
        return array.astype(target)
    if target in _NARROW_INTEGERS:
        least, most = _limits(target)
        inside = not array.size or (int(array.min()) >= least and int(array.max()) <= most)
        return array.astype(target) if inside else None
    if target in (np.float32, np.float64):
        return array.astype(target)
    inside = not array.size or max(-int(array.min()), int(array.max())) <= _EXACT_IN_FLOAT32
    return _from_float(array.astype(np.float32), target, saturate) if inside else None


def _from_float(array: Array, target: np.dtype[np.generic], saturate: bool) -> Array | None:
    if target.kind in "iu" or target in _NARROW_INTEGERS:
        wide = np.trunc(array.astype(np.float64))
        least, most = _limits(target)
        if not bool(((wide >= least) & (wide < most + 1.0)).all()):
            return None
        return wide.astype(np.int8).astype(target) if target in _NARROW_INTEGERS else wide.astype(target)
    if target == np.float64 or (target == np.float32 and array.dtype == np.float64):
        return array.astype(target)
    if array.dtype not in _WITHIN_FLOAT32 or target not in _WITHIN_FLOAT32 or target == _FLOAT4:
        return None
    wide = array.astype(np.float32)
    if target in _FLOAT8:
        largest = np.float32(ml_dtypes.finfo(target).max)  # type: ignore[no-untyped-call]
        if saturate:
            wide = np.clip(wide, -largest, largest)
        elif bool((np.isfinite(wide) & (np.abs(wide) > largest)).any()):
            # onnxruntime rounds a little more than the largest number otherwise than ml_dtypes.
            return None
    return wide.astype(target)


def _cast(call: Call) -> list[Array] | None:
    code = call.attr("to", None)
    if not isinstance(code, int):
        # Cast-1 spells the type as text.
        return None
    return _cast_to(call, ir.DataType(code))


def _cast_like(call: Call) -> list[Array] | None:
    return _cast_to(call, ir.DataType.from_numpy(call.array(1).dtype))


def _cast_to(call: Call, dtype: ir.DataType) -> list[Array] | None:
    if dtype is ir.DataType.STRING:
        raise call.refusal("strings are not evaluated")
    if call.attr("round_mode", "up") != "up":
        return None
    found = cast(call.array(0), dtype.numpy(), bool(call.int_attr("saturate", 1)))
    return None if found is None else [found]


def _bit_cast(call: Call) -> list[Array] | None:
    array, dtype = call.array(0), ir.DataType(call.int_attr("to", 0)).numpy()
    same = array.dtype.itemsize == dtype.itemsize and not {array.dtype, dtype} & _NARROW_INTEGERS
    return [np.ascontiguousarray(array).view(dtype).reshape(array.shape)] if same else None


OPERATORS: dict[str, Compute] = {"Cast": _cast, "CastLike": _cast_like, "BitCast": _bit_cast}
