"""Building a region (`graphopt.rewriting.merged_axes`) again on the parts of its merged axis."""

from __future__ import annotations

from functools import cached_property

import onnx_ir as ir

from graphopt.ir import attributes
from graphopt.ir.dims import Dim
from graphopt.ir.fact import TensorFact
from graphopt.ir.relabelling import Relabelling, is_relabelling, relabelling
from graphopt.ir.shape_search import TermSearch
from graphopt.ir.shape_terms import Term
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.merged_axes import MergedRegion, RegionSearch, merging
from graphopt.rewriting.operators import Operand, building, op
from graphopt.rewriting.parted_axes import Adapted, parted
from graphopt.rewriting.relabels import written
from graphopt.rewriting.scope import Scope
from graphopt.rewriting.shape_building import TermBuilder
from graphopt.rewriting.shape_regions import shape_region, sources

__all__ = ["split_regions"]


def split_regions(scope: Scope, *, products: bool = False, inner: bool = False) -> None:
    """Split the regions of a graph for which it pays, the best first, each as one step of the pass.

    Args:
        scope: The graph.
        products: Whether a Gemm may become MatMul and Add, which round in another order.
        inner: Whether axes other than the first are split too.
    """
    touched: set[ir.Node] = set()
    for node, region, targets in _regions(scope, products, inner):
        around = {producer for value, _ in region.parts if (producer := value.producer()) is not None}
        around.update(use.node for member in region.members for v in member.outputs for use in v.uses())
        around.update(region.members)
        # What a former step changed is looked at again when the pass comes back.
        if touched & around or (touched and region.targets):
            continue
        if scope.fire(node, "split"):
            touched |= around
            _Splitter(scope, region, targets).split()


def _regions(scope: Scope, products: bool, inner: bool) -> list[tuple[ir.Node, MergedRegion, _Targets]]:
    """Regions that pay, the best first."""
    explored: dict[tuple[Dim, ...], set[tuple[ir.Value, int]]] = {}
    found: list[tuple[ir.Node, MergedRegion, _Targets]] = []
    for node in scope.nodes("Reshape"):
        axis = merging(scope.facts, node)
        if axis is None or (axis.place and not inner):
            continue
        seen = explored.setdefault(axis.lead, set())
        if (axis.value, axis.place) in seen:
            continue
        targets = _Targets(scope)
        search = RegionSearch(
            scope.facts, scope.graph, axis, scope.opset, products=products, targets=targets.find
        )
        region = search.find()
        seen.update(search.places.items())
        if region is not None:
            found.append((node, region, targets))
    return sorted(found, key=lambda item: (-item[1].gain, -item[1].runtime))


class _Targets:
    """Shapes that have to be computed; nothing is looked at before the first one is asked for."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._places: dict[ir.Node, int] = {}
        self._search: TermSearch | None = None

    def find(self, dims: tuple[Dim, ...], before: ir.Node) -> Term | None:
        """The term of a vector that is available before a node; None: there is none."""
        if self._search is None:
            region = shape_region(self._scope)
            self._places = region.places
            self._search = TermSearch(sources(self._scope, region), self._scope.opset, region.divisions)
        return self._search.find(dims, (len(dims),), ir.DataType.INT64, (), self._places[before])

    @cached_property
    def builder(self) -> TermBuilder:
        """What makes the nodes."""
        return TermBuilder(self._scope.editor, list(self._places))


class _Splitter:
    """Builds a region again on parted axes."""

    def __init__(self, scope: Scope, region: MergedRegion, targets: _Targets) -> None:
        self._scope = scope
        self._region = region
        self._targets = targets
        self._parted: dict[tuple[ir.Value, int], ir.Value] = {}

    def split(self) -> None:
        """Members in order, then what leaves the region; the old nodes die with their last consumer."""
        members = [node for node in self._scope.graph if node in self._region.members]
        for node in members:
            self._member(node, self._region.members[node])
        for node in reversed(members):
            for value in node.outputs:
                self._leave(value)
        for node in reversed(members):
            if node.graph is not None:
                self._scope.remove(node)

    def _member(self, node: ir.Node, how: Adapted) -> None:
        draft = Draft(self._scope.editor, node)
        with building(draft):
            inputs = [
                self._input(value, how.inputs[i]) if value is not None and i in how.inputs else value
                for i, value in enumerate(node.inputs)
            ]
            made = _adapted(draft, node, how, inputs)
        self._place(draft, node)
        for old, new in zip(node.outputs, made, strict=True):
            self._parted[old, how.result] = new
            self._assume(new, old, how.result)

    def _input(self, value: ir.Value, place: int) -> ir.Value:
        """The value on parted axes."""
        found = self._parted.get((value, place))
        if found is None:
            part = self._region.parts[value, place]
            if part.target is not None:
                found = op.Expand(part.source, self._targets.builder.value(part.target))
            else:
                found = written(part.source, part.how)
            if found is not part.source and part.kind != "tile":
                self._assume(found, value, place)
            self._parted[value, place] = found
        return found

    def _assume(self, new: ir.Value, old: ir.Value, place: int) -> None:
        """What is known of the merged value is known of the parted one."""
        fact = self._scope.facts.of(old)
        if isinstance(fact, TensorFact) and fact.dims is not None and not self._is_weak(new, place):
            apart = parted(fact.dims, place, self._region.lead)
            self._scope.facts.assume(new, TensorFact(fact.dtype, apart))

    def _is_weak(self, new: ir.Value, place: int) -> bool:
        dims = self._scope.facts.dims(new)
        return dims is None or dims[place] == 1 != self._region.lead[0]

    def _leave(self, value: ir.Value) -> None:
        """Give those outside what they took."""
        apart = self._parted[value, self._region.places[value]]
        dims, opset = self._scope.facts.dims(apart), self._scope.opset
        merged = self._scope.facts.dims(value)
        assert dims is not None and merged is not None, "a value with the axis has a rank"
        for use in list(value.uses()):
            node = use.node
            inside = node in self._region.members or node.graph is not self._scope.graph
            if inside or not is_relabelling(node) or use.idx:
                continue
            result = self._scope.facts.dims(node.outputs[0])
            how = relabelling(dims, result, opset) if result is not None else None
            if how is not None:
                self._relabel(node.outputs[0], apart, how, node)
                self._scope.remove(node)
        if value.is_graph_output() or any(use.node not in self._region.members for use in value.uses()):
            how, producer = relabelling(dims, merged, opset), value.producer()
            assert how is not None and producer is not None, "a region whose outputs can't be merged is none"
            self._relabel(value, apart, how, producer)

    def _relabel(self, old: ir.Value, apart: ir.Value, how: Relabelling, before: ir.Node) -> None:
        if not how.op_type:
            self._scope.editor.take_over(old, apart)
            return
        draft = Draft(self._scope.editor, before)
        with building(draft):
            new = written(apart, how)
        self._place(draft, before)
        self._scope.editor.take_over(old, new, is_fresh=True)

    def _place(self, draft: Draft, before: ir.Node) -> None:
        for node in draft.nodes:
            node.metadata_props.update(before.metadata_props)
            self._scope.editor.insert(node, before)


def _adapted(
    draft: Draft, node: ir.Node, how: Adapted, inputs: list[ir.Value | None]
) -> tuple[ir.Value, ...]:
    """The node for parted axes."""
    if how.relabelling is not None:
        assert inputs[0] is not None, "it is relabelled"
        return (written(inputs[0], how.relabelling),)
    if how.is_product:
        weight = inputs[1]
        if attributes.attribute(node, "transB", 0):
            weight = op.Transpose(weight, perm=[1, 0])
        product = op.MatMul(inputs[0], weight)
        return (op.Add(product, inputs[2]) if how.growth else product,)
    kept = {a.name: a for a in node.attributes.values() if not (a.name == "axes" and how.axes is not None)}
    operands: list[Operand] = [*inputs]
    if how.axes is not None:
        place = 3 if node.op_type == "Slice" else 1
        operands[place : place + 1] = [list(how.axes)]
    return draft.build(node.domain, node.op_type, operands, {**kept, **how.attributes}, len(node.outputs))
