"""Scan as opset 8 had it, with a batch and lengths: a Loop over the batch around a Scan of later opsets.

before   y, z = Scan(lengths, state, x)
after    y, z = Loop(batch of x) { s = state[i]   p = x[i, :lengths[i]]   y, q = Scan(s, p)   z = q padded }
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int
from graphopt.ir.names import Names

__all__ = ["expand_batched_scan"]

_VERSION = 13


class _Nodes:
    """Nodes of a graph to be."""

    def __init__(self, names: Names, prefix: str) -> None:
        self.names = names
        self.prefix = prefix
        self.nodes: list[ir.Node] = []

    def add(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        attributes: tuple[ir.Attr, ...] = (),
        outputs: int = 1,
        version: int = _VERSION,
    ) -> list[ir.Value]:
        """The values of a new node."""
        name = self.names.unique(f"{self.prefix}/{op_type}")
        node = ir.Node("", op_type, inputs, attributes, num_outputs=outputs, version=version, name=name)
        for value in node.outputs:
            value.name = self.names.unique(f"{self.prefix}/{op_type.lower()}")
        self.nodes.append(node)
        return list(node.outputs)

    def numbers(self, *numbers: int) -> ir.Value:
        """A constant vector."""
        value = ir.AttrTensor("value", ir.tensor(np.array(numbers, np.int64)))
        return self.add("Constant", attributes=(value,))[0]

    def row(self, value: ir.Value, index: ir.Value) -> ir.Value:
        """One row of a value."""
        return self.add("Gather", value, index, attributes=(ir.AttrInt64("axis", 0),))[0]


def expand_batched_scan(node: ir.Node, names: Names) -> list[ir.Node]:
    """Put a Loop in the node's place; the new nodes."""
    graph = node.graph
    assert isinstance(graph, ir.Graph), "the node is of a graph"
    lengths, *rest = node.inputs
    given = [value for value in rest if value is not None]
    count = attribute_int(node, "num_scan_inputs")
    prefix = node.name or node.op_type
    outside = _Nodes(names, prefix)
    sizes = outside.add("Shape", given[-1])[0]
    batch = outside.add("Squeeze", outside.add("Slice", sizes, outside.numbers(0), outside.numbers(1))[0])[0]
    body = _body(node, given, count, lengths, sizes, _Nodes(names, prefix))
    results = outside.add(
        "Loop", batch, None, attributes=(ir.AttrGraph("body", body),), outputs=len(node.outputs)
    )
    graph.insert_before(node, outside.nodes)
    for old, new in zip(node.outputs, results, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, old.name
    graph.remove(node, safe=True)
    return outside.nodes


def _body(
    node: ir.Node,
    given: list[ir.Value],
    count: int,
    lengths: ir.Value | None,
    sizes: ir.Value,
    inside: _Nodes,
) -> ir.Graph:
    """What is done for one of the batch."""
    index = ir.Value(
        name=inside.names.unique(f"{inside.prefix}/index"), type=ir.TensorType(ir.DataType.INT64)
    )
    going_on = ir.Value(name=inside.names.unique(f"{inside.prefix}/on"), type=ir.TensorType(ir.DataType.BOOL))
    index.shape = going_on.shape = ir.Shape([])
    rows = [inside.row(value, index) for value in given]
    length = None
    if lengths is not None:
        length = inside.add("Unsqueeze", inside.row(lengths, index), inside.numbers(0))[0]
        whole = (inside.numbers(0), length, inside.numbers(0))
        states = len(rows) - count
        rows[states:] = [inside.add("Slice", row, *whole)[0] for row in rows[states:]]
    attributes = [
        ir.AttrGraph("body", node.attributes["body"].as_graph()),
        ir.AttrInt64("num_scan_inputs", count),
    ]
    directions = attribute(node, "directions")
    if isinstance(directions, tuple):
        attributes.append(ir.AttrInt64s("scan_input_directions", [int(d) for d in directions]))
    results = inside.add("Scan", *rows, attributes=tuple(attributes), outputs=len(node.outputs), version=9)
    if length is not None:
        longest = inside.add("Slice", sizes, inside.numbers(1), inside.numbers(2))[0]
        missing = inside.add("Sub", longest, length)[0]
        states = len(given) - count
        results[states:] = [_padded(inside, result, missing) for result in results[states:]]
    done = inside.add("Identity", going_on)[0]
    return ir.Graph([index, going_on], [done, *results], nodes=inside.nodes, name=f"{inside.prefix}/batch")


def _padded(inside: _Nodes, value: ir.Value, missing: ir.Value) -> ir.Value:
    """Zeros behind the first dim's last."""
    zeros = inside.add("ConstantOfShape", inside.add("Shape", inside.add("Shape", value)[0])[0], version=9)[0]
    # Of int64, as pads are.
    zeros = inside.add("Cast", zeros, attributes=(ir.AttrInt64("to", ir.DataType.INT64.value),))[0]
    behind = inside.add("Slice", zeros, inside.numbers(1), inside.numbers(1 << 62))[0]
    pads = inside.add("Concat", zeros, missing, behind, attributes=(ir.AttrInt64("axis", 0),))[0]
    return inside.add("Pad", value, pads)[0]
