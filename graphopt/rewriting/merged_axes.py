"""Regions of a graph that work on a merged axis and would do as well with its parts.

    before   q[b,h,n,d] -> Reshape(b*h,n,d) -> MatMul -> Softmax -> Reshape(b,h,n,m)
    after    q[b,h,n,d] -> MatMul -> Softmax

A region is a set of nodes (`members`) whose tensors have the merged axis, each in a known place. Tensors come
in through Reshapes that merge (which vanish), through others (they get another target), or plainly (it costs
one); they go out likewise. A region is worth it where more Reshapes vanish than come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.dims import Dim, product
from graphopt.ir.inference import Facts
from graphopt.ir.operands import input_of
from graphopt.ir.relabelling import Relabelling, is_relabelling, relabelling
from graphopt.ir.shape_terms import Term
from graphopt.rewriting.parted_axes import Adapted, Anchor, adapted, parted

__all__ = ["MergedAxis", "MergedRegion", "Part", "RegionSearch", "merging"]

Dims = tuple[Dim, ...]
Targets = Callable[[Dims, ir.Node], Term | None]

# A region that does not pay is cut back at its edges, one node at a time; beyond this it is left as it is.
LARGEST = 400


@dataclass(frozen=True, slots=True)
class MergedAxis:
    """A value with an axis that a Reshape merges or parts: the axis, and its parts."""

    value: ir.Value
    place: int
    lead: Dims


@dataclass(frozen=True, slots=True)
class Part:
    """How a tensor gets its parted axes.

    Attributes:
        kind: "vanish" (a Reshape goes), "again" (one gets another target), "tile" (a Tile goes), "expand" (an
            Expand gets another target), or "new".
        source: What is relabelled, or expanded.
        how: The relabelling of the source; it does nothing where kind is "vanish" or "expand".
        target: The new target of an Expand.
    """

    kind: str
    source: ir.Value
    how: Relabelling
    target: Term | None = None


@dataclass(slots=True)
class MergedRegion:
    """A region.

    Attributes:
        lead: The parts of the merged axis.
        members: Nodes that are to run on parted axes, and how.
        places: Where tensors have the merged axis.
        parts: How tensors that no member makes get parted, by where they have the axis.
        targets: New targets of Expands.
        runtime: Reshapes with computed targets that vanish, or get a constant one.
        gain: Nodes that vanish less those that come.
    """

    lead: Dims
    members: dict[ir.Node, Adapted]
    places: dict[ir.Value, int]
    parts: dict[tuple[ir.Value, int], Part] = field(default_factory=dict)
    targets: set[Term] = field(default_factory=set)
    runtime: int = 0
    gain: int = 0


def merging(facts: Facts, node: ir.Node) -> MergedAxis | None:
    """The value with a merged axis on either side of a Reshape; None where there is none."""
    if not is_relabelling(node) or node.inputs[0] is None:
        return None
    source, result = facts.dims(node.inputs[0]), facts.dims(node.outputs[0])
    if source is None or result is None:
        return None
    found = _parts(source, result)
    if found is not None:
        return MergedAxis(node.outputs[0], *found)
    found = _parts(result, source)
    return None if found is None else MergedAxis(node.inputs[0], *found)


def _parts(apart: Dims, merged: Dims) -> tuple[int, Dims] | None:
    """The one axis of `merged` that is several of `apart`, dims of 1 left out; None where others differ."""
    several = [dim for dim in apart if dim != 1]
    for place, dim in enumerate(merged):
        before = [d for d in merged[:place] if d != 1]
        after = [d for d in merged[place + 1 :] if d != 1]
        lead = several[len(before) : len(several) - len(after)]
        if len(lead) > 1 and several == [*before, *lead, *after] and product(tuple(lead)) == dim:
            return place, tuple(lead)
    return None


class RegionSearch:
    """Finds the region around a merged axis of one graph.

    Args:
        facts: What is known of the values.
        graph: The graph.
        axis: The merged axis.
        opset: Version of the default domain.
        products: Whether a Gemm may become MatMul and Add.
        targets: Gives the term of a vector that is available before a node; None: there is none.
    """

    def __init__(
        self,
        facts: Facts,
        graph: ir.Graph,
        axis: MergedAxis,
        opset: int,
        *,
        products: bool,
        targets: Targets,
    ) -> None:
        self._facts = facts
        self._graph = graph
        self._axis = axis
        self._lead = axis.lead
        self._opset = opset
        self._products = products
        self._targets = targets
        self.places: dict[ir.Value, int] = {}
        self._members: dict[ir.Node, Adapted] = {}

    def find(self) -> MergedRegion | None:
        """The region; None where parting it does not pay."""
        self._reach()
        members = self._members
        while members:
            self._drop_impossible(members)
            region = self._valued(members)
            if region.gain > 0 or (region.gain == 0 and region.runtime > 0):
                return region
            worst = self._worst_edge(members, region.gain) if len(members) <= LARGEST else None
            if worst is None:
                break
            del members[worst]
        return None

    # ------------------------------------------------------------------ what the axis reaches

    def _reach(self) -> None:
        """Go from value to value, along with the place of the axis, as far as operators carry it."""
        pending = [(self._axis.value, self._axis.place)]
        conflicts: set[ir.Node] = set()
        while pending:
            value, place = pending.pop()
            if value in self.places:
                continue
            self.places[value] = place
            producer = value.producer()
            nodes = [(use.node, use.idx) for use in value.uses()]
            around: list[tuple[ir.Node, int | None]] = [*nodes]
            if producer is not None:
                around.append((producer, None))
            for node, index in around:
                if node in self._members or node in conflicts:
                    continue
                how = self._candidate(node, Anchor(index, place))
                if how is None:
                    continue
                found = self._wide(node, how) + [(output, how.result) for output in node.outputs]
                if any(self.places.get(v, p) != p for v, p in found):
                    conflicts.add(node)
                    continue
                self._members[node] = how
                pending.extend(found)

    def _candidate(self, node: ir.Node, anchor: Anchor) -> Adapted | None:
        if node.graph is not self._graph:
            return None
        how = adapted(self._facts, node, self._opset, anchor, self._lead)
        return how if how is None or self._products or not how.is_product else None

    def _wide(self, node: ir.Node, how: Adapted) -> list[tuple[ir.Value, int]]:
        """The inputs of a node that have the whole axis."""
        found = []
        for i, place in how.inputs.items():
            value = node.inputs[i]
            dims = self._facts.dims(value) if value is not None else None
            if value is not None and dims is not None and dims[place] != 1:
                found.append((value, place))
        return found

    # ------------------------------------------------------------------ what comes in

    def _apart(self, value: ir.Value, place: int) -> Dims:
        """The dims of a value with parted axes."""
        dims = self._facts.dims(value)
        assert dims is not None, "a value with the axis has a rank"
        return parted(dims, place, self._lead)

    def _taken(self, node: ir.Node, how: Adapted) -> list[tuple[ir.Value, int]]:
        """The inputs of a node that change."""
        return [(value, place) for i, place in how.inputs.items() if (value := node.inputs[i]) is not None]

    def _part(self, value: ir.Value, place: int, members: dict[ir.Node, Adapted]) -> Part | None:
        """How a tensor that no member makes gets parted."""
        node = value.producer()
        if node is not None and node.graph is self._graph:
            if is_relabelling(node) and node.inputs[0] is not None:
                source = node.inputs[0]
                dims = self._facts.dims(source)
                how = relabelling(dims, self._apart(value, place), self._opset) if dims is not None else None
                if how is not None:
                    return Part("again" if how.op_type else "vanish", source, how)
            found = self._tile(value, node, members) if node.op_type == "Tile" and place == 0 else None
            if found is not None:
                return found
            if node.op_type == "Expand" and place == 0:
                return self._expand(value, node)
        dims = self._facts.dims(value)
        how = relabelling(dims, self._apart(value, place), self._opset) if dims is not None else None
        return None if how is None else Part("new", value, how)

    def _expand(self, value: ir.Value, node: ir.Node) -> Part | None:
        """An Expand of something that has no leading axes of its own."""
        source = node.inputs[0]
        dims = self._facts.dims(source) if source is not None else None
        rank = self._facts.rank(value)
        if source is None or dims is None or rank is None or (len(dims) == rank and dims[0] != 1):
            return None
        target = self._targets(self._apart(value, 0), node)
        return None if target is None else Part("expand", source, Relabelling(""), target)

    def _tile(self, value: ir.Value, node: ir.Node, members: dict[ir.Node, Adapted]) -> Part | None:
        """A Tile over the outer part alone: those who broadcast need it not."""
        source, counts = node.inputs[0], input_of(node, 1)
        dims = self._facts.dims(source) if source is not None else None
        repeats = self._facts.elements(counts) if counts is not None else None
        if source is None or dims is None or repeats is None or dims[0] != product(self._lead[1:]):
            return None
        outer = (self._lead[0], *(1,) * (len(dims) - 1))
        if repeats != outer or not self._only_broadcast(value, members):
            return None
        how = relabelling(dims, (1, *self._lead[1:], *dims[1:]), self._opset)
        return None if how is None else Part("tile", source, how)

    def _only_broadcast(self, value: ir.Value, members: dict[ir.Node, Adapted]) -> bool:
        """Whether all who take a value, through nodes of one input, broadcast it with a full one."""
        pending = [value]
        while pending:
            current = pending.pop()
            if current.is_graph_output():
                return False
            for use in current.uses():
                how = members.get(use.node)
                if how is None or not how.weak:
                    return False
                others = [other for other, _ in self._wide(use.node, how) if other is not current]
                if not others:
                    pending.extend(use.node.outputs)
                elif any((maker := other.producer()) and maker.op_type == "Tile" for other in others):
                    return False
        return True

    # ------------------------------------------------------------------ what goes out

    def _exits(
        self, members: dict[ir.Node, Adapted], value: ir.Value
    ) -> Iterator[tuple[ir.Node, Relabelling | None]]:
        """Relabellings that take a member's output, with what they become (None: they can't)."""
        for use in value.uses():
            node = use.node
            if node in members or not is_relabelling(node) or use.idx or node.graph is not self._graph:
                continue
            dims = self._facts.dims(node.outputs[0])
            apart = self._apart(value, self.places[value])
            yield node, relabelling(apart, dims, self._opset) if dims is not None else None

    def _outlet(self, members: dict[ir.Node, Adapted], value: ir.Value) -> bool | None:
        """Whether somebody needs a member's output merged; None: needs it, and no constant target does it."""
        exits = {node for node, how in self._exits(members, value) if how is not None}
        needed = value.is_graph_output() or any(
            use.node not in members and use.node not in exits for use in value.uses()
        )
        if not needed:
            return False
        dims = self._facts.dims(value)
        assert dims is not None, "a value with the axis has a rank"
        apart = self._apart(value, self.places[value])
        return True if relabelling(apart, dims, self._opset) is not None else None

    # ------------------------------------------------------------------ what it is worth

    def _drop_impossible(self, members: dict[ir.Node, Adapted]) -> None:
        """Drop nodes whose inputs can't be parted or whose outputs can't be merged with constant targets."""
        changed = True
        while changed:
            changed = False
            for node, how in list(members.items()):
                inputs = [(v, p) for v, p in self._taken(node, how) if v.producer() not in members]
                possible = all(self._part(value, place, members) is not None for value, place in inputs)
                if not possible or any(self._outlet(members, value) is None for value in node.outputs):
                    del members[node]
                    changed = True

    def _valued(self, members: dict[ir.Node, Adapted]) -> MergedRegion:
        """What parting would bring."""
        region = MergedRegion(self._lead, members, self.places)
        for node, adaptation in members.items():
            region.gain -= adaptation.growth
            for value, place in self._taken(node, adaptation):
                if value.producer() in members or (value, place) in region.parts:
                    continue
                part = self._part(value, place, members)
                assert part is not None, "impossible nodes are dropped"
                region.parts[value, place] = part
                region.gain += _gain_of_input(members, value, part, region)
            for value in node.outputs:
                region.gain -= bool(self._outlet(members, value))
                for user, how in self._exits(members, value):
                    if how is not None:
                        region.gain += not how.op_type
                        region.runtime += _has_computed_target(user)
        region.gain -= len(frozenset().union(*(target.nodes for target in region.targets)))
        return region

    def _worst_edge(self, members: dict[ir.Node, Adapted], gain: int) -> ir.Node | None:
        """A node at the edge without which the rest is worth more."""
        best: tuple[int, ir.Node] | None = None
        for node, how in members.items():
            if not self._is_costly(members, node, how):
                continue
            rest = {other: adaptation for other, adaptation in members.items() if other is not node}
            self._drop_impossible(rest)
            value_of_rest = self._valued(rest).gain if rest else 0
            if value_of_rest > gain and (best is None or value_of_rest > best[0]):
                best = value_of_rest, node
        return best[1] if best is not None else None

    def _is_costly(self, members: dict[ir.Node, Adapted], node: ir.Node, how: Adapted) -> bool:
        if any(bool(self._outlet(members, value)) for value in node.outputs):
            return True
        inputs = [(v, p) for v, p in self._taken(node, how) if v.producer() not in members]
        parts = [self._part(value, place, members) for value, place in inputs]
        return any(part is not None and part.kind == "new" for part in parts)


def _gain_of_input(members: dict[ir.Node, Adapted], value: ir.Value, part: Part, region: MergedRegion) -> int:
    alone = not value.is_graph_output() and all(use.node in members for use in value.uses())
    if constants.constant(part.source) is not None and part.kind != "vanish":
        return int(part.kind == "tile" and alone)  # a relabelled constant is a constant
    if part.kind == "new":
        return -1
    producer = value.producer()
    if part.kind == "vanish":
        region.runtime += alone and producer is not None and _has_computed_target(producer)
        return int(alone)
    if part.target is not None:
        region.targets.add(part.target)
    # A Reshape or Expand with another target, or a Reshape in the place of a Tile.
    if alone and producer is not None and part.kind == "again":
        region.runtime += _has_computed_target(producer)
    return 0 if alone else -1


def _has_computed_target(node: ir.Node) -> bool:
    return node.op_type == "Reshape" and len(node.inputs) > 1 and constants.constant(node.inputs[1]) is None
