from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.verification.roles import Role
from graphopt.verification.signature import Input
from graphopt.verification.values import sample_value

SIZES = {"N": 4, "S": 6}


def sample(dtype: ir.DataType, role: Role, dims=("N", "S"), ordinal=0, container="tensor", **kwargs):
    rng = np.random.default_rng(0)
    return sample_value(Input("x", dtype, dims, container), role, SIZES, ordinal, rng, **kwargs)


@pytest.mark.parametrize(
    "dtype", [d for d in ir.DataType if d != ir.DataType.UNDEFINED], ids=lambda d: d.name
)
def test_every_element_type_can_be_sampled(dtype):
    found = sample(dtype, Role())
    assert found.shape == (4, 6)
    assert found.dtype == (np.dtype(object) if dtype == ir.DataType.STRING else dtype.numpy())
    assert len({str(v) for v in found.reshape(-1)}) > 1


@pytest.mark.parametrize(
    "dtype", [ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.STRING]
)
def test_scalars_are_arrays(dtype):
    for kind in ("plain", "count", "choice", "length", "index"):
        assert isinstance(sample(dtype, Role(kind), dims=()), np.ndarray)


def test_an_index_meets_both_ends():
    found = np.concatenate(
        [sample(ir.DataType.INT64, Role("index", 0, 2), ordinal=i).reshape(-1) for i in range(5)]
    )
    assert set(found.tolist()) == {0, 1, 2}


def test_an_index_of_a_dynamic_axis_stays_below_the_shortest_dim():
    assert sample(ir.DataType.INT64, Role("index")).max() == 3


def test_special_indices_appear_but_not_first():
    found = sample(ir.DataType.INT64, Role("index", 0, 1000, (7.0,)), dims=(200,)).tolist()
    assert 7 in found[1:]
    assert found[0] != 7


@pytest.mark.parametrize("dtype", [ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL])
def test_masks_are_ones_then_zeros_with_a_full_row_and_a_partial_one(dtype):
    found = sample(dtype, Role("mask")).astype(np.int64)
    assert (np.diff(found, axis=1) <= 0).all()
    assert (found[:, 0] == 1).all()
    assert found[0].all()
    assert not found.all()


def test_masks_of_no_elements():
    assert sample(ir.DataType.INT64, Role("mask"), dims=(0, 3)).shape == (0, 3)
    assert sample(ir.DataType.INT64, Role("mask"), dims=(3, 0)).shape == (3, 0)


def test_lengths_are_positive_and_fit():
    found = sample(ir.DataType.INT64, Role("length"))
    assert found.min() >= 1
    assert found.max() <= 4


def test_choices_take_turns_and_something_else_comes_last():
    role = Role("choice", choices=(16000.0, 8000.0))
    found = [int(sample(ir.DataType.INT64, role, dims=(), ordinal=i)) for i in range(3)]
    assert found == [16000, 8000, 16001]


def test_zero_trips_are_among_the_counts():
    found = {int(sample(ir.DataType.INT64, Role("count"), dims=(), ordinal=i)) for i in range(5)}
    assert 0 in found
    assert 1 in found
    assert max(found) < 20


def test_booleans_without_dims_alternate():
    found = [bool(sample(ir.DataType.BOOL, Role(), dims=(), ordinal=i)) for i in range(2)]
    assert found == [True, False]


def test_bytes_cover_their_range():
    found = sample(ir.DataType.UINT8, Role(), dims=(2000,))
    assert found.min() < 5
    assert found.max() > 250


def test_positive_floats():
    assert sample(ir.DataType.FLOAT, Role(positive=True), dims=(100,)).min() > 0


def test_sequences_and_optionals():
    assert [a.shape for a in sample(ir.DataType.FLOAT, Role(), container="sequence")] == [(4, 6)] * 2
    found = [sample(ir.DataType.FLOAT, Role(), container="optional", ordinal=i) for i in range(3)]
    assert found[2] is None
    assert found[0].shape == (4, 6)


def test_values_are_the_same_in_every_run():
    assert np.array_equal(sample(ir.DataType.FLOAT, Role()), sample(ir.DataType.FLOAT, Role()))
