"""Writes a graph the way exporters do: node by node, constants as nodes, names from module paths.

Weights come from the raw bits of PCG64, so a model is the same file on every machine and with every numpy.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT32 = NDArray[np.float32]
Attribute = int | float | str | Sequence[int] | onnx.TensorProto | onnx.GraphProto

# IR version of each opset's release, as far as the builders use them: old runtimes can still load the files.
IR_VERSIONS = {13: 7, 14: 7, 17: 8, 18: 8, 20: 9, 21: 10, 23: 11}


def uniform(shape: Sequence[int], key: str, low: float, high: float) -> FLOAT32:
    """Values in [low, high), the same for the same key everywhere; float32 of the given shape."""
    count = int(np.prod(shape, dtype=np.int64))
    bits = np.random.PCG64(zlib.crc32(key.encode())).random_raw(count)
    unit = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return (unit * np.float32(high - low) + np.float32(low)).reshape(shape)


class GraphBuilder:
    """One graph under construction; the builder of a body shares names and weights with its outer one.

    A value is its name, as in the file format.
    """

    def __init__(self, outer: GraphBuilder | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = [] if outer is None else outer.weights
        self._used: Counter[str] = Counter() if outer is None else outer._used
        self._path: list[str] = [] if outer is None else outer._path

    @contextmanager
    def module(self, name: str) -> Iterator[None]:
        """Nodes made inside are named as belonging to this module."""
        self._path.append(name)
        yield
        self._path.pop()

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Attribute) -> list[str]:
        """Append a node with the given number of outputs and return their names."""
        return self._append(op_type, inputs, outputs, attributes)

    def op(self, op_type: str, *inputs: str, **attributes: Attribute) -> str:
        """Append a node with one output and return its name."""
        return self._append(op_type, inputs, 1, attributes)[0]

    def _append(
        self, op_type: str, inputs: Sequence[str], outputs: int, attributes: Mapping[str, Attribute]
    ) -> list[str]:
        stem = "/" + "/".join([*self._path, op_type])
        name = stem if self._used[stem] == 0 else f"{stem}_{self._used[stem]}"
        self._used[stem] += 1
        names = [f"{name}_output_{i}" for i in range(outputs)]
        node = helper.make_node(op_type, inputs, names, name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return names

    def constant(self, value: object, dtype: type[np.generic] = np.int64) -> str:
        """A Constant node, as exporters without folding leave them."""
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value, dtype)))

    def weight(self, name: str, array: NDArray[np.generic]) -> str:
        """A stored weight, always in the main graph."""
        full = ".".join([*self._path, name])
        self.weights.append(numpy_helper.from_array(array, full))
        return full

    def random_weight(self, name: str, shape: Sequence[int], bound: float, centre: float = 0.0) -> str:
        """A stored weight, uniform within `bound` of `centre`."""
        full = ".".join([*self._path, name])
        return self.weight(name, uniform(shape, full, centre - bound, centre + bound))

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """A graph input."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(
        self, value: str, dtype: int, shape: Sequence[int | str] | None, name: str | None = None
    ) -> None:
        """Make a value a graph output; `name` renames the value where its producer stands in this graph."""
        if name is not None:
            for node in self.nodes:
                node.input[:] = [name if i == value else i for i in node.input]
                node.output[:] = [name if o == value else o for o in node.output]
        self.outputs.append(helper.make_tensor_value_info(name or value, dtype, shape))

    def graph(self, name: str, weights: bool = False) -> onnx.GraphProto:
        """The finished graph; only the main graph carries the weights."""
        return helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, self.weights if weights else [], doc_string=""
        )

    def model(self, name: str, opset: int) -> onnx.ModelProto:
        """The finished model."""
        return helper.make_model(
            self.graph(name, weights=True),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSIONS[opset],
            producer_name="graphopt.benchmarks",
        )


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model deterministically, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


__all__ = ["FLOAT32", "GraphBuilder", "TensorProto", "save", "uniform"]
