"""Replacements are written in the newest spelling of an operator; this gives the model's own.

Axes, splits, pads and bounds were attributes in older opsets and are inputs in newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants


@dataclass(frozen=True, slots=True)
class _Moved:
    """From opset `since` on, input `index` is what attribute `name` was."""

    index: int
    name: str
    since: int
    is_scalar: bool = False


_AXES_13 = (_Moved(1, "axes", 13),)
_AXES_18 = (_Moved(1, "axes", 18),)

MOVED: dict[str, tuple[_Moved, ...]] = {
    "Squeeze": _AXES_13,
    "Unsqueeze": _AXES_13,
    "ReduceSum": _AXES_13,
    "ReduceMean": _AXES_18,
    "ReduceMax": _AXES_18,
    "ReduceMin": _AXES_18,
    "ReduceProd": _AXES_18,
    "ReduceL1": _AXES_18,
    "ReduceL2": _AXES_18,
    "ReduceLogSum": _AXES_18,
    "ReduceLogSumExp": _AXES_18,
    "ReduceSumSquare": _AXES_18,
    "Split": (_Moved(1, "split", 13),),
    "Slice": (_Moved(1, "starts", 10), _Moved(2, "ends", 10), _Moved(3, "axes", 10)),
    "Pad": (_Moved(1, "pads", 11), _Moved(2, "value", 11, is_scalar=True)),
    "Clip": (_Moved(1, "min", 11, is_scalar=True), _Moved(2, "max", 11, is_scalar=True)),
    "TopK": (_Moved(1, "k", 10, is_scalar=True),),
    "Dropout": (_Moved(1, "ratio", 12, is_scalar=True),),
}


class NotExpressible(Exception):
    """The operator can't be written like this at the model's opset."""


Input = ir.Value | np.ndarray | None


def in_opset(
    op_type: str, inputs: Sequence[Input], attributes: dict[str, object], opset: int
) -> tuple[list[Input], dict[str, object]]:
    """Move inputs to attributes where the opset wants them there.

    Raises:
        NotExpressible: If such an input is not a constant.
    """
    found, written = list(inputs), dict(attributes)
    for moved in reversed(MOVED.get(op_type, ())):
        if opset >= moved.since or moved.index >= len(found):
            continue
        given = found.pop(moved.index)
        if given is None:
            continue
        array = given if isinstance(given, np.ndarray) else constants.array(given)
        if array is None:
            raise NotExpressible(f"{op_type} at opset {opset} takes {moved.name} as an attribute only")
        written[moved.name] = array.reshape(()).item() if moved.is_scalar else array.reshape(-1).tolist()
    if op_type == "Split" and opset < 18:
        written.pop("num_outputs", None)
    while found and found[-1] is None:
        found.pop()
    return found, written
