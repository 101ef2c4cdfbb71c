from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.verification.compare import TOLERANCES, difference, varies

FLOATS = [
    np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
]  # fmt: skip
EXACT = [
    np.int8,
    np.uint8,
    np.int16,
    np.int32,
    np.int64,
    np.uint64,
    np.bool_,
    ml_dtypes.int4,
    ml_dtypes.uint4,
]
VALUES = [1.0, 2.0, -3.0, 0.5]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_wrong_float_is_caught(dtype):
    wanted = np.array(VALUES, dtype)
    got = wanted.copy()
    got[2] = dtype(-1.5)
    found = difference(wanted, got)
    assert found.reason == "at [2]: -3 became -1.5"
    assert found.error == 0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_unit_in_the_last_place_is_allowed(dtype):
    wanted = np.array([1.0, 2.0], dtype)
    step = 1 + np.float64(ml_dtypes.finfo(dtype).eps)
    got = (wanted.astype(np.float64) * step).astype(dtype)
    assert np.any(wanted != got)
    found = difference(wanted, got)
    assert found.reason is None
    assert 0 < found.error < 0.5


def test_tolerances_of_float_types_are_no_looser_than_the_next_shorter_type():
    order = ["float64", "float32", "float16", "bfloat16"]
    for longer, shorter in itertools.pairwise(order):
        assert TOLERANCES[longer].relative < TOLERANCES[shorter].relative
        assert TOLERANCES[longer].scaled < TOLERANCES[shorter].scaled


@pytest.mark.parametrize("dtype", EXACT)
def test_exact_types_allow_nothing(dtype):
    wanted = np.array([[1, 0], [1, 1]]).astype(dtype)
    got = np.array([[1, 0], [0, 1]]).astype(dtype)
    assert difference(wanted, wanted.copy()).reason is None
    found = difference(wanted, got)
    assert found.error == 0.25
    assert found.reason is not None
    assert found.reason.startswith("at [1, 0]: ")


def test_strings_are_exact():
    found = difference(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert found.reason == "at [1]: b became c"


def test_complex_numbers_are_compared_by_part():
    wanted = np.array([1 + 2j], np.complex64)
    assert difference(wanted, wanted.copy()).reason is None
    assert difference(wanted, np.array([1 + 3j], np.complex64)).reason == "at [0]: 2 became 3"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("wanted", "got"),
    [(np.nan, 0.0), (0.0, np.nan), (np.inf, -np.inf), (np.inf, 1e4), (1.0, np.inf), (np.nan, np.inf)],
)
def test_places_of_nan_and_infinity_must_match(dtype, wanted, got):
    found = difference(np.array([1.0, wanted], dtype), np.array([1.0, got], dtype))
    assert found.error == np.inf
    assert found.reason is not None
    assert found.reason.startswith("at [1]: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_equal_places_of_nan_and_infinity_are_equal(value):
    wanted = np.array([1.0, value], np.float32)
    assert difference(wanted, wanted.copy()).reason is None


def test_a_shape_that_broadcasts_is_no_equal_shape():
    found = difference(np.zeros((2, 3), np.float32), np.zeros((1, 2, 3), np.float32))
    assert found.reason == "shape [2, 3] became [1, 2, 3]"


def test_empty_arrays_differ_by_shape():
    assert difference(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).reason is None
    assert difference(np.zeros((0, 3), np.float32), np.zeros((3, 0), np.float32)).reason is not None
    assert difference(np.zeros((0,), np.int64), np.zeros((0,), np.int64)).reason is None


def test_element_types_differ_even_where_values_agree():
    found = difference(np.zeros(2, np.int64), np.zeros(2, np.int32))
    assert found.reason == "int64 became int32"


def test_sequences_are_compared_element_by_element():
    one, two = np.ones(2, np.float32), np.full(2, 2, np.float32)
    assert difference([one, two], [one, two]).reason is None
    assert difference([one, two], [one]).reason == "a sequence of 2 became one of 1"
    assert difference([one, two], [one, one]).reason == "element 1: at [0]: 2 became 1"
    assert difference([one], one).reason == "a sequence on one side only"


def test_an_empty_optional_equals_only_itself():
    assert difference(None, None).reason is None
    assert difference(None, np.zeros(1)).reason is not None


def test_small_elements_may_carry_the_error_of_large_ones_but_not_more():
    wanted = np.array([1000.0, 0.0], np.float32)
    assert difference(wanted, np.array([1000.0, 0.05], np.float32)).reason is None
    assert difference(wanted, np.array([1000.0, 0.2], np.float32)).reason is not None


def test_an_output_of_zeros_allows_no_difference_of_note():
    assert difference(np.zeros(2, np.float32), np.array([0, 1e-6], np.float32)).reason is not None


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, min_side=0, max_side=4)))
def test_everything_equals_itself(array):
    found = difference(array, array.copy())
    assert found.reason is None
    assert found.error == 0


@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=20), st.data())
def test_a_change_beyond_the_tolerance_is_always_found(values, data):
    wanted = np.array(values, np.float32)
    place = data.draw(st.integers(0, len(values) - 1))
    got = wanted.copy()
    got[place] += np.float32(max(np.abs(wanted).max(), 1.0) * 0.01)
    assert difference(wanted, got).reason is not None


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([np.array([1.0, 1.0])], False),
        ([np.array([1.0, 2.0])], True),
        ([np.array([1]), np.array([2])], True),
        ([np.array([np.nan, np.nan])], False),
        ([np.array([np.nan, 1.0]), np.array([1.0])], False),
        ([np.zeros((0, 3))], False),
        ([np.array(["a", "b"], object)], True),
        ([[np.array([1.0])], [np.array([2.0])]], True),
        ([None, None], False),
        ([np.array([True, True])], False),
        ([np.array([1, 2], ml_dtypes.bfloat16)], True),
    ],
)
def test_outputs_that_say_nothing(answers, expected):
    assert varies(answers) is expected
