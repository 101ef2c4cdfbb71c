"""Operators that onnxruntime's optimizer fuses of several."""

from __future__ import annotations

from graphopt.ir.attributes import attribute, attribute_float
from graphopt.lowering.contributed.body import Body, writes

__all__: list[str] = []


@writes("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_layer_norm(body: Body) -> list[str] | None:
    """input, skip, gamma, (beta,) bias; the result, two statistics for training, and the sum."""
    if any(output.uses() or output.is_graph_output() for output in body.node.outputs[1:3]):
        return None
    simple = body.node.op_type == "SkipSimplifiedLayerNormalization"
    epsilon = attribute_float(body.node, "epsilon", 1e-12)
    total = body("Add", body.operand(0), body.operand(1))
    bias = body.operand(3 if simple else 4)
    if bias:
        total = body("Add", total, bias)
    gamma = body.operand(2)
    if simple:
        body.opset = 23
        result = body("RMSNormalization", total, gamma, axis=-1, epsilon=epsilon)
    else:
        beta = [body.operand(3)] if body.operand(3) else []
        result = body("LayerNormalization", total, gamma, *beta, axis=-1, epsilon=epsilon)
    return [result, body("Identity", total), body("Identity", total), total]


@writes("FusedGemm")
def _fused_gemm(body: Body) -> list[str] | None:
    """A Gemm, then an activation whose parameters have names of their own."""
    names = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}
    activation = attribute(body.node, "activation")
    if not isinstance(activation, str):
        return None
    c = [body.operand(2)] if body.operand(2) else []
    given = body.attributes("alpha", "beta", "transA", "transB")
    result = body("Gemm", body.operand(0), body.operand(1), *c, **given)
    parameters = body.attributes(*(f"activation_{name}" for name in names.get(activation, ())))
    plain = {name.removeprefix("activation_"): value for name, value in parameters.items()}
    return [body(activation, result, **plain)]
