from __future__ import annotations

import pytest

from graphopt.ir.slices import AxisSlice, slices_of
from graphopt.testing import model_from_text


def only(node, opset=18):
    text = f"g (float[8,8] x, int64[1] k) => (float[M,N] y) {{ y = {node} }}"
    return slices_of(next(n for n in model_from_text(text, opset=opset).graph if n.op_type == "Slice"))


@pytest.mark.parametrize(
    ("node", "opset", "expected"),
    [
        ("Slice (x, [1,0], [5,9223372036854775807], [0,1], [2,1])", 18,
         (AxisSlice(0, 1, 5, 2), AxisSlice(1, 0, None, 1))),
        ("Slice (x, [-3], [2147483647], [-1])", 13, (AxisSlice(-1, -3, None, 1),)),
        ("Slice (x, [1,2], [5,6])", 13, (AxisSlice(0, 1, 5, 1), AxisSlice(1, 2, 6, 1))),
        ("Slice <starts = [1], ends = [5], axes = [1]> (x)", 9, (AxisSlice(1, 1, 5, 1),)),
        ("Slice (x, k, [5], [0])", 18, None),
    ],
)  # fmt: skip
def test_every_way_to_write_it(node, opset, expected):
    assert only(node, opset) == expected
