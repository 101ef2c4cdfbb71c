"""DynamicQuantizeLSTM: an LSTM whose products are of bytes, each operand quantized by the range that it has.

The sequence is multiplied at once, as one tensor with one range; what a step hands on has a range of its own:

    xw = dynamic(x) @ w + bias
    Scan over xw:  i, o, f, n = split(xw[t] + dynamic(h) @ r)
                   c = sigmoid(f) * c + sigmoid(i) * tanh(n)      h = sigmoid(o) * tanh(c)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphopt.ir.attributes import attribute
from graphopt.ir.constants import array
from graphopt.lowering.contributed.body import Body, writes

__all__: list[str] = []

_DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
_USUAL = ("sigmoid", "tanh", "tanh")
_GATES = 4


@dataclass(frozen=True, slots=True)
class _Weights:
    """Codes [directions, depth, gates]; a scale and a zero point for each direction, or each of its gates."""

    codes: npt.NDArray[np.generic]
    scale: npt.NDArray[np.generic]
    zero: npt.NDArray[np.generic]

    def of(self, body: Body, direction: int) -> tuple[str, str, str]:
        """Those of one direction."""
        parts = (np.ascontiguousarray(of[direction]) for of in (self.codes, self.zero, self.scale))
        codes, zero, scale = map(body.constant, parts)
        return codes, zero, scale


@writes("DynamicQuantizeLSTM")
def _lstm(body: Body) -> list[str] | None:
    """X, W, R, B, lengths, first h and c, peepholes; scale and zero point of W, and of R."""
    directions = _DIRECTIONS[str(attribute(body.node, "direction", "forward"))]
    w, r = _weights(body, 1, 8), _weights(body, 2, 10)
    bias = array(body.node.inputs[3]) if body.operand(3) else None
    if w is None or r is None or (bias is None and body.operand(3)) or not _is_plain(body, len(directions)):
        return None
    x = body.quantized(body.operand(0))
    ends: list[tuple[str, str, str]] = []
    for place, backwards in enumerate(directions):
        codes, zero, scale = w.of(body, place)
        gates = _product(body, x, codes, zero, scale)
        if bias is not None:
            both = np.split(bias[place], 2)
            gates = body("Add", gates, body.constant(both[0] + both[1]))
        hidden = w.codes.shape[2] // _GATES
        first = [_first(body, k, place, hidden) for k in (5, 6)]
        h, c, y = _steps(body, gates, first, r.of(body, place), bool(backwards))
        # Without steps nothing else says how wide they would have been.
        dims = body("Concat", body("Shape", x[0], end=2), body.constant(np.array([hidden], np.int64)), axis=0)
        ends.append((body("Reshape", y, dims, allowzero=1), h, c))
    outer = body.constant(np.array([0], np.int64))
    inner = body.constant(np.array([1], np.int64))
    joined = []
    for parts, axis in zip(zip(*ends, strict=True), (inner, outer, outer), strict=True):
        unsqueezed = [body("Unsqueeze", part, axis) for part in parts]
        joined.append(body("Concat", *unsqueezed, axis=1 if axis is inner else 0))
    return joined


def _is_plain(body: Body, directions: int) -> bool:
    """Whether no sequence ends early and the cells are the usual ones."""
    given = attribute(body.node, "activations", _USUAL * directions)
    usual = isinstance(given, tuple) and [str(name).lower() for name in given] == [*_USUAL] * directions
    others = (body.operand(4), body.operand(7), *body.attributes("clip", "input_forget").values())
    return usual and not any(others)


def _weights(body: Body, place: int, scale: int) -> _Weights | None:
    given = body.node.inputs
    codes, scales = array(given[place]), array(given[scale])
    if codes is None or scales is None:
        return None
    zeros = array(given[scale + 1]) if body.operand(scale + 1) else np.zeros(scales.shape, codes.dtype)
    return None if zeros is None else _Weights(codes, scales, zeros)


def _product(body: Body, x: tuple[str, str, str], codes: str, zero: str, scale: str) -> str:
    """Floats: a quantized value times weights."""
    sums = body("Cast", body("MatMulInteger", x[0], codes, x[2], zero), to=TensorProto.FLOAT)
    return body("Mul", sums, body("Mul", x[1], scale))


def _first(body: Body, place: int, direction: int, hidden: int) -> str:
    """What the first step is handed, [batch, hidden]."""
    if body.operand(place):
        return body("Gather", body.operand(place), body.constant(np.array(direction)), axis=0)
    batch = body("Shape", body.operand(0), start=1, end=2)
    dims = body("Concat", batch, body.constant(np.array([hidden], np.int64)), axis=0)
    return body("ConstantOfShape", dims, value=numpy_helper.from_array(np.zeros(1, np.float32)))


def _steps(
    body: Body, gates: str, first: list[str], r: tuple[str, str, str], backwards: bool
) -> tuple[str, str, str]:
    """The last h and c, and all h [steps, batch, hidden]."""
    step = Body(body.node, body.facts, prefix=f"{gates}_")
    gates_of_step, h, c = (f"{gates}_{name}" for name in ("x", "h", "c"))
    total = step("Add", gates_of_step, _product(step, step.quantized(h), *r))
    i, o, f, n = step.split(total, _GATES)
    kept = step("Mul", step("Sigmoid", f), c)
    cell = step("Add", kept, step("Mul", step("Sigmoid", i), step("Tanh", n)))
    handed_on = step("Mul", step("Sigmoid", o), step("Tanh", cell))
    again = step("Identity", handed_on)
    graph = helper.make_graph(
        step.nodes,
        "step",
        [onnx.ValueInfoProto(name=name) for name in (h, c, gates_of_step)],
        [onnx.ValueInfoProto(name=name) for name in (handed_on, cell, again)],
    )
    outputs = [f"{gates}_{name}" for name in ("last_h", "last_c", "all_h")]
    order = {f"scan_{ends}_directions": [int(backwards)] for ends in ("input", "output")}
    body.add("Scan", [*first, gates], outputs, {"body": graph, "num_scan_inputs": 1, **order})
    return outputs[0], outputs[1], outputs[2]
