"""Facts of quantization operators, standard and onnxruntime's, against runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.ir.facts.checking import check, facts_of, one_node

SIZES = ({"N": 2, "C": 3, "H": 4}, {"N": 0, "C": 3, "H": 4})
SCALE = np.array(0.1, np.float32)
MICROSOFT = {"domain": "com.microsoft"}


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_there_and_back(opset, dtype):
    zero = np.array(3, dtype)
    check("QuantizeLinear", ["float[N,C,H]", SCALE, zero], *SIZES, opset=opset, dims=("N, C, H",))
    check("QuantizeLinear", ["float[N,C,H]", SCALE], *SIZES, opset=opset, dims=("N, C, H",))
    name = np.dtype(dtype).name
    check("DequantizeLinear", [f"{name}[N,C,H]", SCALE, zero], *SIZES, opset=opset, dims=("N, C, H",))
    check("DequantizeLinear", ["int32[N,C,H]", SCALE], *SIZES, opset=opset, dims=("N, C, H",))


def test_along_an_axis_and_by_the_dtype_asked_for():
    scale, zero = np.full(3, 0.1, np.float32), np.zeros(3, np.int8)
    check("QuantizeLinear", ["float[N,C,H]", scale, zero], *SIZES, opset=13, axis=1)
    check("QuantizeLinear", ["float[N,C,H]", SCALE], *SIZES, output_dtype=int(ir.DataType.INT16))
    check("DequantizeLinear", ["uint8[N,C,H]", SCALE.astype(np.float16)], *SIZES, opset=19)
    model = one_node(
        "DequantizeLinear",
        ["uint8[N]", SCALE],
        opset=23,
        domain="",
        outputs=1,
        output_dtype=int(ir.DataType.FLOAT16),
    )
    facts, node = facts_of(model)
    assert facts.describe(node.outputs[0]) == "float16[N]"


def test_dynamic():
    check("DynamicQuantizeLinear", ["float[N,C,H]"], SIZES[0], outputs=3, dims=("N, C, H", "", ""))


def test_microsoft_quantize():
    zero = np.array(3, np.uint16)
    check("QuantizeLinear", ["float[N,C,H]", SCALE, zero], *SIZES, **MICROSOFT, dims=("N, C, H",))
    check("DequantizeLinear", ["uint16[N,C,H]", SCALE, zero], *SIZES, **MICROSOFT, dims=("N, C, H",))


ZERO = np.array(3, np.uint8)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_quantized_pairs_broadcast(op):
    inputs = ["uint8[N,1,H]", SCALE, ZERO, "uint8[C,H]", SCALE, ZERO, SCALE, ZERO]
    check(op, inputs, *SIZES, **MICROSOFT, dims=("N, C, H",))


def test_quantized_shape_keepers():
    inputs = ["uint8[N,C,H]", SCALE, ZERO, SCALE, ZERO]
    check("QLinearSigmoid", inputs, *SIZES, **MICROSOFT, dims=("N, C, H",))
    check("QLinearLeakyRelu", inputs, *SIZES, **MICROSOFT, dims=("N, C, H",))


def test_quantized_concat_mean_and_pools():
    inputs = [SCALE, ZERO, "uint8[N,2,H]", SCALE, ZERO, "uint8[N,C,H]", SCALE, ZERO]
    check("QLinearConcat", inputs, *SIZES, **MICROSOFT, dims=("N, C + 2, H",), axis=1)
    inputs = ["uint8[N,C,H,H]", SCALE, ZERO, SCALE, ZERO]
    check(
        "QLinearAveragePool", inputs, SIZES[0], **MICROSOFT, dims=("N, C, H - 1, H - 1",), kernel_shape=[2, 2]
    )
    check(
        "QLinearAveragePool",
        inputs,
        SIZES[0],
        **MICROSOFT,
        dims=("N, C - 1, H - 1, H",),
        kernel_shape=[2, 2],
        channels_last=1,
    )
    check("QLinearGlobalAveragePool", inputs, SIZES[0], **MICROSOFT, dims=("N, C, 1, 1",))
    check("QLinearGlobalAveragePool", inputs, SIZES[0], **MICROSOFT, dims=("N, 1, 1, H",), channels_last=1)
    check(
        "NhwcMaxPool",
        ["uint8[N,H,H,C]"],
        SIZES[0],
        **MICROSOFT,
        dims=("N, H - 1, H - 1, C",),
        kernel_shape=[2, 2],
    )


def test_quantized_where():
    inputs = ["bool[N,1,H]", "uint8[C,H]", SCALE, ZERO, "uint8[1]", SCALE, ZERO, SCALE, ZERO]
    check("QLinearWhere", inputs, SIZES[0], **MICROSOFT, dims=("N, C, H",))


def test_quantized_conv_of_channels_last():
    kernel = np.ones((5, 3, 2, 2), np.uint8)
    inputs = ["uint8[N,H,H,3]", SCALE, ZERO, kernel, SCALE, ZERO, SCALE, ZERO]
    check("QLinearConv", inputs, *SIZES, **MICROSOFT, dims=("N, H - 1, H - 1, 5",), channels_last=1)
