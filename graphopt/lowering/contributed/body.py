"""The function of one call of a contributed operator, as it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from graphopt.ir.attributes import attribute
from graphopt.ir.inference import Facts

__all__ = ["CONTRIBUTED", "Body", "contributed_function", "writes"]

CONTRIBUTED = "com.microsoft"
_OPSET = 17


class Body:
    """The nodes of a function for one call, one after the other.

    Attributes:
        nodes: Those that there are.
        opset: The version of the standard that they are of.
        prefix: What the names of their results begin with.
    """

    def __init__(self, node: ir.Node, facts: Facts, prefix: str = "") -> None:
        self.node = node
        self.facts = facts
        self.nodes: list[onnx.NodeProto] = []
        self.opset = _OPSET
        self.prefix = prefix

    def __call__(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """Append a node; the name of its result."""
        return self._append(op_type, inputs, 1, attributes)[0]

    def _append(
        self, op_type: str, inputs: Sequence[str], outputs: int, attributes: Mapping[str, object]
    ) -> list[str]:
        results = [f"{self.prefix}v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.add(op_type, inputs, results, attributes)
        return results

    def add(
        self, op_type: str, inputs: Sequence[str], results: Sequence[str], attributes: Mapping[str, object]
    ) -> None:
        """Append a node whose results are named so."""
        node = helper.make_node(op_type, inputs, results)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)

    def quantized(self, x: str) -> tuple[str, str, str]:
        """x as bytes by the range that it has; its scale, its zero point."""
        codes, scale, zero = self._append("DynamicQuantizeLinear", [x], 3, {})
        return codes, scale, zero

    def split(self, x: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        return self._append("Split", [x], parts, {"axis": -1})

    def operand(self, place: int) -> str:
        """The name of an input; empty where the call leaves it out."""
        given = self.node.inputs
        return f"i{place}" if place < len(given) and given[place] is not None else ""

    def constant(self, array: np.ndarray) -> str:
        """A constant."""
        return self("Constant", value=numpy_helper.from_array(array))

    def rank(self, place: int) -> int | None:
        """The rank of an input."""
        value = self.node.inputs[place]
        return None if value is None else self.facts.rank(value)

    def floats(self, place: int) -> str:
        """Quantized input `place` as floats; its scale and zero point are the two inputs behind it."""
        return self("DequantizeLinear", self.operand(place), self.operand(place + 1), self.operand(place + 2))

    def bytes(self, value: str, scale: int, like: int) -> str:
        """A value quantized by inputs `scale` and the next one, to the element type of input `like`."""
        zero = self.operand(scale + 1)
        if not zero:
            of = self.node.inputs[like]
            signed = of is not None and self.facts.dtype(of) == ir.DataType.INT8
            zero = self.constant(np.array(0, np.int8 if signed else np.uint8))
        return self("QuantizeLinear", value, self.operand(scale), zero)

    def attributes(self, *names: str) -> dict[str, object]:
        """Those attributes of the call that it gives."""
        given = {name: attribute(self.node, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


Writer = Callable[[Body], Sequence[str] | None]
_WRITERS: dict[str, Writer] = {}


def contributed_function(node: ir.Node, facts: Facts) -> ir.Function | None:
    """The function that an operator of onnxruntime's is, for one call of it; None: none is known."""
    writer = _WRITERS.get(node.op_type)
    if node.domain != CONTRIBUTED or writer is None:
        return None
    body = Body(node, facts)
    outputs = writer(body)
    if outputs is None:
        return None
    made = helper.make_function(
        CONTRIBUTED,
        node.op_type,
        [f"i{k}" for k in range(len(node.inputs))],
        list(outputs)[: len(node.outputs)],
        body.nodes,
        [helper.make_opsetid("", body.opset)],
    )
    return ir.serde.deserialize_function(made)


def writes(*names: str) -> Callable[[Writer], Writer]:
    """Register what writes the function of operators; it may give None, where it can't."""

    def register(writer: Writer) -> Writer:
        for name in names:
            _WRITERS[name] = writer
        return writer

    return register
