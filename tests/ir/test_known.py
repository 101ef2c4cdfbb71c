import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.dims import symbol
from graphopt.ir.fact import Ratio, SequenceFact, TensorFact
from graphopt.ir.known import known_array

INT, FLOAT, BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


@pytest.mark.parametrize(
    ("fact", "wanted"),
    [
        (TensorFact(INT, (2,), (3, -4)), np.array([3, -4])),
        (TensorFact(INT, (), (3,)), np.array(3)),
        (TensorFact(INT, (0,), ()), np.zeros(0, np.int64)),
        (TensorFact(BOOL, (2,), (True, False)), np.array([True, False])),
        (TensorFact(FLOAT, (1, 2), (3, 4)), np.array([[3, 4]], np.float32)),
    ],
)
def test_known_to_the_last_element(fact, wanted):
    found = known_array(fact)
    assert found is not None
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@pytest.mark.parametrize(
    "fact",
    [
        TensorFact(INT, (2,), (3, None)),
        TensorFact(INT, (1,), (symbol("N"),)),
        TensorFact(INT, (2,), None),
        TensorFact(None, (1,), (3,)),
        TensorFact(INT, (0, symbol("N")), ()),  # no elements, and a dim that varies
        TensorFact(FLOAT, (1,), (0,)),  # the sign is not known
        TensorFact(FLOAT, (1,), (2**24 + 1,)),  # nor is the rounding
        TensorFact(FLOAT, (1,), (0.1,)),
        TensorFact(FLOAT, (1,), (Ratio(symbol("N"), 2),)),
        TensorFact(ir.DataType.INT32, (1,), (2**40,)),
        SequenceFact(TensorFact(INT, (1,), (1,))),
    ],
)
def test_not_known(fact):
    assert known_array(fact) is None
