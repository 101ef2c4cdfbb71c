"""A pass that is a function on an onnx-graphsurgeon graph.

    before   Pow(x, 2)
    after    Mul(x, x)

    graphopt optimize model.onnx --plugin examples.convert_squares_to_mul --passes convert-squares-to-mul

The function edits the graph in place, or returns another one. What graphsurgeon does not carry (types of
sequences, metadata, functions' doc strings) is put back afterwards. The whole run is one firing: it is
verified, and dropped if it changed an answer, like any other.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from graphopt.rewriting import graphsurgeon_pass


@graphsurgeon_pass("convert-squares-to-mul", family="example")
def convert_squares_to_mul(graph: gs.Graph) -> None:
    """Square by a multiplication."""
    for node in graph.nodes:
        if node.op != "Pow":
            continue
        exponent = contents(node.inputs[1])
        # An exponent of rank 1 or more could broadcast the result to another rank.
        if exponent is not None and exponent.ndim == 0 and exponent.item() == 2:
            node.op = "Mul"
            node.inputs = [node.inputs[0], node.inputs[0]]


def contents(tensor: gs.Tensor) -> np.ndarray | None:
    """What is in a constant, be it an initializer or a Constant node; None for anything else."""
    if not isinstance(tensor, gs.Constant) and tensor.inputs and tensor.inputs[0].op == "Constant":
        tensor = tensor.inputs[0].attrs.get("value")
    return tensor.values if isinstance(tensor, gs.Constant) else None
