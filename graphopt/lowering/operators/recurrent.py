"""LSTM, GRU and RNN: one instruction each. Constant float32 weights are packed, a gate a group."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_float, attribute_int
from graphopt.ir.constants import constant
from graphopt.ir.element_types import FLOATS
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

# Numbers of kernels/ops/recurrent.h.
_CELLS = {"RNN": 0, "GRU": 1, "LSTM": 2}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DIRECTIONS = ("forward", "reverse", "bidirectional")
_DEFAULTS = {"RNN": ("tanh",), "GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
# Number, then the parameters that an activation takes with their defaults.
_ACTIVATIONS: dict[str, tuple[int, tuple[float, ...]]] = {
    "sigmoid": (0, ()),
    "tanh": (1, ()),
    "relu": (2, ()),
    "affine": (3, (1.0, 0.0)),
    "leakyrelu": (4, (0.01,)),
    "thresholdedrelu": (5, (1.0,)),
    "scaledtanh": (6, (1.0, 1.0)),
    "hardsigmoid": (7, (0.2, 0.5)),
    "elu": (8, (1.0,)),
    "softsign": (9, ()),
    "softplus": (10, ()),
}
_INPUTS = 8

declare("recurrent", inputs={0: Layout.ROWS})


@lowers("LSTM", "GRU", "RNN")
def recurrent(build: Builder, node: ir.Node) -> NotLowered | None:
    """All steps, all directions."""
    given: list[ir.Value | None] = [*node.inputs]
    x, w, r, *rest = given + [None] * (_INPUTS - len(given))
    assert x is not None and w is not None and r is not None, "sequence and weights are required"
    if build.dtype(x) not in FLOATS:
        return NotLowered(f"recurrent cells of element type {build.dtype(x)}")
    hidden = _hidden(build, node, r)
    direction = _DIRECTIONS.index(str(attribute(node, "direction", "forward")))
    directions = 2 if direction == 2 else 1
    activations = _activations(node, directions)
    if hidden is None or activations is None:
        return NotLowered("the number of hidden values is not known" if hidden is None else "activations")
    packed = build.dtype(x) == ir.DataType.FLOAT and _are_constant(w, r)
    flags = [attribute_int(node, name) for name in ("layout", "input_forget", "linear_before_reset")]
    ints = [
        _CELLS[node.op_type],
        hidden,
        direction,
        *flags,
        int(packed),
        *(kind for kind, _, _ in activations),
    ]
    floats = [
        attribute_float(node, "clip", 0.0),
        *(p for _, alpha, beta in activations for p in (alpha, beta)),
    ]
    groups = directions * _GATES[node.op_type]
    weights = [_packed(build, v, groups) if packed else build.register(v) for v in (w, r)]
    inputs = [build.register(x), *weights, *(build.register(v) for v in rest)]
    if node.op_type != "LSTM":
        inputs[6:] = [ABSENT, ABSENT]
    outputs = [build.output(node, i) for i in range(3)]
    build.emit("recurrent", inputs, outputs, ints, floats)
    return None


def _are_constant(*values: ir.Value) -> bool:
    return all(constant(value) is not None for value in values)


def _hidden(build: Builder, node: ir.Node, r: ir.Value) -> int | None:
    found = attribute(node, "hidden_size")
    if isinstance(found, int):
        return found
    dims = build.dims(r)
    return dims[2] if dims is not None and len(dims) == 3 and type(dims[2]) is int else None


def _packed(build: Builder, value: ir.Value, groups: int) -> int:
    """Weights of dims (directions, gates * hidden, depth) as panels."""
    array = build.constant(value)
    assert array is not None, "only constants are packed"
    return build.packed("conv.direct", [array.reshape(-1, array.shape[-1])], [groups])


def _activations(node: ir.Node, directions: int) -> list[tuple[int, float, float]] | None:
    """Number, alpha and beta of each activation of each direction; None: unknown ones."""
    given = attribute(node, "activations", _DEFAULTS[node.op_type] * directions)
    alphas, betas = (list(attribute(node, f"activation_{name}", ())) for name in ("alpha", "beta"))  # type: ignore[arg-type]
    assert isinstance(given, tuple), "activations are a list"
    found = []
    for name in given:
        known = _ACTIVATIONS.get(str(name).lower())
        if known is None:
            return None
        kind, defaults = known
        alpha = float(alphas.pop(0)) if alphas and defaults else (*defaults, 0.0)[0]  # type: ignore[arg-type]
        beta = float(betas.pop(0)) if betas and len(defaults) > 1 else (*defaults, 0.0, 0.0)[1]  # type: ignore[arg-type]
        found.append((kind, alpha, beta))
    return found if len(found) == len(_DEFAULTS[node.op_type]) * directions else None
