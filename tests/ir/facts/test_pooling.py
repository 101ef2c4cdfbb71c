"""Facts of poolings against runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.ir.facts.checking import Runtime, check, facts_of, flops, one_node

SIZES = (
    {"N": 2, "C": 3, "H": 9, "W": 12},
    {"N": 0, "C": 1, "H": 7, "W": 8},
    {"N": 1, "C": 2, "H": 13, "W": 6},
)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    ("attributes", "dims"),
    [
        ({"kernel_shape": [3, 3]}, "N, C, H - 2, W - 2"),
        ({"kernel_shape": [3, 2], "strides": [2, 2]}, None),
        ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "N, C, H, W"),
        ({"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1}, None),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}, None),
        ({"kernel_shape": [2, 3], "dilations": [2, 2]}, "N, C, H - 2, W - 4"),
        ({"kernel_shape": [2, 3], "auto_pad": "VALID", "strides": [2, 3]}, None),
        ({"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER"}, "N, C, H, W"),
        ({"kernel_shape": [4, 3], "auto_pad": "SAME_LOWER", "strides": [3, 2]}, None),
    ],
)
def test_pools(op, attributes, dims):
    check(op, ["float[N,C,H,W]"], *SIZES, opset=19, dims=(dims,), **attributes)


@pytest.mark.parametrize("opset", [1, 8, 10, 12, 22])
def test_max_pool_of_all_opsets(opset):
    outputs = 1 if opset < 8 else 2
    check(
        "MaxPool",
        ["float[N,C,H]"],
        SIZES[0],
        opset=max(opset, 7),
        outputs=outputs,
        kernel_shape=[2],
        strides=[2],
    )


@settings(max_examples=60, deadline=None)
@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    size=st.integers(1, 14),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    begin=st.integers(0, 3),
    end=st.integers(0, 3),
    ceil_mode=st.integers(0, 1),
    auto_pad=st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
)
def test_pool_arithmetic(op, size, kernel, stride, dilation, begin, end, ceil_mode, auto_pad):
    extent = (kernel - 1) * dilation + 1
    attributes = {
        "strides": [stride],
        "kernel_shape": [kernel],
        "ceil_mode": ceil_mode,
        "dilations": [dilation],
    }
    if auto_pad == "NOTSET":
        assume(begin < kernel and end < kernel)
        attributes["pads"] = [begin, end]
    else:
        attributes["auto_pad"] = auto_pad
        begin = end = 0
    assume("SAME" in auto_pad or size + begin + end >= extent)
    assume("SAME" not in auto_pad or (kernel >= stride and size >= extent))
    # SAME with dilations is not decided: onnxruntime pads for the kernel without them.
    exact = "SAME" not in auto_pad or dilation == 1
    check(op, ["float[N,1,H]"], {"N": 1, "H": size}, opset=19, exact=exact, **attributes)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools(op):
    check(op, ["float[N,C,H,W]"], *SIZES, dims=("N, C, 1, 1",))
    check(op, ["float[N,C,H]"], *SIZES, dims=("N, C, 1",))


def test_max_unpool():
    indices = Runtime(np.array([[[[0, 3], [8, 10]]]], np.int64))
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check("MaxUnpool", ["float[1,1,2,2]", indices], dims=("1, 1, 4, 4",), **attributes)
    shape = np.array([1, 1, 5, 5], np.int64)
    check("MaxUnpool", ["float[1,1,2,2]", indices, shape], dims=("1, 1, 5, 5",), **attributes)
    check("MaxUnpool", ["float[1,1,2,2]", indices, Runtime(shape)], exact=False, **attributes)


def test_regions_of_interest():
    sizes = ({"N": 2, "C": 3, "H": 8, "R": 4}, {"N": 1, "C": 1, "H": 5, "R": 0})
    rois = ["float[N,C,H,H]", "float[R,4]", Runtime(np.zeros(4, np.int64))]
    check("RoiAlign", rois, sizes[0], opset=16, dims=("R, C, 2, 3",), output_height=2, output_width=3)
    boxes = ["float[N,C,H,H]", "float[R,5]"]
    check("MaxRoiPool", boxes, sizes[0], dims=("R, C, 2, 3",), pooled_shape=[2, 3])


def test_col2im():
    image, block = np.array([5, 6], np.int64), np.array([2, 3], np.int64)
    check("Col2Im", ["float[N,12,16]", image, block], {"N": 2}, {"N": 0}, opset=18, dims=("N, 2, 5, 6",))
    check("Col2Im", ["float[N,12,16]", Runtime(image), block], {"N": 2}, opset=18, exact=False)


@pytest.mark.parametrize(
    ("op", "attributes", "counted"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 3 * 4 * 5 * 4),
        ("GlobalAveragePool", {}, 3 * 8 * 10),
    ],
)
def test_flops(op, attributes, counted):
    facts, node = facts_of(one_node(op, ["float[N,3,8,10]"], opset=13, **attributes))
    assert str(flops(facts, node, 13)) == f"{counted}*N"
