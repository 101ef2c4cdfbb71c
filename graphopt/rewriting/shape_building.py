"""Nodes for terms (`graphopt.ir.shape_terms`), each behind the last of what it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir.shape_terms import Term
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.operators import building, constant, op

__all__ = ["TermBuilder"]


class TermBuilder:
    """Makes the nodes of terms in one graph; a term is made once.

    Args:
        editor: The editor.
        order: The nodes of the graph as they were numbered for the terms' places.
    """

    def __init__(self, editor: Editor, order: Sequence[ir.Node]) -> None:
        self._editor = editor
        self._order = order
        self._made: dict[Term, ir.Value] = {}

    def value(self, term: Term, like: ir.Node | None = None) -> ir.Value:
        """The value of a term; new nodes take the metadata of `like`."""
        if term in self._made:
            return self._made[term]
        inputs = [self.value(given, like) for given in term.inputs]
        # What stood there may have gone; whoever takes the value is still there, further below.
        before = next(node for node in self._order[term.place + 1 :] if node.graph is not None)
        draft = Draft(self._editor, before)
        with building(draft):
            value = _written(term, inputs)
        for node in draft.nodes:
            if like is not None:
                node.metadata_props.update(like.metadata_props)
            self._editor.insert(node, before)
        self._made[term] = value
        return value


def _written(term: Term, inputs: list[ir.Value]) -> ir.Value:
    numbers = np.array(term.numbers, np.int64)
    if term.rank == 0 and term.op_type in ("", "Gather"):
        numbers = numbers.reshape(())
    made: ir.Value
    if not term.op_type:
        made = constant(numbers)
    elif term.op_type == "Shape":
        bounds: dict[str, object] = {"start": term.numbers[0], "end": term.numbers[1]} if term.numbers else {}
        made = op.Shape(term.source, **bounds)
    elif term.op_type == "Size":
        made = op.Size(term.source)
    elif term.op_type == "Gather":
        made = op.Gather(*inputs, constant(numbers), axis=0)
    elif term.op_type == "Concat":
        made = op.Concat(*inputs, axis=0)
    elif term.op_type == "ReduceProd":
        made = op.ReduceProd(*inputs, keepdims=term.rank)
    elif term.op_type == "Reshape":
        made = op.Reshape(*inputs, constant(numbers))
    elif term.op_type == "Cast":
        made = op.Cast(*inputs, to=term.numbers[0])
    else:
        made = getattr(op, term.op_type)(*inputs)
    return made
