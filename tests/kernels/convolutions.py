"""Calls of window kernels, and what they are held against: the same sums in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def channels_last_strides(dims: Sequence[int]) -> list[int]:
    """Strides in elements of (N, C, spatial...) whose channels are innermost."""
    order = [0, *range(2, len(dims)), 1]
    strides, step = [0] * len(dims), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= dims[axis]
    return strides


def channels_last(array: np.ndarray) -> np.ndarray:
    """The same tensor, its channels innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


@dataclass(frozen=True)
class Case:
    """A convolution."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    groups: int = 1
    auto_pad: str = "NOTSET"
    bias: bool = True
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return len(self.x) - 2

    def window(self) -> list[int]:
        """The window as kernels take it."""
        ones = (1,) * self.rank
        return [
            *self.w[2:],
            *(self.strides or ones),
            *(self.dilations or ones),
            *(self.pads or (0,) * (2 * self.rank)),
        ]

    def ints(self) -> list[int]:
        return [self.w[0], self.groups, AUTO_PADS.index(self.auto_pad), *self.window()]

    def attributes(self) -> dict[str, object]:
        made: dict[str, object] = {"kernel_shape": list(self.w[2:]), "group": self.groups, **self.extra}
        if self.strides:
            made["strides"] = list(self.strides)
        if self.dilations:
            made["dilations"] = list(self.dilations)
        if self.auto_pad != "NOTSET":
            made["auto_pad"] = self.auto_pad
        elif self.pads:
            made["pads"] = list(self.pads)
        return made

    def arrays(self, dtype: np.dtype = np.float32, seed: int = 0) -> list[np.ndarray | None]:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(self.x).astype(dtype)
        w = rng.standard_normal(self.w).astype(dtype)
        return [x, w, rng.standard_normal(self.w[0]).astype(dtype) if self.bias else None]


def model(
    op: str,
    arrays: Sequence[np.ndarray | None],
    attributes: dict[str, object],
    opset: int = 19,
    outputs: int = 1,
) -> onnx.ModelProto:
    """A model of one node."""
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op, names, results, **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(names, arrays, strict=True)
            if a is not None
        ],
        [onnx.helper.make_empty_tensor_value_info(r) for r in results],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)


def reference(
    op: str,
    arrays: Sequence[np.ndarray | None],
    attributes: dict[str, object],
    opset: int = 19,
    outputs: int = 1,
) -> list[np.ndarray]:
    """What the standard's own implementation gives."""
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    return ReferenceEvaluator(model(op, arrays, attributes, opset, outputs)).run(None, feeds)


def exact(op: str, case: Case, arrays: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """The sums in float64, and the same sums of magnitudes: the scale of rounding errors."""
    wide = [None if a is None else a.astype(np.float64) for a in arrays]
    (sums,) = reference(op, wide, case.attributes())
    (sizes,) = reference(op, [None if a is None else np.abs(a) for a in wide], case.attributes())
    return sums, sizes


def ort(
    op: str,
    arrays: Sequence[np.ndarray | None],
    attributes: dict[str, object],
    opset: int = 19,
    outputs: int = 1,
) -> list[np.ndarray]:
    """What onnxruntime gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model(op, arrays, attributes, opset, outputs).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    return session.run(None, {f"x{i}": a for i, a in enumerate(arrays) if a is not None})
