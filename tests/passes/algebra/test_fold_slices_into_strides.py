from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_slices_into_strides import (
    HAS_OTHER_CONSUMERS,
    NOT_ALL_PHASES,
    NOT_EVERY_NTH,
    OTHER_WINDOW,
)
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-slices-into-strides"
HEAD = "(float[N,1,L] x) => (float[N,1,M] y)"
W = "float[1,1,3] w = {1, 2, 3}, float[1,1,1] v = {5}"
EVERY_THIRD = "[0], [2147483647], [2], [3]"


def folds(before, after, sizes=({"L": 11}, {"L": 12}, {"L": 13}), **options):
    assert_rewrites(
        PASS,
        f"g {HEAD} <{W}> {{ {before} }}",
        f"g {HEAD} <{W}> {{ {after} }}",
        exact=False,
        sizes=sizes,
        **options,
    )


def test_slice_after_a_window():
    folds(
        f"a = Conv <strides = [2], pads = [1,1]> (x, w)  y = Slice (a, {EVERY_THIRD})",
        "y = Conv <strides = [6], pads = [1,1]> (x, w)",
    )
    folds(
        f"a = MaxPool <kernel_shape = [3]> (x)  y = Slice (a, {EVERY_THIRD})",
        "y = MaxPool <kernel_shape = [3], strides = [3]> (x)",
    )


def test_slice_before_a_window_of_one():
    folds(f"a = Slice (x, {EVERY_THIRD})  y = Conv (a, v)", "y = Conv <strides = [3]> (x, v)")


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_all_phases_as_channels(order):
    starts = [(0, 0), (0, 1), (1, 0), (1, 1)]
    parts = [
        f"p{k} = Slice (x, [{starts[k][0]},{starts[k][1]}], [9999999999,9999999999], [2,3], [2,2])"
        for k in order
    ]
    channels = ", ".join(f"p{k}" for k in order)
    head = "(float[N,1,H,L] x) => (float[N,1,P,Q] y)"
    # A weight for each phase, the number of the phase in order of rows and columns.
    values = ",".join(str(k + 1) for k in order)
    assert_rewrites(
        PASS,
        f"g {head} <float[1,4,1,1] w = {{{values}}}> {{ {'  '.join(parts)}  "
        f"c = Concat <axis = 1> ({channels})  y = Conv <pads = [1,0,0,1]> (c, w) }}",
        f"g {head} <float[1,1,2,2] w = {{1,2,3,4}}> "
        "{ y = Conv <kernel_shape = [2,2], pads = [2,0,0,2], strides = [2,2]> (x, w) }",
        exact=False,
        sizes=[{"N": 1, "H": 4, "L": 6}],
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("a = Conv (x, w)  y = Slice (a, [1], [2147483647], [2], [3])", NOT_EVERY_NTH),
        ("a = Conv (x, w)  y = Slice (a, [0], [5], [2], [3])", NOT_EVERY_NTH),
        ("a = Conv (x, w)  y = Slice (a, [0], [2147483647], [2], [1])", NOT_EVERY_NTH),
        (f"a = Conv (x, w)  b = Slice (a, {EVERY_THIRD})  c = Exp (a)  y = Add (b, c)", HAS_OTHER_CONSUMERS),
        (f"a = MaxPool <kernel_shape = [3], ceil_mode = 1> (x)  y = Slice (a, {EVERY_THIRD})", OTHER_WINDOW),
        (f"a = Conv <auto_pad = \"SAME_UPPER\"> (x, w)  y = Slice (a, {EVERY_THIRD})", OTHER_WINDOW),
        (f"a = Slice (x, {EVERY_THIRD})  y = Conv (a, w)", OTHER_WINDOW),
    ],
)  # fmt: skip
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"g {HEAD} <{W}> {{ {nodes} }}", reason)


def test_phase_that_comes_twice():
    starts = [(0, 0), (0, 1), (0, 1), (1, 1)]
    parts = "  ".join(
        f"p{k} = Slice (x, [{i},{j}], [9999999999,9999999999], [2,3], [2,2])"
        for k, (i, j) in enumerate(starts)
    )
    head = "(float[N,1,H,L] x) => (float[N,1,P,Q] y) <float[1,4,1,1] w = {1,2,3,4}>"
    nodes = f"{parts}  c = Concat <axis = 1> (p0, p1, p2, p3)  y = Conv (c, w)"
    assert_rejects(PASS, f"g {head} {{ {nodes} }}", NOT_ALL_PHASES)
