from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_parallel_convolutions import NOT_LINEAR, OTHER_GEOMETRY
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-parallel-convolutions"
HEAD = "(float[N,1,L] x) => (float[N,1,L] y)"
THREE = "float[1,1,3] v = {1,2,3}, float[1] c = {1}"
SIZES = [{"N": 2, "L": 5}, {"N": 1, "L": 1}]


def merges(constants, nodes, after_constants, after, head=HEAD):
    assert_rewrites(
        PASS,
        f"g {head} <{constants}> {{ {nodes} }}",
        f"g {head} <{after_constants}> {{ {after} }}",
        exact=False,
        sizes=SIZES,
    )


def conv(taps, pads, attributes="", inputs="x, v", group=1):
    full = (
        f"dilations = [1], group = {group}, kernel_shape = [{taps}], pads = {pads}, strides = [1]{attributes}"
    )
    return f"Conv <{full}> ({inputs})"


def test_one_tap_beside_three():
    merges(
        f"{THREE}, float[1,1,1] w = {{10}}, float[1] d = {{2}}",
        "a = Conv <pads = [1,1]> (x, v, c)  b = Conv (x, w, d)  y = Add (b, a)",
        "float[1,1,3] v = {1,12,3}, float[1] c = {3}",
        f"y = {conv(3, [1, 1], inputs='x, v, c')}",
    )


def test_value_itself_and_its_normalization():
    parameters = "float[1] s = {4}, float[1] t = {7}, float[1] m = {1}, float[1] k = {3}"
    merges(
        f"{THREE}, {parameters}",
        "a = Conv <pads = [1,1]> (x, v, c)  n = BatchNormalization <epsilon = 1.0> (x, s, t, m, k)  "
        "b = Add (a, n)  y = Add (x, b)",
        "float[1,1,3] v = {1,5,3}, float[1] c = {6}",
        f"y = {conv(3, [1, 1], inputs='x, v, c')}",
    )


def test_groups_keep_their_channels_apart():
    merges(
        "float[4,2,1] v = {1,2,3,4,5,6,7,8}",
        "a = Conv <group = 2> (x, v)  y = Add (a, x)",
        "float[4,2,1] v = {2,2,3,5,6,6,7,9}",
        f"y = {conv(1, [0, 0], group=2)}",
        head="(float[N,4,L] x) => (float[N,4,L] y)",
    )


def test_windows_of_other_padding():
    merges(
        "float[1,1,3] v = {1,2,3}, float[1,1,2] w = {10, 20}",
        "a = Conv <pads = [1,1]> (x, v)  b = Conv <pads = [0,1]> (x, w)  y = Add (a, b)",
        "float[1,1,3] v = {1,12,23}",
        f"y = {conv(3, [1, 1])}",
    )


def test_value_beside_a_transposed_depthwise_convolution():
    there, back = "t = Transpose <perm = [0,2,1]> (x)", "u = Transpose <perm = [0,2,1]> (c)"
    merges(
        "float[2,1,3] v = {1,2,3,4,5,6}",
        f"{there}  c = Conv <group = 2, pads = [1,1]> (t, v)  {back}  y = Add (u, x)",
        "float[2,1,3] v = {1,3,3,4,6,6}",
        f"{there}  c = {conv(3, [1, 1], inputs='t, v', group=2)}  {back.replace('u =', 'y =')}",
        head="(float[N,L,2] x) => (float[N,L,2] y)",
    )


A = "a = Conv <pads = [1,1]> (x, v)"
ONE = "b = Conv (x, w)"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (f"r = Relu (x)  {A}  b = Conv (r, w)  y = Add (a, b)", NOT_LINEAR),
        (f"{A}  {ONE}  c = Relu (b)  d = Mul (b, c)  y = Add (a, b)", NOT_LINEAR),
        (f"{A}  b = Neg (x)  c = Relu (b)  y = Add (a, c)", NOT_LINEAR),
        ("t = Transpose <perm = [2,1,0]> (x)  c = Conv <pads = [1,1]> (t, v)  k = Transpose <perm = [1,0,2]> (c)  "
         "y = Add (k, x)", OTHER_GEOMETRY),
        # Shorter by its window: this is a broadcast, or an error.
        (f"a = Conv (x, v)  {ONE}  y = Add (a, b)", OTHER_GEOMETRY),
        ("a = Conv (x, v)  y = Add (a, x)", OTHER_GEOMETRY),
        (f"{A}  b = Conv <strides = [2]> (x, w)  y = Add (a, b)", OTHER_GEOMETRY),
        # Taps of even and of odd offsets have no common dilation.
        ("a = Conv <pads = [2,2], dilations = [2]> (x, v)  b = Conv <pads = [1,1], dilations = [2]> (x, u)  "
         "y = Add (a, b)", OTHER_GEOMETRY),
    ],
)  # fmt: skip
def test_leaves_alone(nodes, reason):
    constants = "float[1,1,3] v = {1,2,3}, float[1,1,2] u = {1,2}, float[1,1,1] w = {10}"
    assert_rejects(PASS, f"g {HEAD} <{constants}> {{ {nodes} }}", reason)


def test_sum_that_would_cost_more():
    # 1x3 and 3x1 make six taps, their sum a window of nine.
    constants = "float[1,1,1,3] v = {1,2,3}, float[1,1,3,1] w = {1,2,3}"
    nodes = "a = Conv <pads = [0,1,0,1]> (x, v)  b = Conv <pads = [1,0,1,0]> (x, w)  y = Add (a, b)"
    head = "(float[N,1,H,L] x) => (float[N,1,H,L] y)"
    assert_rejects(PASS, f"g {head} <{constants}> {{ {nodes} }}", OTHER_GEOMETRY)
