"""Store weights as integers of 8 or 4 bits; everything is computed in floats as before.

    before   MatMul(x, w)
    after    MatMul(x, DequantizeLinear(codes, scale))

8 bits: symmetric, a scale for each output. 4 bits: a scale for each block of `block-size` along the axis that
is summed (opset 21), for the weights of MatMul and Gemm; all others get 8 bits. Weights smaller than
`smallest` elements stay: their scales and the operator would take what the codes save. So do those that have
NaN or infinities in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.quantizing import Grid, block_grid, channel_grid
from graphopt.ir.scopes import all_graphs
from graphopt.rewriting import Pass
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.stored_weights import StoredWeights

# First versions with a scale for each position of an axis, and for blocks of 4 bits.
AXIS_SINCE = 13
BLOCKS_SINCE = 21


@dataclass(frozen=True)
class CompressWeights(Pass):
    """Store weights as integers of 8 or 4 bits; everything is computed in floats as before.

    Attributes:
        bits: 8 or 4.
        block_size: How many weights of 4 bits share a scale.
        smallest: Weights of fewer elements stay floats.
    """

    name = "compress-weights"
    family = "quantization"
    stage = "on-request"
    level = 1
    bound = "weights are rounded to 8 or 4 bits"

    bits: int = 8
    block_size: int = 32
    smallest: int = 1024

    def run_model(self, editor: Editor) -> None:
        if self.bits not in (4, 8) or self.block_size < 1:
            raise UsageError(f"compress-weights stores 8 or 4 bits in blocks of 1 or more, not {self}")
        needed = BLOCKS_SINCE if self.bits == 4 else AXIS_SINCE
        users: dict[ir.Value, list[Weight]] = {}
        for graph in all_graphs(editor.model):
            for node in graph:
                weight = weight_of(node)
                if weight is None or weight.tensor.size < self.smallest or editor.opset_at(node) < needed:
                    continue
                users.setdefault(weight.value, []).append(weight)
        stored = StoredWeights(editor)
        for found in users.values():
            array = found[0].tensor.numpy()
            if np.isfinite(array).all():
                stored.store(self._grid(found, array), found)

    def _grid(self, users: list[Weight], array: np.ndarray) -> Grid:
        first = users[0]
        # One scale for all where users differ in what their outputs are.
        channels = first.channels if all(u.channels == first.channels for u in users) else None
        depth = first.depth if all(u.depth == first.depth for u in users) else None
        if self.bits == 4 and depth is not None and array.shape[depth] > self.block_size:
            return block_grid(array, depth, self.block_size)
        return channel_grid(array, channels)
