"""The one place where a model is changed: new nodes in, dead nodes out, names and records kept.

The editor indexes the nodes of every scope by operator, so that a rule's anchors are found without a
walk, and dates each change, so that a pass which comes again looks only at what changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import facts as operator_facts
from graphopt.ir.constants import shape_of
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts, TensorFact
from graphopt.ir.names import Names, joined
from graphopt.rewriting.draft import SHARED_BYTES, Draft
from graphopt.rewriting.match import Match
from graphopt.rewriting.model_index import ModelIndex, OpKey, Region, walk
from graphopt.rewriting.opsets import OpsetPolicy
from graphopt.rewriting.trace import FiringId, Place, Trace

if TYPE_CHECKING:
    from graphopt.rewriting.passes import Pass
    from graphopt.targets import Target


class Editor:
    """A model under rewriting.

    Attributes:
        model: The model; edited in place.
        facts: What is known of its values.
        trace: The record of firings.
        target: Who will run the result.
        nodes_at_start: How many nodes the model came with, bodies and functions included.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        target: Target,
        trace: Trace | None = None,
        opset_policy: OpsetPolicy | None = None,
    ) -> None:
        self.target = target
        self.trace = trace if trace is not None else Trace()
        self.opset_policy = opset_policy or OpsetPolicy("keep", target)
        self._step: FiringId | None = None
        self._removed: list[str] = []
        self._added: list[str] = []
        self._log: list[ir.Node] = []
        self._log_start = 0
        self.adopt(model)
        self.nodes_at_start = self.where.count

    def adopt(self, model: ir.Model) -> None:
        """Start over on a model: everything known of the former one is dropped."""
        self.model = model
        self.facts = Facts(model)
        self.names = Names(model)
        self.names.separate(model)
        # To adopt is a change of everything: the clock goes on, and what was dated before it is void.
        self._log_start = self.clock + 1
        self._log = []
        self.where = ModelIndex(model)
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    # ------------------------------------------------------------------ looking

    @property
    def index(self) -> dict[OpKey, dict[ir.Node, None]]:
        """Every node by (domain, operator)."""
        return self.where.nodes

    @property
    def regions(self) -> dict[ir.Graph, Region]:
        """Every graph and where it is."""
        return self.where.regions

    def opset_at(self, node: ir.Node) -> int:
        """The default domain's version where a node stands."""
        return self.where.opset_at(node)

    # ------------------------------------------------------------------ permission

    def allow(self, current: Pass, rule: str, anchor: ir.Node) -> FiringId | None:
        """Ask the trace for a firing at a node."""
        graph = anchor.graph
        path = self.regions[graph].path if graph in self.regions else ""
        return self.trace.allow(Place(current.name, rule, path, _label(anchor)))

    def begin_step(self, current: Pass, rule: str, path: str, anchor: ir.Node) -> bool:
        """Allow the edits that follow as one firing; it is recorded when the next one begins."""
        self.end_step()
        self._step = self.trace.allow(Place(current.name, rule, path, _label(anchor)))
        return self._step is not None

    def end_step(self) -> None:
        """Record the step that is open, if one is."""
        if self._step is not None:
            self.trace.record(self._step, self._removed, self._added)
        self._step = None
        self._removed, self._added = [], []

    def finish_run(self, identity: FiringId, since: int) -> None:
        """Record a whole `run` as one firing, if it changed anything since that time."""
        if self.clock != since:
            self.trace.record(identity, self._removed, self._added)
        self._removed, self._added = [], []

    # ------------------------------------------------------------------ constants

    def constant(self, array: np.ndarray | np.generic | ir.TensorProtocol, anchor: ir.Node) -> ir.Value:
        """A constant that a node near `anchor` can use: an initializer, in a function a Constant node."""
        if isinstance(array, np.generic):
            array = np.asarray(array)  # Arithmetic on arrays of rank 0 gives numpy's scalars.
        tensor = ir.Tensor(array) if isinstance(array, np.ndarray) else array
        region = self.regions.get(anchor.graph) if anchor.graph is not None else None
        function = region.function if region is not None else None
        key: tuple[object, ...] | None = None
        if isinstance(array, np.ndarray) and array.nbytes <= SHARED_BYTES:
            key = (id(function), array.dtype, array.shape, array.tobytes())
            known = self._constants.get(key)
            if known is not None and (known.is_initializer() or known.producer() is not None):
                return known
        name = self.names.unique("const" if key else tensor.name or f"{_label(anchor)}_const")
        if function is not None:
            node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)])
            node.outputs[0].name = name
            node.name = self.names.unique(f"{name}_node")
            first = function.graph[0] if len(function.graph) else None
            function.graph.insert_before(first, node) if first is not None else function.graph.append(node)
            self._enter(node)
            value = node.outputs[0]
        else:
            value = ir.Value(
                name=name,
                const_value=tensor,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(shape_of(tensor)),
            )
            self.model.graph.register_initializer(value)
        if key:
            self._constants[key] = value
        return value

    # ------------------------------------------------------------------ changing

    def commit(self, draft: Draft, identity: FiringId | None, match: Match | None = None) -> None:
        """Put a draft in place and record the firing; without an identity it is part of the open step."""
        graph = draft.anchor.graph
        assert graph is not None, "the anchor has left the graph"
        self._name_nodes(draft, match)
        for node, place in draft.nodes.items():
            graph.insert_before(place, node)
            self._enter(node)
        olds = [old.producer() for old in draft.replacements]
        fresh = {value for node in draft.nodes for value in node.outputs}
        for old, new in draft.replacements.items():
            self.take_over(old, new, is_fresh=new in fresh)
        for producer in olds:
            if producer is not None and producer.graph is not None and not _is_needed(producer):
                self.remove(producer)
        for node in draft.nodes:
            if node.graph is not None and not _is_needed(node):
                self.remove(node)
        if self._step is None and identity is not None:
            self.trace.record(identity, self._removed, self._added)
            self._removed, self._added = [], []

    def _name_nodes(self, draft: Draft, match: Match | None) -> None:
        """New nodes take the names, and the metadata, of what they stand for."""
        for node, place in draft.nodes.items():
            node.name = self.names.unique(joined(place.name or _label(place), node.op_type))
            for output in node.outputs:
                output.name = self.names.unique(f"{_label(place)}_{node.op_type}")
            for old in match.nodes if match is not None else (draft.anchor,):
                for key, text in old.metadata_props.items():
                    node.metadata_props.setdefault(key, text)
                if old.doc_string and not node.doc_string:
                    node.doc_string = old.doc_string

    def take_over(self, old: ir.Value, new: ir.Value, *, is_fresh: bool = False) -> None:
        """Every consumer of `old` takes `new`.

        A graph output keeps its name, type and shape. A fresh value takes the old one's name too; one
        that was there before keeps its own.
        """
        for use in list(old.uses()):
            self.touch(use.node)
        if old.is_graph_output():
            graph = old.graph
            assert graph is not None
            name, kind, shape = old.name, old.type, old.shape
            for i, output in enumerate(graph.outputs):
                if output is old:
                    graph.outputs[i] = new
            old.name = self.names.unique(f"{name}_was")
            new.name, new.type, new.shape = name, kind, shape
        elif is_fresh:
            name = old.name
            old.name = self.names.unique(f"{name}_was")
            new.name = name
        if is_fresh:
            self._carry_fact(old, new)
        old.replace_all_uses_with(new)

    def _carry_fact(self, old: ir.Value, new: ir.Value) -> None:
        """What is known of a value holds for the one in its place, and symbols downstream stay equal."""
        known, found = self.facts.of(old), self.facts.of(new)
        if not isinstance(known, TensorFact) or not isinstance(found, TensorFact):
            return
        if known.dims is None or (found.dims is not None and len(found.dims) != len(known.dims)):
            return
        dims = known.dims
        if found.dims is not None:
            dims = tuple(b if isinstance(b, int) else a for a, b in zip(dims, found.dims, strict=True))
        elements = known.elements if known.elements is not None else found.elements
        self.facts.assume(new, TensorFact(known.dtype or found.dtype, dims, elements))

    def can_take_over(self, draft: Draft) -> ir.Value | None:
        """The first graph output whose replacement can't take its name; None if all can."""
        fresh = {v for node in draft.nodes for v in node.outputs}
        taken: set[ir.Value] = set()
        for old, new in draft.replacements.items():
            if not old.is_graph_output():
                continue
            outputs = old.graph.outputs if old.graph is not None else []
            twice = sum(o is old for o in outputs) > 1
            inside = new in fresh or (
                new.producer() is not None and new.graph is old.graph and not new.is_graph_output()
            )
            if not inside or twice or new in taken:
                return old
            taken.add(new)
        return None

    def insert(self, node: ir.Node, before: ir.Node) -> None:
        """Put one node (with its bodies) into the graph of another, before it."""
        self._named(node)
        graph = before.graph
        assert graph is not None
        graph.insert_before(before, node)
        self._enter(node)

    def insert_after(self, node: ir.Node, after: ir.Node) -> None:
        """Put one node (with its bodies) into the graph of another, right behind it."""
        self._named(node)
        graph = after.graph
        assert graph is not None
        graph.insert_after(after, node)
        self._enter(node)

    def _named(self, node: ir.Node) -> None:
        # Named here: the graph itself would give names that other scopes may have.
        node.name = node.name or self.names.unique(node.op_type)
        for output in node.outputs:
            output.name = output.name or self.names.unique(f"{node.name}_out")

    def move(self, node: ir.Node, before: ir.Node) -> None:
        """Take a node out of its graph and put it before another one, there or in another graph."""
        assert node.graph is not None
        self._leave(node)
        node.graph.remove(node)
        self.insert(node, before)

    def rebuild(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value]
    ) -> ir.Node:
        """Put a node with other inputs, and only some of its outputs, in the place of one; bodies move along.

        Args:
            node: The old node.
            inputs: Inputs of the new one.
            outputs: Outputs of the old one that stay, in order; the others must be unused.
        """
        graph = node.graph
        assert graph is not None
        new = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            [ir.Attr(a.name, a.type, a.value, doc_string=a.doc_string) for a in node.attributes.values()],
            overload=node.overload,
            num_outputs=len(outputs),
            name=node.name,
            metadata_props=dict(node.metadata_props),
        )
        for old, made in zip(outputs, new.outputs, strict=True):
            made.name = self.names.unique(f"{old.name}_new")
        self._leave(node)
        graph.insert_before(node, new)
        for old, made in zip(outputs, new.outputs, strict=True):
            self.take_over(old, made, is_fresh=True)
        for i in range(len(node.inputs)):
            node.replace_input_with(i, None)
        graph.remove(node)
        self._enter(new)
        for value in new.outputs:
            self.facts.forget(value)
        return new

    def remove(self, node: ir.Node) -> None:
        """Take a node out, and everything pure that nothing needs any more."""
        pending = [node]
        while pending:
            current = pending.pop()
            if current.graph is None or _is_needed(current):
                continue
            if current is not node and not operator_facts.is_pure(current):
                continue
            for value in self._detach(current):
                producer = value.producer()
                if producer is not None:
                    self.touch(producer)
                    pending.append(producer)

    def _detach(self, node: ir.Node) -> list[ir.Value]:
        """Remove a node and the nodes of its bodies; returns the values that it used."""
        used = [v for v in node.inputs if v is not None]
        for body in bodies(node):
            for inner in list(body):
                used.extend(self._detach(inner))
        self._leave(node)
        for i in range(len(node.inputs)):
            node.replace_input_with(i, None)
        if node.graph is not None:
            for output in node.graph.outputs:
                if output.producer() is node:
                    break
            else:
                node.graph.remove(node)
        return used

    def _enter(self, node: ir.Node) -> None:
        self.where.enter(node)
        if node.op_type != "Constant":
            self._added.append(node.op_type)
        self.touch(node)
        for body in bodies(node):
            for inner in walk(body):
                self.touch(inner)

    def _leave(self, node: ir.Node) -> None:
        self.where.leave(node)
        if node.op_type != "Constant":
            self._removed.append(node.op_type)
        self.touch(node)

    def remove_function(self, identifier: ir.OperatorIdentifier) -> None:
        """Take out a function that nothing calls."""
        graph = self.model.functions.pop(identifier).graph
        for inner in graph:
            self._leave(inner)
        self.regions.pop(graph, None)

    def touch(self, node: ir.Node) -> None:
        """Note a change at a node: rules look at it, and at what is downstream of it, again."""
        self._log.append(node)

    @property
    def clock(self) -> int:
        """Moves with every change."""
        return self._log_start + len(self._log)

    def touched_since(self, clock: int) -> list[ir.Node]:
        """Nodes that changed since then and are still there, in order."""
        if clock < self._log_start:
            return list(self.where.in_order())
        return [n for n in dict.fromkeys(self._log[clock - self._log_start :]) if self.where.holds(n)]

    # ------------------------------------------------------------------ opsets

    def raise_opset(self, version: int) -> bool:
        """Convert the whole model up, if the policy and every operator allow it. True: it was done."""
        if not self.opset_policy.raise_to(self.model, version):
            return False
        trace_state = (self._removed, self._added)
        self.adopt(self.model)
        self._removed, self._added = trace_state
        return True


def _label(node: ir.Node) -> str:
    return next((v.name for v in node.outputs if v.name), None) or node.name or node.op_type


def _is_needed(node: ir.Node) -> bool:
    return any(v.uses() or v.is_graph_output() for v in node.outputs)
