"""Convolutions of [N, spatial.., C] with stored weights as one operator of graphopt's own engine.

    before   Transpose(x) -> Conv(., DequantizeLinear(w), b) -> Transpose
    after    ai.graphopt.CompressedChannelsLastConv(x, w, w_scale, b)

    before   Transpose(QuantizeLinear -> DequantizeLinear(x)) -> Conv(., DequantizeLinear(w), b) -> Transpose
    after    ai.graphopt.QuantizedChannelsLastConv(x, x_scale, x_zero, w, w_scale, b)

The operator is a model-local function of the standard's operators. The engine computes with channels
innermost: there it is one convolution. What is quantized behind the convolution becomes QLinearConv instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_ints
from graphopt.ir.own_operators import CONV_ATTRIBUTES, define_convolution
from graphopt.ir.quantization import BYTES, is_dequantize, is_quantize, quantization
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, gopt, rule_on
from graphopt.rewriting.stored_matrices import floats_of_bias, shortened

OTHER_LAYOUT = "the channels are not the last axis on both sides"
OTHER_WEIGHT = "the weight is no constant of signed bytes around zero"
OTHER_INPUT = "the image is not quantized by one float32 scale"
OTHER_BIAS = "the bias is no constant"


@dataclass(frozen=True)
class Image:
    """What a convolution takes, with channels last.

    Attributes:
        value: The image, floats.
        parameters: Scale and zero point that it is quantized by; none where it is not.
    """

    value: ir.Value
    parameters: tuple[ir.Value, ...] = ()


@rule_on("Transpose", depth=5)
def convolution_between_transposes(m: Match) -> ir.Value | Rejection | None:
    """Transpose(Conv(Transpose(x), DequantizeLinear(w))) -> ChannelsLastConv(x, w)."""
    value = m.root.inputs[0]
    conv = value.producer() if value is not None else None
    if value is None or conv is None or conv.op_type != "Conv" or conv.domain != "":
        return None
    weight = conv.inputs[1].producer() if conv.inputs[1] is not None else None
    if weight is None or not is_dequantize(weight) or conv.graph is not m.root.graph:
        return None
    rank = m.rank(value)
    if rank is None or attribute_ints(m.root, "perm") != (0, *range(2, rank), 1):
        return Rejection(OTHER_LAYOUT, m.output)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    image = _image(m, conv.inputs[0], rank)
    if image is None or isinstance(image, Rejection):
        return image
    codes, scale = weight.inputs[:2]
    found = quantization(weight, m.facts)
    if found is None or found.dtype is not ir.DataType.INT8 or found.axis not in (None, 0):
        return Rejection(OTHER_WEIGHT, conv.inputs[1])
    if m.tensor(codes) is None or m.tensor(scale) is None or found.zero_point.any():
        return Rejection(OTHER_WEIGHT, conv.inputs[1])
    bias = _bias(m, conv)
    if bias is None:
        return Rejection(OTHER_BIAS, conv.inputs[2])
    scale = shortened(m, scale)
    name = "QuantizedChannelsLastConv" if image.parameters else "CompressedChannelsLastConv"
    define_convolution(m.editor.model, name)
    kept = {given: conv.attributes[given] for given in CONV_ATTRIBUTES if given in conv.attributes}
    result: ir.Value = gopt[name](
        image.value,
        *image.parameters,
        codes,
        scale,
        bias,
        perm=[0, rank - 1, *range(1, rank - 1)],
        back=[0, *range(2, rank), 1],
        **kept,
    )
    return result


def _bias(m: Match, conv: ir.Node) -> ir.Value | None:
    """The bias as floats, zeros where there is none; None where it is made at run time."""
    given = conv.inputs[2] if len(conv.inputs) > 2 else None
    weight = m.dims(conv.inputs[1]) if conv.inputs[1] is not None else None
    if weight is None or not isinstance(weight[0], int):
        return None
    if given is None:
        return constant(np.zeros(weight[0], np.float32))
    return given if m.tensor(given) is not None else floats_of_bias(m, given, weight[0])


def _image(m: Match, value: ir.Value | None, rank: int) -> Image | Rejection | None:
    """What lies above the Transpose, and above the pair that may stand on either side of it."""
    perm = (0, rank - 1, *range(1, rank - 1))
    parameters: tuple[ir.Value, ...] = ()
    is_turned = False
    for _ in range(2):
        node = value.producer() if value is not None else None
        if value is None or node is None or node.graph is not m.root.graph:
            break
        if not is_turned and node.op_type == "Transpose" and node.domain == "":
            if attribute(node, "perm") != perm:
                return Rejection(OTHER_LAYOUT, value)
            value, is_turned = node.inputs[0], True
        elif not parameters and is_dequantize(node):
            pair = _pair(m, node)
            if isinstance(pair, Rejection):
                return pair
            value, parameters = pair
    if value is None or not is_turned or m.dtype(value) is not ir.DataType.FLOAT:
        return None
    return Image(value, parameters)


def _pair(m: Match, node: ir.Node) -> tuple[ir.Value, tuple[ir.Value, ...]] | Rejection:
    """What a pair quantizes, and its scale and zero point."""
    codes, found = node.inputs[0], quantization(node, m.facts)
    quantize = codes.producer() if codes is not None else None
    if codes is None or quantize is None or not is_quantize(quantize) or found is None:
        return Rejection(OTHER_INPUT, node.outputs[0])
    same = quantization(quantize, m.facts)
    if same is None or not same.same_as(found) or found.axis is not None or found.dtype not in BYTES:
        return Rejection(OTHER_INPUT, node.outputs[0])
    floats, scale, *rest = quantize.inputs
    assert floats is not None and scale is not None, "they are not optional"
    zero = rest[0] if rest and rest[0] is not None else constant(np.zeros((), found.dtype.numpy()))
    return floats, (scale, zero)


@dataclass(frozen=True)
class FuseQuantizedConvolutions(Pass):
    """Fuse convolutions with stored weights between Transposes, for graphopt's own engine."""

    name = "fuse-quantized-convolutions"
    family = "quantization"
    stage = "target"
    level = 2
    targets = ("graphopt",)
    bound = "float32 within a few units in the last place of the largest term: bytes are summed exactly"
    rules = (convolution_between_transposes,)
