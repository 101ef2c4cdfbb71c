from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import ModelIdentity, QuantTable, TensorPlan
from graphopt.ir.quantizing import Grid, asymmetric, dequantized, quantized
from graphopt.quantization.finishing import finished, with_activations, with_short_scales
from graphopt.quantization.neighbours import is_alone, is_among_convolutions
from graphopt.testing import model_from_text, operators_of

IDENTITY = ModelIdentity("0" * 64, 21)


def table_of(**tensors):
    return QuantTable(IDENTITY, tensors)


def activation(low, high):
    scale, zero = asymmetric(low, high, ir.DataType.UINT8)
    grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
    return TensorPlan(grid, range=(low, high))


def weight(scales, codes=None):
    scale = np.asarray(scales, np.float32)
    zero = np.zeros(scale.shape, np.int8)
    return TensorPlan(Grid(ir.DataType.INT8, scale, zero, 1, narrow=True), "weight", codes=codes)


def test_signed_activations_are_symmetric_and_reach_as_far():
    table = with_activations(table_of(a=activation(-1.0, 3.0)), "s8")
    grid = table.tensors["a"].grid
    assert grid.dtype is ir.DataType.INT8 and not grid.zero_point.any()
    assert grid.scale == np.float32(3 / 127)
    numbers = np.asarray([-1.0, 0.0, 3.0], np.float32)
    assert np.abs(dequantized(quantized(numbers, grid), grid) - numbers).max() <= float(grid.scale) / 2 + 1e-6


def test_unsigned_activations_and_weights_stay():
    table = table_of(a=activation(0.0, 3.0), w=weight([0.1, 0.2]))
    assert with_activations(table, "u8") is table
    assert with_activations(table, "s8").tensors["w"] is table.tensors["w"]


def test_short_scales_are_rounded_up_so_that_the_largest_weight_fits():
    exact = np.asarray([0.1, 0.0123, 0.5], np.float32)
    found = with_short_scales(table_of(w=weight(exact))).tensors["w"].grid.scale
    assert (found >= exact).all() and (found <= exact * (1 + 2**-10)).all()
    assert np.array_equal(found.astype(np.float16).astype(np.float32), found)


@pytest.mark.parametrize("scales", [[1e-6, 0.1], [1e6, 0.1]])
def test_scales_that_float16_can_not_say_stay(scales):
    plan = weight(scales)
    assert with_short_scales(table_of(w=plan)).tensors["w"] is plan


def test_codes_that_are_given_keep_the_nearest_scale():
    plan = weight([0.1], codes=np.asarray([[1], [2]], np.int8))
    found = with_short_scales(table_of(w=plan)).tensors["w"]
    assert found.codes is plan.codes
    assert found.grid.scale == np.float32(np.float16(0.1))


STORED = f"""g (float[B,64] x) => (float[B,2] y) <float[2] sw = {{0.01, 0.02}},
    int8[64,2] wq = {{{", ".join(str(i) for i in range(128))}}}> {{
    w = DequantizeLinear <axis = 1> (wq, sw)  y = MatMul (x, w) }}"""


@pytest.mark.parametrize(
    ("target", "operators"),
    [
        ("onnx", ["DequantizeLinear", "MatMul"]),
        # It cuts weights into blocks itself, finer ones than could be stored.
        ("onnxruntime", ["DequantizeLinear", "MatMul"]),
        ("graphopt", ["CompressedMatMul"]),
    ],
)
def test_products_with_stored_weights(target, operators):
    model = model_from_text(STORED, opset=21, domains={"com.microsoft": 1})
    assert operators_of(finished(model, target)) == operators


QUANTIZED = """g (float[B,4] x) => (float[B,3] y) <float s = {0.02}, uint8 z = {120},
    int8[4,3] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120}, float[3] sw = {0.01, 0.02, 0.03}> {
    q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    w = DequantizeLinear <axis = 1> (wq, sw)  y = MatMul (d, w) }"""


@pytest.mark.parametrize(
    ("target", "operators"),
    [
        ("onnx", ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]),
        ("onnxruntime", ["QuantizeLinear", "MatMulIntegerToFloat"]),
        ("graphopt", ["QuantizedMatMul"]),
    ],
)
def test_each_target_has_its_operators(target, operators):
    model = model_from_text(QUANTIZED, opset=21, domains={"com.microsoft": 1})
    assert operators_of(finished(model, target)) == operators


@pytest.mark.parametrize(
    ("nodes", "alone"),
    [
        ("c = Conv <group = 2> (x, w)  y = MatMul (c, x)", True),
        ("c = Conv <group = 2> (x, w)  r = Relu (c)  y = Conv (r, v)", False),
        ("r = Conv (x, v)  s = Sigmoid (r)  c = Conv <group = 2> (s, w)  y = Relu (c)", False),
        ("r = Conv (x, v)  s = MatMul (r, x)  c = Conv <group = 2> (s, w)  y = Relu (c)", True),
    ],
)
def test_depthwise_convolutions_among_products(nodes, alone):
    model = model_from_text(
        f"""g (float[1,2,2] x) => (float[1,2,2] y) <float[2,1,1] w = {{1, 2}}, float[2,2,1] v = {{1, 2, 3, 4}}>
        {{ {nodes} }}"""
    )
    [found] = [node for node in model.graph if "group" in node.attributes]
    assert is_alone(found) is alone
    assert is_among_convolutions(found) is not alone
    assert not any(is_alone(node) for node in model.graph if node is not found)
