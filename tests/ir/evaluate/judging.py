"""Evaluated nodes held against onnxruntime, bit by bit."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir.evaluate import arithmetic, casts, evaluate, movement
from graphopt.ir.evaluate.call import Call
from graphopt.ir.evaluate.judges import by_onnxruntime

DIRECT = {**arithmetic.OPERATORS, **casts.OPERATORS, **movement.OPERATORS}
SPECIAL = [
    0.0,
    -0.0,
    np.nan,
    np.inf,
    -np.inf,
    1.5,
    -1.5,
    1e-40,
    -3e38,
    65504.0,
    1e-8,
    2.5,
    0.5,
    -0.5,
    3.5,
    1 / 3,
]


def node_of(op, count, *, outputs=1, domain="", **attributes):
    proto = onnx.helper.make_node(
        op,
        [f"x{i}" for i in range(count)],
        [f"y{i}" for i in range(outputs)],
        name="here",
        domain=domain,
        **attributes,
    )
    return ir.serde.deserialize_node(proto)


def compute(op, *arrays, opset=21, outputs=1, domain="", **attributes):
    node = node_of(op, len(arrays), outputs=outputs, domain=domain, **attributes)
    return evaluate(node, arrays, {"": opset, "com.microsoft": 1})


def same_bits(left, right):
    """Equal in dtype, shape and bits; a NaN is a NaN."""
    left, right = np.asarray(left), np.asarray(right)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.name.startswith(("bfloat", "float")):
        both = np.isnan(left) & np.isnan(right)
        left, right = np.where(both, 0, left.astype(np.float64)), np.where(both, 0, right.astype(np.float64))
    return left.tobytes() == right.tobytes()


def agrees(op, *arrays, opset=21, direct=True, outputs=1, **attributes):
    """numpy took the case (unless `direct` is None: it may), and onnxruntime gives the same."""
    node = node_of(op, len(arrays), outputs=outputs, **attributes)
    call = Call(node, arrays, opset)
    with np.errstate(all="ignore"):
        found = DIRECT[op](call)
    if direct is not None:
        assert (found is not None) is direct, "who computes it"
    judged = by_onnxruntime(call, {"": opset})
    assert judged is not None, "onnxruntime has no kernel: the test proves nothing"
    result = evaluate(node, arrays, {"": opset})
    assert len(result) == len(judged)
    for ours, theirs in zip(result, judged, strict=True):
        assert same_bits(ours, theirs), (op, arrays, ours, theirs)
