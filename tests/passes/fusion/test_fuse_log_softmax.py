from __future__ import annotations

import pytest

from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-log-softmax"


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_logarithm_of_a_softmax(axis, opset):
    text = "g (float[N,3,4] x) => (float[N,3,4] y) {{ {} }}"
    assert_rewrites(
        PASS,
        before=text.format(f"s = Softmax <axis = {axis}> (x)  y = Log (s)"),
        after=text.format(f"y = LogSoftmax <axis = {axis}> (x)"),
        opset=opset,
        exact=False,
        sizes=[{"N": 2}, {"N": 1}],
    )


def test_a_softmax_that_is_needed_itself():
    assert_rejects(
        PASS,
        "g (float[N,3] x) => (float[N,3] y, float[N,3] z) { s = Softmax (x)  y = Log (s)  z = Abs (s) }",
        HAS_OTHER_CONSUMERS,
    )
