"""What control flow itself costs in onnxruntime: starting a body, and each of its iterations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.cost_fits import Cost

TRIPS = (1, 8, 64)
COPIES = 4

Timer = Callable[[onnx.ModelProto, dict[str, NDArray[np.generic]]], float]

_FEEDS: dict[str, NDArray[np.generic]] = {"x": np.ones(1, np.float32)}

_BODIES = {
    "Loop": (
        "y{i} = Loop (trips, yes, x) <body = b{i} (int64 n{i}, bool c{i}, float[1] h{i}) "
        "=> (bool d{i}, float[1] g{i}) {{ d{i} = Identity (c{i}) g{i} = Neg (h{i}) }}>"
    ),
    "Scan": (
        "y{i} = Scan <num_scan_inputs = 1, body = b{i} (float[1] h{i}) => (float[1] g{i}) "
        "{{ g{i} = Neg (h{i}) }}> (rows)"
    ),
    "If": (
        "y{i} = If (yes) <then_branch = t{i} () => (float[1] p{i}) {{ p{i} = Neg (x) }}, "
        "else_branch = e{i} () => (float[1] q{i}) {{ q{i} = Abs (x) }}>"
    ),
}
# Operators of a body, whose own time is taken off.
_INSIDE = {"Loop": 1, "Scan": 1, "If": 1}


def loop_cost(op_type: str, least: Timer) -> Cost:
    """a and b: ns of one If, Loop or Scan, and of each iteration, the operators inside left out."""
    inner = (least(_plain(2 * COPIES), _FEEDS) - least(_plain(COPIES), _FEEDS)) / COPIES
    times = [
        (least(_model(op_type, COPIES, t), _FEEDS) - least(_model(op_type, 0, t), _FEEDS)) / COPIES
        for t in TRIPS
    ]
    if op_type == "If":
        return Cost(max(min(times) - inner, 1.0), 0.0, 0.0, 0.0)
    slope = (times[-1] - times[0]) / (TRIPS[-1] - TRIPS[0])
    return Cost(max(times[0] - slope, 1.0), max(slope - inner * _INSIDE[op_type], 1.0), 0.0, 0.0)


def _plain(count: int) -> onnx.ModelProto:
    return _parsed(" ".join(f"y{i} = Neg (x)" for i in range(count)), 1)


def _model(op_type: str, count: int, trips: int) -> onnx.ModelProto:
    return _parsed(" ".join(_BODIES[op_type].format(i=i) for i in range(count)), trips)


def _parsed(nodes: str, trips: int) -> onnx.ModelProto:
    text = (
        '<ir_version: 10, opset_import: ["": 23]> g (float[1] x) => (float[1] last) '
        f"<int64 trips = {{{trips}}}, bool yes = {{1}}> {{ {nodes} last = Identity (x) }}"
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((trips, 1), np.float32), "rows"))
    return model
