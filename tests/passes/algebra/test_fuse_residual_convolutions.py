from __future__ import annotations

import pytest
from graphopt.passes.algebra.fuse_residual_convolutions import (
    HAS_OTHER_CONSUMERS,
    NO_KERNEL,
    NOT_BLOCKED,
    OTHER_SHAPE,
)

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-residual-convolutions"
OPTIONS = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}
HEAD = "(float[N,1,4,4] x) => (float[N,1,4,4] y)"
W = "float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1] b = {1}"
Z = "z = Conv <pads = [1,1,1,1]> (x, w)  a = Conv <pads = [1,1,1,1]> (z, w, b)"


HALF = Z.replace("w, b", "v").replace("w", "v")


@pytest.mark.parametrize("addends", ["a, z", "z, a"])
def test_residual_and_activation(addends):
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}> {{ {Z}  s = Add ({addends})  y = Relu (s) }}",
        f"g {HEAD} <{W}> {{ z = Conv <pads = [1,1,1,1]> (x, w)  "
        'y = com.microsoft.FusedConv <pads = [1,1,1,1], activation = "Relu"> (z, w, b, z) }',
        exact=False,
        **OPTIONS,
    )


def test_without_bias_and_activation():
    pool = "z = MaxPool <kernel_shape = [1,1]> (x)"
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}> {{ {pool}  a = Conv <pads = [1,1,1,1]> (z, w)  y = Add (a, z) }}",
        f"g {HEAD} <{W}> {{ {pool}  y = com.microsoft.FusedConv <pads = [1,1,1,1]> (z, w, , z) }}",
        exact=False,
        **OPTIONS,
    )


@pytest.mark.parametrize(
    ("head", "nodes", "reason"),
    [
        (HEAD, "a = Conv <pads = [1,1,1,1]> (x, w)  y = Add (a, x)", NOT_BLOCKED),
        (HEAD, f"{Z}  c = Exp (a)  d = Mul (c, c)  s = Add (a, z)  y = Add (d, s)", HAS_OTHER_CONSUMERS),
        (HEAD, "z = Conv (x, w)  u = MaxPool <kernel_shape = [3,3]> (z)  a = Conv <pads = [1,1,1,1]> (z, w)  "
         "y = Add (a, u)", OTHER_SHAPE),
        (HEAD.replace("float[", "float16["), f"v = Cast <to = 10> (w)  {HALF}  y = Add (a, z)", NO_KERNEL),
    ],
)  # fmt: skip
def test_leaves_alone(head, nodes, reason):
    assert_rejects(PASS, f"g {head} <{W}> {{ {nodes} }}", reason, **OPTIONS)
