"""Take images as the program around the model has them: `convert-layout{inputs=image,to=nhwc}`.

    before   image: [N, 3, H, W] -> model                 model -> mask: [N, 4, H, W]
    after    image: [N, H, W, 3] -> Transpose -> model    model -> Transpose -> mask: [N, H, W, 4]

The signature changes, so this is done only where it is asked for, and only for the inputs and outputs that
are named. The Transposes merge with what the model does anyway: a model that was exported from NHWC loses the
ones it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.rewriting import Editor, Pass

LAYOUTS = ("nhwc", "nchw")


@dataclass(frozen=True)
class ConvertLayout(Pass):
    """Move the channels of named graph inputs and outputs last (nhwc) or first (nchw)."""

    name = "convert-layout"
    family = "layout"
    stage = "on-request"
    changes_signature = True

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    to: str = "nhwc"

    def run_model(self, editor: Editor) -> None:
        """Put a Transpose behind each input and before each output, and change the signature; once."""
        if self.to not in LAYOUTS:
            raise UsageError(f"pass {self.name}: to is {' or '.join(LAYOUTS)}, not {self.to!r}")
        graph = editor.model.graph
        chosen = [(_named(graph.inputs, name), True) for name in self.inputs]
        chosen += [(_named(graph.outputs, name), False) for name in self.outputs]
        done = f"graphopt.layout.{self.to}"
        pending = [(value, is_input) for value, is_input in chosen if done not in value.meta]
        for value, is_input in pending:
            rank = len(value.shape) if value.shape is not None else 0
            if not is_input and value.producer() is None:
                raise UsageError(
                    f"pass {self.name}: output '{value.name}' is an input or a constant as it is"
                )
            if rank < 3:
                raise UsageError(
                    f"pass {self.name}: '{value.name}' has no channels to move: its shape is {value.shape}"
                )
            (_convert_input if is_input else _convert_output)(editor, value, self.to, rank).meta[done] = True
        if pending:
            editor.adopt(editor.model)


def _named(values: Sequence[ir.Value], name: str) -> ir.Value:
    for value in values:
        if value.name == name:
            return value
    known = ", ".join(str(v.name) for v in values)
    raise UsageError(f"there is no '{name}' to change the layout of", value=name, hint=f"there are: {known}")


def _last(rank: int) -> list[int]:
    """The order that moves axis 1 to the end."""
    return [0, *range(2, rank), 1]


def _first(rank: int) -> list[int]:
    """The order that moves the last axis to axis 1."""
    return [0, rank - 1, *range(1, rank - 1)]


def _convert_input(editor: Editor, value: ir.Value, to: str, rank: int) -> ir.Value:
    assert value.shape is not None
    new_order = _last(rank) if to == "nhwc" else _first(rank)
    node = ir.node("Transpose", [value], {"perm": _first(rank) if to == "nhwc" else _last(rank)})
    inside = _name(editor, node, value)
    uses = [(use.node, use.idx) for use in value.uses()]
    graph = editor.model.graph
    for i, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[i] = inside
    for user, index in uses:
        if user is not node:
            user.replace_input_with(index, inside)
    if len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    inside.shape = ir.Shape(list(value.shape))
    value.shape = ir.Shape([value.shape[axis] for axis in new_order])
    return value


def _convert_output(editor: Editor, value: ir.Value, to: str, rank: int) -> ir.Value:
    assert value.shape is not None
    graph = editor.model.graph
    order = _last(rank) if to == "nhwc" else _first(rank)
    node = ir.node("Transpose", [value], {"perm": order})
    made = _name(editor, node, value)
    graph.append(node)
    made.name, value.name = value.name, editor.names.unique(f"{value.name}_inner")
    made.shape = ir.Shape([value.shape[axis] for axis in order])
    for i, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[i] = made
    return made


def _name(editor: Editor, node: ir.Node, value: ir.Value) -> ir.Value:
    made = node.outputs[0]
    node.name = editor.names.unique(f"{value.name}/Transpose")
    made.name = editor.names.unique(f"{value.name}_Transpose")
    made.type = value.type
    return made
