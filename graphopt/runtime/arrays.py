"""numpy arrays of all of ONNX's element types, to and from the engine's form."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = [
    "DTYPES",
    "NAMES",
    "PLAIN",
    "STRING",
    "Array",
    "Result",
    "carried",
    "from_engine",
    "number_of",
    "text_bytes",
    "to_engine",
    "typed",
]

Array: TypeAlias = npt.NDArray[np.generic]
Result: TypeAlias = "Array | list[Result] | None"

STRING = 8

# Numbers of ONNX's TensorProto.DataType.
DTYPES: dict[int, np.dtype[np.generic]] = {
    number: np.dtype(kind)
    for number, kind in {
        1: np.float32,
        2: np.uint8,
        3: np.int8,
        4: np.uint16,
        5: np.int16,
        6: np.int32,
        7: np.int64,
        9: np.bool_,
        10: np.float16,
        11: np.float64,
        12: np.uint32,
        13: np.uint64,
        14: np.complex64,
        15: np.complex128,
        16: ml_dtypes.bfloat16,
        17: ml_dtypes.float8_e4m3fn,
        18: ml_dtypes.float8_e4m3fnuz,
        19: ml_dtypes.float8_e5m2,
        20: ml_dtypes.float8_e5m2fnuz,
        21: ml_dtypes.uint4,
        22: ml_dtypes.int4,
        23: ml_dtypes.float4_e2m1fn,
        24: ml_dtypes.float8_e8m0fnu,
        25: ml_dtypes.uint2,
        26: ml_dtypes.int2,
    }.items()
}
# What a type is called in "tensor(...)".
NAMES: dict[int, str] = {
    1: "float",
    8: "string",
    9: "bool",
    11: "double",
    **{
        number: f"{kind}{bits}"
        for kind, of in (
            ("uint", {2: 8, 4: 16, 12: 32, 13: 64, 21: 4, 25: 2}),
            ("int", {3: 8, 5: 16, 6: 32, 7: 64, 22: 4, 26: 2}),
        )
        for number, bits in of.items()
    },
    10: "float16",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    23: "float4e2m1",
    24: "float8e8m0",
}
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
# Types that numpy itself has.
PLAIN = {*range(1, 8), *range(9, 16)}


def number_of(array: Array) -> int:
    """ONNX's number of an array's element type.

    Raises:
        TypeError: ONNX has no such type.
    """
    if array.dtype.kind in "OUST":
        return STRING
    found = _NUMBERS.get(array.dtype)
    if found is None:
        raise TypeError(f"arrays of {array.dtype} are no ONNX tensors")
    return found


def to_engine(value: object) -> object:
    """An array, a sequence of arrays or None in the form that the engine takes."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [to_engine(item) for item in value]
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    number = number_of(array)
    if number == STRING:
        return ([text_bytes(item) for item in array.reshape(-1).tolist()], list(array.shape), STRING)
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return carried(array, number), number


def from_engine(value: object) -> Result:
    """What the engine gives as arrays, lists of them, and None."""
    if value is None:
        return None
    if isinstance(value, list):
        return [from_engine(item) for item in value]
    assert isinstance(value, tuple), "the engine gives tuples for tensors"
    if len(value) == 3:
        texts = [item.decode("utf-8", "surrogateescape") for item in value[0]]
        return np.array(texts, dtype=object).reshape(value[1])
    array, number = value
    return typed(array, number)


def typed(array: Array, number: int) -> Array:
    """The engine's array with the element type of that number."""
    return array if number in PLAIN else array.view(DTYPES[number])


def carried(array: Array, number: int) -> Array:
    """An array with integers for elements that numpy itself does not know; the same memory."""
    return array if number in PLAIN else array.view(_carrier(number))


@cache
def _carrier(number: int) -> np.dtype[np.generic]:
    """The integers that carry elements which numpy itself does not know."""
    return np.dtype(
        np.uint16 if DTYPES[number].itemsize == 2 else (np.int8 if number in (22, 26) else np.uint8)
    )


def text_bytes(text: object) -> bytes:
    """A text as the engine has it; texts that are no UTF-8 come back as they were."""
    return text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogateescape")
