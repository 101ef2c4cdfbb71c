"""How a node is respelled where a newer version of its operator is written differently.

Each step takes an `Operation`, a draft of the node as of the version before, and turns it into the version it
is registered for. Where the new version can't say exactly the same it raises `Inexact` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.element_types import FLOATS

if TYPE_CHECKING:
    from graphopt.ir.inference import Facts

Array = npt.NDArray[np.generic]

_FLOAT_MAX = float(np.finfo(np.float32).max)


class Inexact(Exception):
    """The newer version can't say exactly the same; the message says why."""


@dataclass(slots=True)
class Operation:
    """A node on its way to a newer opset: what is decided so far, the node itself being untouched.

    Attributes:
        node: The node as it stands in the model.
        inputs: Its inputs; an array is a constant that has yet to become a value.
        outputs: How many outputs it keeps.
        facts: Facts of the model, made on the first question.
    """

    node: ir.Node
    op_type: str
    attributes: dict[str, ir.Attr]
    inputs: list[ir.Value | Array | None]
    outputs: int
    facts: Callable[[], Facts]

    @classmethod
    def of(cls, node: ir.Node, facts: Callable[[], Facts]) -> Operation:
        return cls(
            node, node.op_type, dict(node.attributes.items()), list(node.inputs), len(node.outputs), facts
        )

    def get(self, name: str) -> ir.Attr | None:
        """The attribute, or None where it is absent.

        Raises:
            Inexact: It refers to an attribute of a function, whose value is not known here.
        """
        attribute = self.attributes.get(name)
        if attribute is not None and attribute.is_ref():
            raise Inexact(f"attribute '{name}' refers to an attribute of the function")
        return attribute

    def integer(self, name: str, default: int) -> int:
        attribute = self.get(name)
        return default if attribute is None else attribute.as_int()

    def string(self, name: str, default: str) -> str:
        attribute = self.get(name)
        return default if attribute is None else attribute.as_string()

    def take_integers(self, name: str) -> list[int] | None:
        """Remove a list of integers from the attributes and return it."""
        attribute = self.get(name)
        self.attributes.pop(name, None)
        return None if attribute is None else list(attribute.as_ints())

    def take_float(self, name: str) -> float | None:
        """Remove a number from the attributes and return it."""
        attribute = self.get(name)
        self.attributes.pop(name, None)
        return None if attribute is None else attribute.as_float()

    def put(self, name: str, value: int | str) -> None:
        """Set an attribute."""
        self.attributes[name] = (
            ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrString(name, value)
        )

    def set_input(self, index: int, value: Array | None) -> None:
        """Set an input, and leave out those between."""
        self.inputs += [None] * (index + 1 - len(self.inputs))
        self.inputs[index] = value

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def uses_output(self, index: int) -> bool:
        """Whether anybody reads an output."""
        if index >= len(self.node.outputs):
            return False
        output = self.node.outputs[index]
        return bool(output.uses()) or output.is_graph_output()

    def dtype(self, index: int) -> ir.DataType:
        """Element type of an input.

        Raises:
            Inexact: It is not known.
        """
        value = self.inputs[index]
        if isinstance(value, ir.Value):
            known = value.dtype if value.dtype is not None else self.facts().dtype(value)
            if known is not None:
                return known
        raise Inexact(f"the element type of input {index} is not known")

    def rank(self, index: int) -> int | None:
        value = self.inputs[index]
        return self.facts().rank(value) if isinstance(value, ir.Value) else None

    def array(self, index: int) -> Array | None:
        """Contents of an input, where they are constant."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return constants.array(value) if isinstance(value, ir.Value) else value


def _integers(values: Sequence[int]) -> Array:
    return np.array(values, np.int64)


def _like(op: Operation, number: float) -> Array:
    """A scalar of the element type of input 0.

    Raises:
        Inexact: The number is none of that type.
    """
    dtype = op.dtype(0)
    with np.errstate(over="ignore"):
        scalar = np.array(number, np.float32).astype(dtype.numpy())
    if np.isfinite(scalar) and float(scalar) != float(np.float32(number)):
        raise Inexact(f"{number} is not a number of type {dtype}")
    return scalar


def _axes_to_input(op: Operation) -> None:
    # An empty list and none at all mean the same before and after: all axes.
    axes = op.take_integers("axes")
    if axes:
        op.set_input(1, _integers(axes))


def _unsqueeze(op: Operation) -> None:
    op.set_input(1, _integers(op.take_integers("axes") or ()))


def _split_to_input(op: Operation) -> None:
    parts = op.take_integers("split")
    if parts:
        op.set_input(1, _integers(parts))


def _split_count(op: Operation) -> None:
    if not op.has_input(1):
        op.put("num_outputs", len(op.node.outputs))


def _softmax(op: Operation) -> None:
    """Before 13 all axes from `axis` on were one; the new meaning is the same for the last axis only."""
    axis = op.integer("axis", 1)
    if axis != -1:
        rank = op.rank(0)
        if rank is None:
            raise Inexact("normalizes over all axes from 'axis' on, and the rank of the input is not known")
        if axis % rank != rank - 1:
            raise Inexact(f"normalizes over axes {axis % rank} to {rank - 1} together")
    op.put("axis", -1)


def _clip(op: Operation) -> None:
    low, high = op.take_float("min"), op.take_float("max")
    # Absent, a bound is the type's own limit from now on; it was float32's for all types.
    if low is None and high is None and op.dtype(0) == ir.DataType.FLOAT:
        return
    implied = op.dtype(0) != ir.DataType.FLOAT
    if low is not None or implied:
        op.set_input(1, _like(op, -_FLOAT_MAX if low is None else low))
    if high is not None or implied:
        op.set_input(2, _like(op, _FLOAT_MAX if high is None else high))


def _pad(op: Operation) -> None:
    pads, value = op.take_integers("pads"), op.take_float("value")
    op.set_input(1, _integers(pads or ()))
    if value:
        op.set_input(2, _like(op, value))


def _slice(op: Operation) -> None:
    axes = op.take_integers("axes")
    for index, name in ((1, "starts"), (2, "ends")):
        op.set_input(index, _integers(op.take_integers(name) or ()))
    if axes is not None:
        op.set_input(3, _integers(axes))


def _top_k(op: Operation) -> None:
    count = op.integer("k", -1)
    del op.attributes["k"]
    op.set_input(1, _integers([count]))


def _dropout_mask(op: Operation) -> None:
    if op.uses_output(1):
        raise Inexact("the mask was a number before and is true or false after")
    op.outputs = 1


def _dropout_ratio(op: Operation) -> None:
    if op.uses_output(1):
        raise Inexact("what the mask holds outside of training was not said before")
    op.outputs = 1
    ratio = op.take_float("ratio")
    if ratio is not None:
        op.set_input(1, np.array(ratio, np.float32))


def _upsample_scales(op: Operation) -> None:
    attribute = op.get("scales")
    scales = () if attribute is None else attribute.as_floats()
    op.attributes.pop("scales", None)
    op.set_input(1, np.array(scales, np.float32))


def _upsample_to_resize(op: Operation) -> None:
    op.op_type = "Resize"


def _resize_modes(op: Operation) -> None:
    """Resize-10 samples at x / scale, the nearest one being that below (enlarging) or above (shrinking)."""
    if op.string("mode", "nearest") == "nearest":
        scales = op.array(1)
        if scales is None or not bool((scales.astype(np.float64) >= 1).all()):
            raise Inexact("which pixel is the nearest depends on 'scales', not known to be 1 or more")
        op.put("nearest_mode", "floor")
    op.put("coordinate_transformation_mode", "asymmetric")
    op.inputs = [op.inputs[0], np.zeros(0, np.float32), op.inputs[1]]


def _resize_optional(op: Operation) -> None:
    mode = op.string("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_half_pixel_for_nn":
        raise Inexact("coordinate mode tf_half_pixel_for_nn was dropped")
    if isinstance(op.inputs[1], np.ndarray):
        op.inputs[1] = None  # put there, empty, only because version 11 asked for it
    if op.has_input(3):
        op.inputs[2] = None  # had to be empty beside sizes, has to be absent now


def _batch_spatial(op: Operation) -> None:
    if op.integer("spatial", 1) != 1:
        raise Inexact("normalizes each element on its own (spatial=0)")
    op.attributes.pop("spatial", None)


def _batch_outputs(op: Operation) -> None:
    if any(op.uses_output(index) for index in range(1, len(op.node.outputs))):
        raise Inexact("gives statistics of training")
    op.outputs = 1


def _grid_sample(op: Operation) -> None:
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(op.string("mode", "bilinear"))
    if renamed is not None and "mode" in op.attributes:
        op.put("mode", renamed)


def _group_normalization(op: Operation) -> None:
    """Version 18 scales by group, version 21 by channel: constants are repeated along each group."""
    if op.dtype(0) != ir.DataType.FLOAT:
        raise Inexact("the first stage was computed in the input's type and is in float32 after")
    data = op.inputs[0]
    dims = op.facts().dims(data) if isinstance(data, ir.Value) else None
    channels = dims[1] if dims is not None and len(dims) > 1 else None
    groups = op.integer("num_groups", 0)
    if not isinstance(channels, int) or not groups or channels % groups:
        raise Inexact("the number of channels is not known")
    for index in (1, 2):
        array = op.array(index)
        if array is None:
            raise Inexact("scale and bias are not constant")
        op.inputs[index] = np.repeat(array, channels // groups)


def _dft(op: Operation) -> None:
    axis = op.integer("axis", 1)
    op.attributes.pop("axis", None)
    op.set_input(2, np.array(axis, np.int64))


def _roi_align(op: Operation) -> None:
    op.put("coordinate_transformation_mode", "output_half_pixel")


def _scatter(op: Operation) -> None:
    op.op_type = "ScatterElements"


def _erf(op: Operation) -> None:
    if op.dtype(0) not in FLOATS:
        raise Inexact("integers are no longer taken")


def _without_ceil(op: Operation) -> None:
    """The pools of 22 changed which windows count at the right end of the padding."""
    if op.integer("ceil_mode", 0):
        raise Inexact("windows that begin in the padding count differently with ceil_mode=1")


def _without_ceil_and_auto_pad(op: Operation) -> None:
    if op.integer("ceil_mode", 0) and op.string("auto_pad", "NOTSET") != "NOTSET":
        raise Inexact("the size of the output differs with both ceil_mode=1 and auto_pad")


def _explicit_pads(op: Operation) -> None:
    """ConvTranspose-1 puts the odd element of padding on the other side."""
    if op.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in op.attributes:
        raise Inexact("padding that is computed falls on the other side")


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

STEPS: Mapping[tuple[str, int], Callable[[Operation], None]] = {
    ("AveragePool", 11): _without_ceil_and_auto_pad,
    ("AveragePool", 22): _without_ceil,
    ("BatchNormalization", 9): _batch_spatial,
    ("BatchNormalization", 14): _batch_outputs,
    ("Clip", 11): _clip,
    ("ConvTranspose", 11): _explicit_pads,
    ("DFT", 20): _dft,
    ("Dropout", 10): _dropout_mask,
    ("Dropout", 12): _dropout_ratio,
    ("Erf", 13): _erf,
    ("GridSample", 20): _grid_sample,
    ("GroupNormalization", 21): _group_normalization,
    ("Hardmax", 13): _softmax,
    ("LogSoftmax", 13): _softmax,
    ("MaxPool", 11): _without_ceil_and_auto_pad,
    ("MaxPool", 12): _without_ceil_and_auto_pad,
    ("MaxPool", 22): _without_ceil,
    ("Pad", 11): _pad,
    ("ReduceSum", 13): _axes_to_input,
    **{(f"Reduce{name}", 18): _axes_to_input for name in _REDUCTIONS},
    ("Resize", 11): _resize_modes,
    ("Resize", 13): _resize_optional,
    ("RoiAlign", 16): _roi_align,
    ("Scatter", 11): _scatter,
    ("Slice", 10): _slice,
    ("Softmax", 13): _softmax,
    ("Split", 13): _split_to_input,
    ("Split", 18): _split_count,
    ("Squeeze", 13): _axes_to_input,
    ("TopK", 10): _top_k,
    ("Unsqueeze", 13): _unsqueeze,
    ("Upsample", 9): _upsample_scales,
    ("Upsample", 10): _upsample_to_resize,
}
"""By operator and the version that is reached."""
