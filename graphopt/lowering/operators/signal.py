"""Signal processing: a short-time Fourier transform is one product.

The frames are a view of the signal whose rows overlap, so that nothing is cut out; the window is in
the weights:

    before   y[b, f] = DFT(signal[b, f * step : f * step + length] * window)
    after    y[b, f] = frames[b, f] @ (window * (cos, -sin)),   frames of strides (samples, step, 1)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.program import ABSENT, dense_strides
from graphopt.lowering.registry import NotLowered, lowers

# At 2048 numpy's fast transform takes as long, and the weights are 16 MB.
LONGEST_FRAME = 1024


@lowers("STFT")
def short_time_fourier_transform(build: Builder, node: ir.Node) -> NotLowered | None:
    """Real signals (batch, samples) or (batch, samples, 1), by a constant window and step."""
    signal, made = node.inputs[0], node.outputs[0]
    assert signal is not None, "a transform has a signal"
    dims = build.dims(signal)
    if build.dtype(signal) != ir.DataType.FLOAT:
        return NotLowered("element type")
    if dims is None or len(dims) not in (2, 3) or dims[2:] not in ((), (1,)):
        return NotLowered("a signal that is complex, or of unknown dims")
    step, window = _number(build, input_of(node, 1)), _window(build, node)
    if step is None or step < 1 or window is None or not 0 < window.size <= LONGEST_FRAME:
        return NotLowered("a step or window that is no constant, or too long a frame")
    result, x = build.dims(made), build.register(signal)
    if result is None or not build.module.registers[x].is_sized:
        return NotLowered("number of frames")
    batch, frames, *_ = result
    across, along = build.strides(x)[:2]
    rows = build.look(x, (batch, frames, window.size), (across, along * step, along))
    columns = 2 * len(_bins(node, window.size))
    weights = build.packed("gemm.f32", [_weights(node, window)], [0])
    dims = (batch, frames, columns)
    spectrum = build.look(build.output(node), dims, dense_strides(dims))
    ints, floats = (window.size, columns, 0, 0), (1.0, 0.0, 0.0, 1.0)
    build.emit("gemm", [rows, weights, ABSENT, ABSENT], [spectrum], ints, floats)
    return None


def _number(build: Builder, value: ir.Value | None) -> int | None:
    elements = None if value is None else build.elements(value)
    return elements[0] if elements and type(elements[0]) is int else None


def _window(build: Builder, node: ir.Node) -> npt.NDArray[np.float64] | None:
    """The window of a frame; None where it is not known, or not as long as the frame."""
    window, length = input_of(node, 2), input_of(node, 3)
    size = _number(build, length)
    if window is None:
        return None if size is None or size > LONGEST_FRAME else np.ones(size)
    array = build.constant(window)
    if array is None or (length is not None and size != array.size):
        return None
    return array.astype(np.float64)


def _bins(node: ir.Node, length: int) -> npt.NDArray[np.int64]:
    return np.arange(length // 2 + 1 if attribute(node, "onesided", 1) else length)


def _weights(node: ir.Node, window: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(length, 2 * bins): the real and the imaginary part of each bin side by side.

    Rounded, as sin(pi) is no 0: models take the phase of a spectrum, and of its real bins the sign of noise.
    """
    turns = np.outer(np.arange(window.size), _bins(node, window.size)) % window.size
    angles = turns * (-2 * np.pi / window.size)
    parts = np.stack([np.cos(angles), np.sin(angles)], axis=-1).round(15) * window[:, np.newaxis, np.newaxis]
    return parts.reshape(window.size, -1).astype(np.float32)
