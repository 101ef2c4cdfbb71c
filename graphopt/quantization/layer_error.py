"""How far the output of a layer moves when its input and weight are quantized, on rows that were seen.

The input and the weight may be rescaled along the channels between them; what comes out is compared in the
units that it had before. Everything is of one layer alone: what quantizing others does is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quantizing import Grid, asymmetric, channel_grid, dequantized, quantized
from graphopt.quantization.observers import Method, Observer
from graphopt.quantization.products import Product
from graphopt.quantization.statistics import InputStatistics

__all__ = ["LayerErrors"]

# Rows that errors are measured on, of those that were kept: candidates are told apart by far fewer.
ROWS = 128

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


@dataclass(eq=False)
class LayerErrors:
    """One layer with what calibration has seen of its input.

    Attributes:
        product: How it is a matrix product.
        weight: Its weight.
        channels: The weight's axis of the outputs.
        statistics: Of its input.
        observer: How the range of an input is chosen.
        per_tensor: Whether the weight has one scale for all.
        bias: What is added to its outputs; None: nothing.
        gives_codes: Whether what it gives is quantized, too, as it is.
    """

    product: Product
    weight: Floats
    channels: int
    statistics: InputStatistics
    observer: Method
    per_tensor: bool = False
    bias: Floats | None = None
    gives_codes: bool = False
    _rows: dict[bool, Floats] = field(default_factory=dict)
    _outputs: dict[bool, Wide] = field(default_factory=dict)

    def rows(self, *, held_out: bool) -> Floats:
        """Rows of the input: to choose by, or to judge by."""
        if held_out not in self._rows:
            rows = self.statistics.held_out if held_out else self.statistics.fit
            self._rows[held_out] = np.ascontiguousarray(rows[:: max(-(-len(rows) // ROWS), 1)])
        return self._rows[held_out]

    def signal(self, *, held_out: bool) -> float:
        """Mean square of what it gives, summed over its outputs."""
        return float((self._reference(held_out) ** 2).mean(1).sum())

    def differences(
        self,
        inputs: Wide,
        weights: Mapping[int, Wide],
        outputs: Wide,
        *,
        held_out: bool,
        shared: dict[tuple[int, bool, bytes], Floats],
    ) -> Wide:
        """What quantizing changes of its output: [group, rows, outputs].

        Args:
            inputs: What the channels of its input are multiplied by.
            weights: What the weight is multiplied by, along its axes.
            outputs: What its outputs are multiplied by thereby; undone here.
            held_out: Which rows.
            shared: Inputs quantized before, for layers that share them.
        """
        key = (id(self.statistics), held_out, inputs.tobytes())
        if key not in shared:
            shared[key] = self._quantized_rows(inputs, held_out)
        scaled = self.weight.astype(np.float64)
        for axis, factors in weights.items():
            scaled = scaled * _along(factors, axis, scaled.ndim)
        given = scaled.astype(np.float32)
        grid = channel_grid(given, None if self.per_tensor else self.channels)
        near = dequantized(quantized(given, grid), grid) / _along(outputs, self.channels, given.ndim)
        matrix = self.product.matrix(near.astype(np.float32))
        found: Wide = shared[key].transpose(1, 0, 2) @ matrix.astype(np.float32) - self._reference(held_out)
        return found

    def rounded_outputs(self, outputs: Wide, *, held_out: bool) -> Wide:
        """Mean square of what quantizing its outputs changes of each, in the units that they had before.

        Args:
            outputs: What they are multiplied by.
            held_out: Which rows.
        """
        factors = self._on_columns(outputs)
        bias = 0.0 if self.bias is None else self._on_columns(self.bias)
        scaled = ((self._reference(held_out) + bias) * factors).astype(np.float32)
        seen = scaled if not held_out else ((self._reference(False) + bias) * factors).astype(np.float32)
        return self.of_channels((((_near(scaled, seen, self.observer) - scaled) / factors) ** 2).mean(1))

    def of_channels(self, columns: Wide) -> Wide:
        """What belongs to each output channel of the weight, of numbers for its columns [group, columns]."""
        if self.product.op_type == "ConvTranspose":
            found: Wide = columns.reshape(self.product.groups, self.product.shape[1], -1).sum((0, 2))
            return found
        return columns.reshape(-1)

    def _on_columns(self, channels: Wide | Floats) -> Wide:
        """Numbers of output channels, or of those of one group, for each column: [group, 1, columns]."""
        columns = self.product.matrix(self.weight).shape[2]
        kernel = int(np.prod(self.product.kernel)) if self.product.op_type == "ConvTranspose" else 1
        return np.repeat(channels.astype(np.float64).reshape(-1, 1, columns // kernel), kernel, axis=2)

    def _reference(self, held_out: bool) -> Wide:
        if held_out not in self._outputs:
            rows = self.rows(held_out=held_out)
            outputs = rows.transpose(1, 0, 2) @ self.product.matrix(self.weight).astype(np.float32)
            self._outputs[held_out] = outputs.astype(np.float64)
        return self._outputs[held_out]

    def _quantized_rows(self, factors: Wide, held_out: bool) -> Floats:
        rows = self.rows(held_out=held_out)
        kernel = self.product.depth * self.product.groups // self.product.channels
        spread = np.repeat(factors, kernel).reshape(self.product.groups, self.product.depth)
        scaled = (rows * spread).astype(np.float32)
        # Held-out rows are quantized by the range that the others have.
        seen = scaled if not held_out else (self.rows(held_out=False) * spread).astype(np.float32)
        return _near(scaled, seen, self.observer)


def _near(array: Floats, seen: Floats, method: Method) -> Floats:
    """Quantized with one scale, by the range of what was seen."""
    observer = Observer()
    observer.update(seen)
    if not observer.is_observed:
        return array
    scale, zero = asymmetric(*observer.range(method), ir.DataType.UINT8)
    grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
    return dequantized(quantized(array, grid), grid)


def _along(factors: Wide, axis: int, rank: int) -> Wide:
    dims = [1] * rank
    dims[axis] = factors.size
    return factors.reshape(dims)
