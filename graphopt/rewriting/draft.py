"""New nodes that are not in the graph yet: built by a replacement, then put in place or thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import spelling
from graphopt.rewriting.match import Replacement
from graphopt.rewriting.operators import Operand

if TYPE_CHECKING:
    from graphopt.rewriting.editor import Editor

# Constants up to this size are shared when equal: enough for shapes, axes and scalars.
SHARED_BYTES = 64


class Draft:
    """The builder behind `op` while a replacement runs.

    Attributes:
        anchor: Where the rule fires.
        place: The node before which new ones go: the anchor, unless told otherwise.
        nodes: New nodes in order of making, and the node before which each goes.
        opset: The version that the default domain is raised to for these nodes, if it is lower now.
        rebuilt: Nodes of the graph that new ones stand for.
        replacements: Old values and what takes their place.
    """

    __slots__ = ("anchor", "editor", "nodes", "opset", "place", "rebuilt", "replacements")

    def __init__(self, editor: Editor, anchor: ir.Node, opset: int = 0) -> None:
        self.editor = editor
        self.anchor = anchor
        self.opset = opset
        self.place = anchor
        self.nodes: dict[ir.Node, ir.Node] = {}
        self.rebuilt: set[ir.Node] = set()
        self.replacements: dict[ir.Value, ir.Value] = {}

    def build(
        self,
        domain: str,
        op_type: str,
        inputs: Sequence[Operand],
        attributes: dict[str, object],
        outputs: int,
    ) -> tuple[ir.Value, ...]:
        """Make a node; numbers and arrays among the inputs become constants of fitting types."""
        # The condition of a Where says nothing of the type of what is chosen.
        typed = inputs[1:] if op_type == "Where" and domain == "" else inputs
        like = next((v for v in typed if isinstance(v, ir.Value)), None)
        plain = [self._operand(given, like) for given in inputs]
        if domain == "":
            version = self.editor.opset_at(self.anchor)
            plain, attributes = spelling.in_opset(op_type, plain, attributes, version)
        else:
            version = self.editor.model.opset_imports.get(domain, 1)
        self._require(domain, op_type, max(version, self.opset if domain == "" else 1))
        values = [v if v is None or isinstance(v, ir.Value) else self.constant(v) for v in plain]
        while values and values[-1] is None:
            values.pop()
        node = ir.Node(
            domain,
            op_type,
            values,
            [
                v if isinstance(v, ir.Attr) else _attribute(k, v)
                for k, v in attributes.items()
                if v is not None
            ],
            num_outputs=outputs,
        )
        self.nodes[node] = self.place
        return tuple(node.outputs)

    def constant(self, array: np.ndarray | ir.TensorProtocol) -> ir.Value:
        """A constant value; it joins the graph with the node that uses it."""
        return self.editor.constant(array, self.anchor)

    def replace(self, old: ir.Value | ir.Node, new: Replacement) -> None:
        """Note what takes the place of a value, or of a node's outputs in order."""
        self.replacements.update(as_mapping(old, new))

    def discard(self) -> None:
        """Forget the new nodes: they stop being consumers."""
        for node in self.nodes:
            for i in range(len(node.inputs)):
                node.replace_input_with(i, None)
        self.nodes.clear()

    def _require(self, domain: str, op_type: str, version: int) -> None:
        """What the target lacks is not written, unless it stands here or the model came with its domain."""
        target = self.editor.target
        is_here = (self.anchor.domain, self.anchor.op_type) == (domain, op_type)
        is_given = is_here or (not target.has(domain) and domain in self.editor.model.opset_imports)
        if not is_given and not target.may_write(domain, op_type, version):
            raise spelling.NotExpressible(f"{target.name} has no {op_type} in opset {version}")

    def _operand(self, given: Operand, like: ir.Value | None) -> ir.Value | np.ndarray | None:
        if given is None or isinstance(given, ir.Value | np.ndarray):
            return given
        if isinstance(given, bool | int | float) and like is not None:
            dtype = self.editor.facts.dtype(like)
            if dtype is None:
                raise spelling.NotExpressible(f"a number beside {like.name}, whose element type is unknown")
            return np.asarray(given, dtype.numpy())
        array = np.asarray(given)
        return (
            array.astype(np.int64)
            if array.size == 0 or array.dtype.kind in "iu"
            else array.astype(np.float32)
        )


def _attribute(name: str, value: object) -> ir.Attr:
    """An attribute of a plain value.

    The usual kinds are told apart here: onnx_ir's own conversion looks for protocols first, which takes
    longer than making the node.
    """
    kind, kept = _plain_attribute(value)
    return ir.convenience.convert_attribute(name, value) if kind is None else ir.Attr(name, kind, kept)  # type: ignore[arg-type]


def _plain_attribute(value: object) -> tuple[ir.AttributeType | None, object]:
    if isinstance(value, np.ndarray):
        return ir.AttributeType.TENSOR, ir.Tensor(value)
    if isinstance(value, int):
        return ir.AttributeType.INT, int(value)
    if isinstance(value, float):
        return ir.AttributeType.FLOAT, value
    if isinstance(value, list | tuple) and value:
        if all(isinstance(v, int | np.integer) for v in value):
            return ir.AttributeType.INTS, tuple(int(v) for v in value)
        if all(isinstance(v, int | float) for v in value):
            return ir.AttributeType.FLOATS, tuple(float(v) for v in value)
    return None, value


def as_mapping(old: ir.Value | ir.Node, new: Replacement) -> dict[ir.Value, ir.Value]:
    """A replacement in any of its forms as old value -> new value."""
    if isinstance(new, dict):
        return new
    olds = [old] if isinstance(old, ir.Value) else list(old.outputs)
    news = [new] if isinstance(new, ir.Value) else list(new)
    used = [v for v in olds if v.uses() or v.is_graph_output()]
    if len(news) > len(olds) or any(v not in olds[: len(news)] for v in used):
        raise ValueError(f"{len(news)} values can't take the place of {len(olds)}")
    return dict(zip(olds, news, strict=False))
