"""Operators of our own, domain `ai.graphopt`: each a model-local function whose body is standard ONNX.

The body says what the operator is: any runtime can run it, and our engine runs the call as one instruction.
A function can't choose its operators by an attribute, so each activation has an operator to itself.

    FullyConnected(x, w, b)                                 x @ w + b
    QuantizedFullyConnected(x, x_scale, x_zero, w, w_scale, b)   x quantized, multiplied as bytes
    IntegerFullyConnected(x, x_scale, x_zero, w, w_scale, b)     the same of an x that is bytes already
    DynamicFullyConnected(x, w, w_scale, b)                 x quantized by the range that it has
    CompressedFullyConnected(x, w, w_scale, b)              w stored as integers, multiplied as floats

`...MatMul` has no bias; a name may end with the activation that follows, or with `Add` where another tensor
is added at last. The same of convolutions over [N, spatial.., C] is `...ChannelsLastConv`. Of the last four
w_scale may be float16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
import onnx.parser
import onnx_ir as ir

__all__ = [
    "ACTIVATIONS",
    "ACTIVATIONS_SINCE",
    "CONVOLUTIONS",
    "CONV_ATTRIBUTES",
    "DOMAIN",
    "FORMS",
    "PRODUCTS",
    "VERSION",
    "Form",
    "Product",
    "define_convolution",
    "define_fully_connected",
    "define_product",
    "fully_connected",
]

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
# The opsets that first have them, where that is not 7 or earlier.
ACTIVATIONS_SINCE = {"HardSwish": 14, "Gelu": 20}

Form = Literal["Quantized", "Integer", "Dynamic", "Compressed"]

# What operands each form has in front of the bias, and the nodes that make the product `m` of them.
FORMS: dict[Form, tuple[tuple[str, ...], str]] = {
    "Quantized": (
        ("x", "x_scale", "x_zero", "w", "w_scale"),
        "q = QuantizeLinear (x, x_scale, x_zero) p = MatMulInteger (q, w, x_zero) f = Cast <to: int = 1> (p) "
        "v = Cast <to: int = 1> (w_scale) s = Mul (x_scale, v) m = Mul (f, s)",
    ),
    "Integer": (
        ("x", "x_scale", "x_zero", "w", "w_scale"),
        "p = MatMulInteger (x, w, x_zero) f = Cast <to: int = 1> (p) "
        "v = Cast <to: int = 1> (w_scale) s = Mul (x_scale, v) m = Mul (f, s)",
    ),
    "Dynamic": (
        ("x", "w", "w_scale"),
        "q, x_scale, x_zero = DynamicQuantizeLinear (x) p = MatMulInteger (q, w, x_zero) "
        "f = Cast <to: int = 1> (p) v = Cast <to: int = 1> (w_scale) s = Mul (x_scale, v) m = Mul (f, s)",
    ),
    "Compressed": (
        ("x", "w", "w_scale"),
        "v = Cast <to: int = 1> (w_scale) "
        "d = DequantizeLinear <axis: int = @axis, block_size: int = @block_size> (w, v) "
        "m = MatMul (x, d)",
    ),
}
# Blocks came to DequantizeLinear with this version.
_BLOCKS_SINCE = 21

# Convolutions by integers w[M, C / group, ..] of x[N, spatial.., C]: `perm` brings C to the front, `back` to
# the end again; the other attributes are those of Conv.
CONVOLUTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "QuantizedChannelsLastConv": (
        ("x", "x_scale", "x_zero", "w", "w_scale", "b"),
        "q = QuantizeLinear (x, x_scale, x_zero) t = Transpose <perm: ints = @perm> (q) "
        "p = ConvInteger <{given}> (t, w, x_zero) u = Transpose <perm: ints = @back> (p) "
        "f = Cast <to: int = 1> (u) v = Cast <to: int = 1> (w_scale) s = Mul (x_scale, v) m = Mul (f, s) "
        "y = Add (m, b)",
    ),
    "CompressedChannelsLastConv": (
        ("x", "w", "w_scale", "b"),
        "t = Transpose <perm: ints = @perm> (x) v = Cast <to: int = 1> (w_scale) "
        "d = DequantizeLinear <axis: int = 0> (w, v) "
        "c = Conv <{given}> (t, d, b) y = Transpose <perm: ints = @back> (c)",
    ),
}
CONV_ATTRIBUTES = {
    "auto_pad": "string",
    "dilations": "ints",
    "group": "int",
    "kernel_shape": "ints",
    "pads": "ints",
    "strides": "ints",
}


def fully_connected(activation: str = "") -> str:
    """The operator for x[..., K] @ w[K, N] + b[N], followed by an activation."""
    return f"FullyConnected{activation}"


@dataclass(frozen=True, slots=True)
class Product:
    """An operator for a product with constant integers w[K, N].

    Attributes:
        form: How it is computed.
        has_bias: Whether b[N] is added.
        activation: What follows; "" for nothing.
        adds: Whether a tensor of the product's shape is added at last.
    """

    form: Form
    has_bias: bool = False
    activation: str = ""
    adds: bool = False

    @property
    def name(self) -> str:
        """What the operator is called."""
        kind = fully_connected(self.activation) if self.has_bias else "MatMul"
        return f"{self.form}{kind}{'Add' if self.adds else ''}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its operands."""
        return (*FORMS[self.form][0], *("b",) * self.has_bias, *("r",) * self.adds)

    def index(self, operand: str) -> int:
        """Which input an operand is."""
        return self.inputs.index(operand)


# By name. An activation goes with a bias, and nothing is added behind one.
PRODUCTS: dict[str, Product] = {
    product.name: product
    for form in FORMS
    for product in (
        Product(form),
        Product(form, adds=True),
        Product(form, has_bias=True, adds=True),
        *(Product(form, has_bias=True, activation=activation) for activation in ("", *ACTIVATIONS)),
    )
}


def define_fully_connected(model: ir.Model, activation: str = "") -> str:
    """Add the function of `fully_connected(activation)` to a model that has none yet; returns its name."""
    name = fully_connected(activation)
    return _define(
        model, name, ("x", "w", "b"), "m = MatMul (x, w) " + _end("Add (m, b)", activation), activation
    )


def define_product(model: ir.Model, product: Product) -> str:
    """Add the function of a product to a model that has none yet; returns its name."""
    nodes = FORMS[product.form][1]
    declared: tuple[str, ...] = ()
    if product.form == "Compressed":
        declared = ("axis", "block_size")
        if model.opset_imports.get("", 1) < _BLOCKS_SINCE:
            declared, nodes = ("axis",), nodes.replace(", block_size: int = @block_size", "")
    if product.has_bias:
        last = _end("Add (m, b)", product.activation, "c" if product.adds else "y")
        nodes += f" {last}" + (" y = Add (c, r)" if product.adds else "")
    elif product.adds:
        nodes += " y = Add (m, r)"
    else:
        nodes = nodes.replace("m = M", "y = M")
    return _define(model, product.name, product.inputs, nodes, product.activation, declared)


def define_convolution(model: ir.Model, name: str) -> str:
    """Add the function of one of `CONVOLUTIONS` to a model that has none yet; returns its name."""
    inputs, nodes = CONVOLUTIONS[name]
    given = ", ".join(f"{name}: {kind} = @{name}" for name, kind in CONV_ATTRIBUTES.items())
    return _define(model, name, inputs, nodes.format(given=given), "", ("perm", "back", *CONV_ATTRIBUTES))


def _end(added: str, activation: str, result: str = "y") -> str:
    """A bias, and the activation that follows."""
    if not activation:
        return f"{result} = {added}"
    given = ", ".join(f"{name}: {kind} = @{name}" for name, kind in ACTIVATIONS[activation].items())
    return f"a = {added} {result} = {activation} {f'<{given}>' if given else ''} (a)"


def _define(
    model: ir.Model,
    name: str,
    inputs: tuple[str, ...],
    nodes: str,
    activation: str = "",
    attributes: tuple[str, ...] = (),
) -> str:
    if (DOMAIN, name, "") in model.functions:
        return name
    opset = model.opset_imports.get("", 1)
    attributes += tuple(ACTIVATIONS[activation]) if activation else ()
    declared = f"<{', '.join(attributes)}>" if attributes else ""
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
        f"{name} {declared} ({', '.join(inputs)}) => (y) {{ {nodes} }}"
    )
    function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    model.functions[function.identifier()] = function
    model.opset_imports.setdefault(DOMAIN, VERSION)
    return name
