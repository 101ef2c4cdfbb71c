"""Casts give onnxruntime's bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.evaluate import evaluate
from tests.ir.evaluate.judging import SPECIAL, agrees, node_of

NUMBERS = [
    "BOOL",
    "INT8",
    "UINT8",
    "INT16",
    "UINT16",
    "INT32",
    "UINT32",
    "INT64",
    "UINT64",
    "FLOAT16",
    "FLOAT",
    "DOUBLE",
]
NARROW = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"]


def values_of(dtype):
    """A few numbers of a type, its limits among them."""
    if dtype == np.bool_:
        return np.array([True, False])
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([limits.min, limits.max, 0, 1, 7, 100, limits.max // 3], dtype)
    with np.errstate(all="ignore"):
        return np.array(
            [*SPECIAL, 100.0, 1e30, 2049.0, 1 + 2**-11, 464.0, 460.0, 480.0, 57344.0, 61440.0, 240.0]
        ).astype(dtype)


@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", NUMBERS)
def test_numbers(source, target):
    values = values_of(ir.DataType[source].numpy())
    agrees("Cast", values, direct=None, to=int(ir.DataType[target]))


@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", NUMBERS)
def test_moderate_numbers_are_cast_directly(source, target):
    values = np.array([0, 1, 2, 3, 100]).astype(ir.DataType[source].numpy())
    twice = source == "DOUBLE" and target == "FLOAT16"
    agrees("Cast", values, direct=not twice, to=int(ir.DataType[target]))


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("target", NARROW)
@pytest.mark.parametrize("source", [np.float32, np.float16])
def test_saturation(source, target, saturate):
    direct = True if saturate else None
    agrees("Cast", values_of(source), direct=direct, to=int(ir.DataType[target]), saturate=saturate)


@settings(max_examples=200, deadline=None)
@given(
    target=st.sampled_from([*NARROW, "FLOAT16"]),
    saturate=st.integers(0, 1),
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50),
)
def test_rounding_of_any_float32(target, saturate, bits):
    values = np.array(bits, np.uint32).view(np.float32)
    attributes = {} if target == "FLOAT16" else {"saturate": saturate}
    direct = None if not saturate else True
    agrees("Cast", values, direct=direct, to=int(ir.DataType[target]), **attributes)


@pytest.mark.parametrize("source", NARROW)
def test_all_float8_become_float32(source):
    values = np.arange(256, dtype=np.uint8).view(ir.DataType[source].numpy())
    agrees("Cast", values, to=int(ir.DataType.FLOAT))


@settings(max_examples=100, deadline=None)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_rounding_to_bfloat16_and_back(bits):
    values = np.array(bits, np.uint32).view(np.float32)
    agrees("Cast", values, to=int(ir.DataType.BFLOAT16))
    agrees("Cast", values.astype(ml_dtypes.bfloat16), to=int(ir.DataType.FLOAT))


@pytest.mark.parametrize(("target", "least", "most"), [("INT4", -8, 7), ("UINT4", 0, 15)])
def test_four_bits(target, least, most):
    values = np.arange(least, most + 1)
    for source in (np.float32, np.int8, np.int32):
        inside = values.astype(source)
        agrees("Cast", inside, to=int(ir.DataType[target]))
        agrees(
            "Cast", inside.astype(ir.DataType[target].numpy()), to=int(ir.DataType.from_numpy(inside.dtype))
        )


def test_what_overflows_is_left_to_onnxruntime():
    agrees(
        "Cast", np.array([300.0, np.nan, -1.0, np.inf], np.float32), direct=False, to=int(ir.DataType.UINT8)
    )
    agrees("Cast", np.array([2**40 + 1], np.int64), direct=False, to=int(ir.DataType.FLOAT16))


def test_cast_like_and_bit_cast():
    agrees("CastLike", np.array([1.7, -1.7], np.float32), np.zeros(1, np.int64))
    bits = evaluate(
        node_of("BitCast", 1, to=int(ir.DataType.UINT32)), [np.array([1.0], np.float32)], {"": 26}
    )[0]
    assert bits.tolist() == [0x3F800000]
