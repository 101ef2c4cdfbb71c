"""The contents of inputs, by their roles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphopt.verification.compare import Answer, Array
from graphopt.verification.roles import Role
from graphopt.verification.signature import Input, Sizes

Spread = Literal["normal", "unit", "wide"]
"""How floats lie: around zero, from 0 to 1, or around zero and ten times as wide."""

COUNTS = (3, 1, 7, 0, 2)
"""Small numbers for trip counts and sizes; zero trips among them."""

_WORDS = ("", "a", "Tensor", "über", "two words", "0")
_PLAIN_HIGH = 10  # integers of unknown meaning: small enough for most tables, large enough to differ
_SPECIAL_SHARE = 0.1  # of the elements that take a value the graph looks for
_SEQUENCE_LENGTH = 2


def sample_value(
    input_: Input,
    role: Role,
    sizes: Sizes,
    ordinal: int,
    rng: np.random.Generator,
    spread: Spread = "normal",
) -> Answer:
    """One value for an input.

    Single numbers and choices take turns by `ordinal`, the number of the sample.
    """
    if input_.container == "optional" and ordinal % 3 == 2:
        return None
    if input_.container == "sequence":
        return [_tensor(input_, role, sizes, ordinal, rng, spread) for _ in range(_SEQUENCE_LENGTH)]
    return _tensor(input_, role, sizes, ordinal, rng, spread)


def _tensor(
    input_: Input, role: Role, sizes: Sizes, ordinal: int, rng: np.random.Generator, spread: Spread
) -> Array:
    shape, dtype = input_.shape(sizes), input_.dtype
    if dtype == ir.DataType.STRING:
        words = np.array([*role.choices, *_WORDS], dtype=object)
        return np.array(words[rng.integers(0, len(words), shape)], dtype=object)
    if dtype == ir.DataType.BOOL:
        return _mask(shape, ordinal) if shape and role.kind == "mask" else _bits(shape, ordinal, rng)
    if role.kind == "mask":
        return _mask(shape, ordinal).astype(dtype.numpy())
    if dtype.is_integer():
        return _integers(role, shape, sizes, ordinal, rng, dtype)
    return _floats(role, shape, ordinal, rng, dtype, spread)


def _bits(shape: Sequence[int], ordinal: int, rng: np.random.Generator) -> Array:
    if not shape:
        return np.array(ordinal % 2 == 0)
    return rng.random(shape) < 0.5


def _mask(shape: Sequence[int], ordinal: int) -> Array:
    """Ones, then zeros, along the last axis: all ones in the first row, fewer in the others, never none.

    A single row is full in every second sample.
    """
    if not math.prod(shape):
        return np.zeros(shape, np.bool_)
    width = shape[-1]
    rows = math.prod(shape) // width
    place = np.arange(rows) + (ordinal % 2 if rows == 1 else 0)
    kept = np.where(place == 0, width, np.maximum(1, width - 1 - place * 3 % max(width - 1, 1)))
    return (np.arange(width)[None, :] < kept[:, None]).reshape(shape)


def _integers(
    role: Role, shape: Sequence[int], sizes: Sizes, ordinal: int, rng: np.random.Generator, dtype: ir.DataType
) -> Array:
    lowest, highest = _limits(dtype)
    shortest = min((s for s in sizes.values() if s), default=1)
    if role.kind == "index":
        high = shortest - 1 if role.high is None else role.high
        found = rng.integers(role.low, max(high, role.low) + 1, shape)
        return _sprinkle(found, [c for c in role.choices if role.low <= float(c) <= high], rng, dtype)
    if role.kind == "length":
        found = rng.integers(1, shortest + 1, shape)
    elif role.kind == "count":
        found = np.full(shape, COUNTS[ordinal % len(COUNTS)])
    elif role.kind == "choice":
        # Constants in turn; after them something that is none of them.
        numbers = [float(c) for c in role.choices]
        numbers.append(max(numbers, default=0.0) + 1)
        if shape:
            return _sprinkle(rng.integers(0, _PLAIN_HIGH, shape), numbers, rng, dtype)
        found = np.array(numbers[ordinal % len(numbers)])
    elif dtype.bitwidth <= 8:
        found = rng.integers(lowest, highest + 1, shape)  # quantized numbers or pixels: all of them
    else:
        found = rng.integers(0, _PLAIN_HIGH, shape)
    return np.asarray(np.clip(found, lowest, highest)).astype(dtype.numpy())


def _sprinkle(
    found: Array, specials: Sequence[float | str], rng: np.random.Generator, dtype: ir.DataType
) -> Array:
    """Put values that the graph looks for at some places, never at the first."""
    flat = found.astype(dtype.numpy()).reshape(-1)
    if specials and flat.size > 1:
        places = rng.random(flat.size) < _SPECIAL_SHARE
        places[0] = False
        flat[places] = rng.choice(np.array(specials), int(places.sum())).astype(dtype.numpy())
    return flat.reshape(found.shape)


def _floats(
    role: Role,
    shape: Sequence[int],
    ordinal: int,
    rng: np.random.Generator,
    dtype: ir.DataType,
    spread: Spread,
) -> Array:
    if not shape and role.choices:
        # On, below and above the threshold in turn.
        number = float(role.choices[ordinal // 3 % len(role.choices)])
        return np.array(number + (0.0, 1.0, -1.0)[ordinal % 3]).astype(dtype.numpy())
    found = rng.random(shape) if spread == "unit" else rng.standard_normal(shape)
    if spread == "wide":
        found = found * 10
    if role.positive:
        found = np.abs(found) + 0.1
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        found = found + 1j * rng.standard_normal(shape)
    with np.errstate(all="ignore"):
        return np.asarray(found).astype(dtype.numpy())


def _limits(dtype: ir.DataType) -> tuple[int, int]:
    """Lowest and highest number of an integer type, as numpy can draw them."""
    unsigned = dtype.name.startswith("U")
    bits = min(dtype.bitwidth, 63)
    return (0, 2**bits - 1 if bits < 63 else 2**62) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
