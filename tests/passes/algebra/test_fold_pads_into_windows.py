from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_pads_into_windows import (
    HAS_OTHER_CONSUMERS,
    NOT_PLAIN,
    OTHER_VALUE,
    OWN_PADDING,
    TOO_WIDE,
)
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-pads-into-windows"
W = "float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}"
HEAD = "(float[N,1,H,W] x) => (float[N,1,P,Q] y)"
PAD = "p = Pad (x, [0,0,1,0,0,0,1,1])"
SIZES = [{"N": 2, "H": 5, "W": 4}, {"N": 1, "H": 1, "W": 2}]


def folds(before, after, **options):
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}> {{ {before} }}",
        f"g {HEAD} <{W}> {{ {after} }}",
        exact=False,
        sizes=options.pop("sizes", SIZES),
        **options,
    )


def test_into_conv():
    folds(f"{PAD}  y = Conv (p, w)", "y = Conv <pads = [1,0,1,1]> (x, w)")
    folds(
        f'{PAD}  y = Conv <auto_pad = "VALID", strides = [2,1]> (p, w)',
        "y = Conv <strides = [2,1], pads = [1,0,1,1]> (x, w)",
    )
    folds(f"{PAD}  y = Conv <pads = [0,1,0,0]> (p, w)", "y = Conv <pads = [1,1,1,1]> (x, w)")


def test_pad_as_attribute_and_by_axes():
    folds(
        "p = Pad <pads = [0,0,1,0,0,0,1,1]> (x)  y = Conv (p, w)",
        "y = Conv <pads = [1,0,1,1]> (x, w)",
        opset=10,
    )
    folds("p = Pad (x, [1,1], 0.0, [-2])  y = Conv (p, w)", "y = Conv <pads = [1,0,1,0]> (x, w)",
          sizes=[{"N": 2, "H": 5, "W": 4}])  # fmt: skip


def test_behind_an_unsqueeze():
    weight = "float[1,1,1,3] w = {1,2,3}"
    head = "(float[N,1,L] x) => (float[N,1,1,M] y)"
    assert_rewrites(
        PASS,
        f"g {head} <{weight}> {{ p = Pad (x, [0,0,1,0,0,1])  u = Unsqueeze (p, [2])  y = Conv (u, w) }}",
        f"g {head} <{weight}> {{ u = Unsqueeze (x, [2])  y = Conv <pads = [0,1,0,1]> (u, w) }}",
        exact=False,
    )


def test_into_average_pool_counts_it():
    folds(
        f"{PAD}  y = AveragePool <kernel_shape = [3,3]> (p)",
        "y = AveragePool <kernel_shape = [3,3], pads = [1,0,1,1], count_include_pad = 1> (x)",
    )


def test_into_max_pool_of_what_is_never_negative():
    pool = "MaxPool <kernel_shape = [3,3]>"
    padded = "MaxPool <kernel_shape = [3,3], pads = [1,0,1,1]>"
    for inner in ("Relu (x)", "Clip (x, 0.0, 6.0)"):
        folds(f"r = {inner}  {PAD.replace('x', 'r')}  y = {pool} (p)", f"r = {inner}  y = {padded} (r)")


def test_into_max_pool_of_minus_infinity():
    low = "float m = {-inf}"
    pool, pads = "kernel_shape = [3,3]", "pads = [1,0,1,1]"
    assert_rewrites(
        PASS,
        f"g {HEAD} <{low}> {{ p = Pad (x, [0,0,1,0,0,0,1,1], m)  y = MaxPool <{pool}> (p) }}",
        f"g {HEAD} {{ y = MaxPool <{pool}, {pads}> (x) }}",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("p = Pad (x, [0,0,1,0,0,0,1,1], 1.0)  y = Conv (p, w)", OTHER_VALUE),
        ("p = Pad <mode = \"reflect\"> (x, [0,0,1,0,0,0,1,1])  y = Conv (p, w)", NOT_PLAIN),
        ("p = Pad (x, [0,0,-1,0,0,0,1,1])  y = Conv (p, w)", NOT_PLAIN),
        ("p = Pad (x, [1,0,0,0,0,0,0,0])  y = Conv (p, w)", NOT_PLAIN),
        (f"{PAD}  y = Conv <auto_pad = \"SAME_UPPER\"> (p, w)", OWN_PADDING),
        ("p = Pad (x, [0,0,3,0,0,0,1,1])  y = Conv (p, w)", TOO_WIDE),
        (f"{PAD}  y = MaxPool <kernel_shape = [3,3]> (p)", OTHER_VALUE),
        (f"{PAD}  y = MaxPool <kernel_shape = [1,2]> (p)", TOO_WIDE),
        (f"{PAD}  y = AveragePool <kernel_shape = [3,3], ceil_mode = 1> (p)", OWN_PADDING),
        (f"{PAD}  y = AveragePool <kernel_shape = [3,3], pads = [0,0,0,1]> (p)", OWN_PADDING),
        (f"{PAD}  a = Conv (p, w)  b = ReduceSum (p)  y = Add (a, b)", HAS_OTHER_CONSUMERS),
    ],
)  # fmt: skip
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"g {HEAD} <{W}> {{ {nodes} }}", reason)
