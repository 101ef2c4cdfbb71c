"""Facts of convolutions against runs."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.ir.facts.checking import check, facts_of, flops, one_node

SIZES = ({"N": 2, "H": 9, "W": 12}, {"N": 0, "H": 7, "W": 8}, {"N": 1, "H": 13, "W": 5})


def weights(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("attributes", "dims"),
    [
        ({}, "N, 4, H - 2, W - 2"),
        ({"pads": [1, 1, 1, 1]}, "N, 4, H, W"),
        ({"pads": [0, 1, 2, 0]}, "N, 4, H, W - 1"),
        ({"strides": [2, 3], "pads": [1, 1, 1, 1]}, None),
        ({"dilations": [2, 1]}, "N, 4, H - 4, W - 2"),
        ({"auto_pad": "VALID", "strides": [2, 2]}, None),
        ({"auto_pad": "SAME_UPPER"}, "N, 4, H, W"),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 3]}, None),
        ({"auto_pad": "SAME_UPPER", "strides": [4, 5]}, None),
        ({"auto_pad": "NOTSET", "kernel_shape": [3, 3]}, "N, 4, H - 2, W - 2"),
    ],
)
def test_conv(attributes, dims):
    check("Conv", ["float[N,2,H,W]", weights(4, 2, 3, 3)], *SIZES, dims=(dims,), **attributes)


def test_conv_of_other_ranks_and_groups():
    check("Conv", ["float[N,6,H]", weights(9, 2, 3)], *SIZES, group=3, dims=("N, 9, H - 2",))
    check("Conv", ["float[N,1,H,W,5]", weights(2, 1, 2, 2, 2)], *SIZES, dims=("N, 2, H - 1, W - 1, 4",))
    check(
        "Conv", ["float[N,2,H]", "float[M,2,K]"], {"N": 1, "H": 8, "M": 3, "K": 4}, dims=("N, M, H - K + 1",)
    )


def test_conv_flops():
    model = one_node(
        "Conv", ["float[N,4,8,8]", weights(6, 2, 3, 3), "float[6]"], opset=11, domain="", outputs=1, group=2
    )
    facts, node = facts_of(model)
    per_image = 6 * 6 * 6
    assert str(flops(facts, node, 11)) == f"{2 * per_image * 2 * 9 + per_image}*N"


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 14),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    begin=st.integers(0, 3),
    end=st.integers(0, 3),
    auto_pad=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
)
def test_conv_arithmetic(size, kernel, stride, dilation, begin, end, auto_pad):
    attributes = {"strides": [stride], "dilations": [dilation]}
    if auto_pad == "NOTSET":
        attributes["pads"] = [begin, end]
    else:
        attributes["auto_pad"] = auto_pad
        begin = end = 0
    assume("SAME" not in auto_pad or dilation == 1)
    assume("SAME" in auto_pad or size + begin + end >= (kernel - 1) * dilation + 1)
    check("Conv", ["float[N,1,H]", weights(2, 1, kernel)], {"N": 1, "H": size}, **attributes)


@pytest.mark.parametrize(
    ("attributes", "dims"),
    [
        ({}, "N, 6, H + 2, W + 2"),
        ({"strides": [2, 3]}, "N, 6, 2*H + 1, 3*W"),
        ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, "N, 6, 2*H, 2*W"),
        ({"dilations": [2, 1], "pads": [0, 1, 1, 0]}, "N, 6, H + 3, W + 1"),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, "N, 6, 2*H, 2*W"),
        ({"auto_pad": "SAME_LOWER", "strides": [3, 1]}, "N, 6, 3*H, W"),
        ({"auto_pad": "VALID", "strides": [2, 2], "output_padding": [1, 0]}, "N, 6, 2*H + 2, 2*W + 1"),
    ],
)
def test_conv_transpose(attributes, dims):
    check(
        "ConvTranspose", ["float[N,4,H,W]", weights(4, 3, 3, 3)], *SIZES, dims=(dims,), group=2, **attributes
    )


def test_conv_transpose_with_output_shape():
    inputs = ["float[N,4,H,W]", weights(4, 3, 3, 3)]
    sizes = {"N": 2, "H": 8, "W": 12}
    check("ConvTranspose", inputs, sizes, dims=("N, 3, 17, 24",), strides=[2, 2], output_shape=[17, 24])


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    extra=st.integers(0, 3),
    auto_pad=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
)
def test_conv_transpose_arithmetic(size, kernel, stride, dilation, extra, auto_pad):
    assume(extra < stride)
    attributes = {
        "strides": [stride],
        "dilations": [dilation],
        "output_padding": [extra],
        "auto_pad": auto_pad,
    }
    inputs = ["float[N,1,H]", weights(1, 2, kernel)]
    # A SAME that would need negative padding is not decided: onnxruntime then gives less than size * stride.
    undecided = "SAME" in auto_pad and (kernel - 1) * dilation + 1 + extra < stride
    check("ConvTranspose", inputs, {"N": 1, "H": size}, exact=not undecided, **attributes)


def test_quantized_convolutions():
    scale, zero = np.array(0.5, np.float32), np.array(1, np.uint8)
    kernel = np.ones((4, 2, 3, 3), np.uint8)
    check("ConvInteger", ["uint8[N,2,H,W]", kernel, zero, zero], SIZES[0], dims=("N, 4, H - 2, W - 2",))
    inputs = ["uint8[N,2,H,W]", scale, zero, kernel, scale, zero, scale, zero]
    check("QLinearConv", inputs, SIZES[0], dims=("N, 4, H - 2, W - 2",))
    check("QLinearConv", inputs, SIZES[0], strides=[2, 2], pads=[1, 1, 1, 1])


def test_deform_conv():
    inputs = ["float[N,2,6,7]", weights(4, 2, 3, 3), "float[N,18,4,5]"]
    check("DeformConv", inputs, {"N": 2}, dims=("N, 4, 4, 5",))


def test_causal_conv_with_state():
    inputs = ["float[N,4,T]", weights(4, 1, 3), None, "float[N,4,2]"]
    sizes = ({"N": 2, "T": 5}, {"N": 1, "T": 1})
    check(
        "CausalConvWithState",
        inputs,
        *sizes,
        opset=27,
        outputs=2,
        judge="reference",
        dims=("N, 4, T", "N, 4, 2"),
    )


def test_a_window_that_does_not_fit_is_refused():
    """The arithmetic holds for windows that fit; this is why nothing is said of the others."""
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        check("Conv", ["float[N,1,H]", weights(2, 1, 3)], {"N": 1, "H": 2}, strides=[2])


def test_conv_transpose_flops():
    """Each input element meets all weights of its channel."""
    facts, node = facts_of(
        one_node("ConvTranspose", ["float[N,4,8,8]", weights(4, 3, 2, 2)], opset=11, strides=[2, 2])
    )
    assert str(flops(facts, node, 11)) == f"{2 * 4 * 64 * 3 * 4}*N"


def test_flops_of_an_unknown_shape_are_unknown():
    model = one_node("Conv", ["float[N,4,8,8]", weights(6, 4, 3, 3)], opset=11)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    facts, node = facts_of(model)
    assert facts.rank(node.outputs[0]) == 4
    model = one_node("MatMul", ["float[N,4]", "float[4,5]"], opset=11)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    facts, node = facts_of(model)
    with pytest.raises(ValueError, match="is unknown"):
        flops(facts, node, 11)
