"""Operators of our own, domain `ai.graphopt`: each a model-local function whose body is standard ONNX.

The body says what the operator is: any runtime can run it, and our engine runs the call as one instruction.
A function can't choose its operators by an attribute, so each activation has an operator to itself.
"""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

__all__ = ["ACTIVATIONS", "DOMAIN", "VERSION", "define_fully_connected", "fully_connected"]

DOMAIN = "ai.graphopt"
VERSION = 1

# The activations that FullyConnected takes in, with their attributes and the types of those.
ACTIVATIONS: dict[str, dict[str, str]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "HardSwish": {},
    "Gelu": {"approximate": "string"},
    "LeakyRelu": {"alpha": "float"},
    "HardSigmoid": {"alpha": "float", "beta": "float"},
}


def fully_connected(activation: str = "") -> str:
    """The operator for x[..., K] @ w[K, N] + b[N], followed by an activation."""
    return f"FullyConnected{activation}"


def define_fully_connected(model: ir.Model, activation: str = "") -> str:
    """Add the function of `fully_connected(activation)` to a model that has none yet; returns its name."""
    name = fully_connected(activation)
    if (DOMAIN, name, "") in model.functions:
        return name
    opset = model.opset_imports.get("", 1)
    attributes = ACTIVATIONS[activation] if activation else {}
    declared = f"<{', '.join(attributes)}>" if attributes else ""
    given = f"<{', '.join(f'{a}: {kind} = @{a}' for a, kind in attributes.items())}>" if attributes else ""
    last = f"s = Add (p, b) y = {activation} {given} (s)" if activation else "y = Add (p, b)"
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
        f"{name} {declared} (x, w, b) => (y) {{ p = MatMul (x, w) {last} }}"
    )
    function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    model.functions[function.identifier()] = function
    model.opset_imports.setdefault(DOMAIN, VERSION)
    return name
