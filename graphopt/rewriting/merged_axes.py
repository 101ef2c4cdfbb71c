"""Regions of a graph that work on a merged leading axis and would do as well with its parts.

    before   q[b,h,n,d] -> Reshape(b*h,n,d) -> MatMul -> Softmax -> Reshape(b,h,n,m)
    after    q[b,h,n,d] -> MatMul -> Softmax

A region is a set of nodes (`members`) whose tensors all have the merged axis first. Tensors come in through
Reshapes that merge (which vanish), through others (they get another target), or plainly (it costs one);
they go out likewise. A region is worth it where more Reshapes vanish than come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.dims import Dim, product
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import Relabelling, is_relabelling, relabelling
from graphopt.ir.shape_terms import Term
from graphopt.rewriting.leading_axes import Adapted, adapted, wide_inputs

__all__ = ["MergedRegion", "Part", "find_region", "merging"]

Dims = tuple[Dim, ...]
Targets = Callable[[Dims, ir.Node], Term | None]

# A region that does not pay is cut back at its edges, one node at a time; beyond this it is given up.
LARGEST = 400


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
        parts: How tensors that no member makes get parted.
        targets: New targets of Expands.
        runtime: Reshapes with computed targets that vanish, or get a constant one.
        gain: Nodes that vanish less those that come.
    """

    lead: Dims
    members: dict[ir.Node, Adapted]
    parts: dict[ir.Value, Part] = field(default_factory=dict)
    targets: set[Term] = field(default_factory=set)
    runtime: int = 0
    gain: int = 0


def merging(facts: Facts, node: ir.Node) -> tuple[ir.Value, Dims] | None:
    """The value with a merged axis on either side of a Reshape, and the parts; None where there is none."""
    if not is_relabelling(node) or node.inputs[0] is None:
        return None
    source, result = facts.dims(node.inputs[0]), facts.dims(node.outputs[0])
    if source is None or result is None:
        return None
    lead = _parts(source, result)
    if lead is not None:
        return node.outputs[0], lead
    lead = _parts(result, source)
    return None if lead is None else (node.inputs[0], lead)


def _parts(parted: Dims, merged: Dims) -> Dims | None:
    """The dims, dims of 1 left out, that are the first one of `merged`; None where the others differ."""
    before = tuple([dim for dim in parted if dim != 1])
    trailing = tuple([dim for dim in merged[1:] if dim != 1])
    lead = before[: len(before) - len(trailing)]
    if len(merged) < 2 or len(lead) < 2 or before[len(lead) :] != trailing or product(lead) != merged[0]:
        return None
    return lead


class _Search:
    """What is asked of one graph and one `lead`."""

    def __init__(
        self, facts: Facts, graph: ir.Graph, lead: Dims, opset: int, products: bool, targets: Targets
    ) -> None:
        self.facts = facts
        self.graph = graph
        self.lead = lead
        self.merged = product(lead)
        self.opset = opset
        self.products = products
        self.targets = targets

    def is_wide(self, value: ir.Value | None) -> bool:
        dims = self.facts.dims(value) if value is not None else None
        return dims is not None and len(dims) > 1 and dims[0] == self.merged

    def wide(self, node: ir.Node) -> list[ir.Value]:
        """The inputs of a node that are to be parted."""
        indices = sorted(wide_inputs(self.facts, node, self.merged))
        return [value for i in indices if (value := node.inputs[i]) is not None]

    def parted(self, value: ir.Value) -> Dims:
        """The dims of a wide value with parted axes."""
        dims = self.facts.dims(value)
        assert dims is not None, "a wide value has a rank"
        return (*self.lead, *dims[1:])

    def candidate(self, node: ir.Node) -> Adapted | None:
        """How the node would run on parted axes, if it gives nothing but wide values."""
        if node.graph is not self.graph:
            return None
        wide = wide_inputs(self.facts, node, self.merged)
        if not wide or not all(self.is_wide(value) for value in node.outputs):
            return None
        if is_relabelling(node):
            assert node.inputs[0] is not None, "it is wide"
            again = relabelling(self.parted(node.inputs[0]), self.parted(node.outputs[0]), self.opset)
            return Adapted(relabelling=again) if again is not None else None
        how = adapted(self.facts, node, self.opset, wide, len(self.lead) - 1)
        return how if how is None or self.products or not how.is_product else None

    def part(self, value: ir.Value, members: dict[ir.Node, Adapted]) -> Part | None:
        """How a wide value that no member makes gets parted."""
        node = value.producer()
        if (
            node is not None
            and node.graph is self.graph
            and is_relabelling(node)
            and node.inputs[0] is not None
        ):
            source = node.inputs[0]
            dims = self.facts.dims(source)
            how = relabelling(dims, self.parted(value), self.opset) if dims is not None else None
            if how is not None:
                return Part("again" if how.op_type else "vanish", source, how)
        if node is not None and node.op_type == "Tile" and node.graph is self.graph:
            found = self._tile(value, node, members)
            if found is not None:
                return found
        if node is not None and node.op_type == "Expand" and node.graph is self.graph:
            return self._expand(value, node)
        dims = self.facts.dims(value)
        how = relabelling(dims, self.parted(value), self.opset) if dims is not None else None
        return None if how is None else Part("new", value, how)

    def _expand(self, value: ir.Value, node: ir.Node) -> Part | None:
        """An Expand of something that has no leading axes of its own."""
        source = node.inputs[0]
        dims = self.facts.dims(source) if source is not None else None
        rank = self.facts.rank(value)
        if source is None or dims is None or rank is None or (len(dims) == rank and dims[0] != 1):
            return None
        target = self.targets(self.parted(value), node)
        return None if target is None else Part("expand", source, Relabelling(""), target)

    def _tile(self, value: ir.Value, node: ir.Node, members: dict[ir.Node, Adapted]) -> Part | None:
        """A Tile over the outer part alone: those who broadcast need it not."""
        source, counts = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        dims = self.facts.dims(source) if source is not None else None
        repeats = self.facts.elements(counts) if counts is not None else None
        if source is None or dims is None or repeats is None or dims[0] != product(self.lead[1:]):
            return None
        if repeats != (self.lead[0], *(1,) * (len(dims) - 1)) or not _only_broadcast(value, members, self):
            return None
        weak = (1, *self.lead[1:], *dims[1:])
        how = relabelling(dims, weak, self.opset)
        return None if how is None else Part("tile", source, how)


def _only_broadcast(value: ir.Value, members: dict[ir.Node, Adapted], search: _Search) -> bool:
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
            others = [other for other in search.wide(use.node) if other is not current]
            if not others:
                pending.extend(use.node.outputs)
            elif any((maker := other.producer()) and maker.op_type == "Tile" for other in others):
                return False
    return True


def find_region(
    facts: Facts,
    graph: ir.Graph,
    seed: ir.Value,
    lead: Dims,
    opset: int,
    *,
    products: bool,
    targets: Targets,
    explored: set[ir.Value],
) -> MergedRegion | None:
    """The region around a value with a merged axis; None where parting it does not pay.

    Args:
        facts: What is known of the values.
        graph: The graph of the region.
        seed: A value with the merged axis.
        lead: The parts of the axis.
        opset: Version of the default domain.
        products: Whether a Gemm may become MatMul and Add.
        targets: Gives the term of a vector that is available before a node; None: there is none.
        explored: Values around which no region of this lead was found; those of a failure are added.
    """
    if seed in explored:
        return None
    search = _Search(facts, graph, lead, opset, products, targets)
    members, seen = _reached(search, seed)
    while members:
        _drop_impossible(search, members)
        region = _valued(search, members)
        if region.gain > 0 or (region.gain == 0 and region.runtime > 0):
            return region
        worst = _worst_edge(search, members, region.gain)
        if worst is None:
            break
        del members[worst]
    explored |= seen
    return None


def _reached(search: _Search, seed: ir.Value) -> tuple[dict[ir.Node, Adapted], set[ir.Value]]:
    """All nodes that wide values connect with the seed, and the values."""
    members: dict[ir.Node, Adapted] = {}
    seen: set[ir.Value] = set()
    pending = [seed]
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        around = [use.node for use in value.uses()] + ([producer] if producer is not None else [])
        for node in dict.fromkeys(around):
            if node in members or len(members) >= LARGEST:
                continue
            how = search.candidate(node)
            if how is not None:
                members[node] = how
                pending.extend(search.wide(node))
                pending.extend(node.outputs)
    return members, seen


def _drop_impossible(search: _Search, members: dict[ir.Node, Adapted]) -> None:
    """Drop nodes whose inputs can't be parted or whose outputs can't be merged with constant targets."""
    changed = True
    while changed:
        changed = False
        for node in list(members):
            inputs = [v for v in search.wide(node) if v.producer() not in members]
            possible = all(search.part(value, members) is not None for value in inputs) and all(
                _outlet(search, members, value) is not None for value in node.outputs
            )
            if not possible:
                del members[node]
                changed = True


def _exits(
    search: _Search, members: dict[ir.Node, Adapted], value: ir.Value
) -> Iterator[tuple[ir.Node, Relabelling | None]]:
    """Relabellings that take a member's output, with what they become (None: they can't)."""
    for use in value.uses():
        if (
            use.node in members
            or not is_relabelling(use.node)
            or use.idx != 0
            or use.node.graph is not search.graph
        ):
            continue
        dims = search.facts.dims(use.node.outputs[0])
        yield use.node, relabelling(search.parted(value), dims, search.opset) if dims is not None else None


def _outlet(search: _Search, members: dict[ir.Node, Adapted], value: ir.Value) -> bool | None:
    """Whether somebody needs a member's output merged; None: needs it, and no constant target merges it."""
    exits = {node for node, how in _exits(search, members, value) if how is not None}
    needed = value.is_graph_output() or any(
        use.node not in members and use.node not in exits for use in value.uses()
    )
    if not needed:
        return False
    dims = search.facts.dims(value)
    assert dims is not None, "a wide value has a rank"
    return True if relabelling(search.parted(value), dims, search.opset) is not None else None


def _valued(search: _Search, members: dict[ir.Node, Adapted]) -> MergedRegion:
    """What parting would bring."""
    region = MergedRegion(search.lead, members)
    for node, adaptation in members.items():
        region.gain -= adaptation.growth
        for value in search.wide(node):
            if value.producer() in members or value in region.parts:
                continue
            part = search.part(value, members)
            assert part is not None, "impossible nodes are dropped"
            region.parts[value] = part
            region.gain += _gain_of_input(members, value, part, region)
        for value in node.outputs:
            region.gain -= bool(_outlet(search, members, value))
            for user, how in _exits(search, members, value):
                if how is not None:
                    region.gain += not how.op_type
                    region.runtime += _has_computed_target(user)
    region.gain -= len(frozenset().union(*(target.nodes for target in region.targets)))
    return region


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


def _worst_edge(search: _Search, members: dict[ir.Node, Adapted], gain: int) -> ir.Node | None:
    """A node at the edge without which the rest is worth more."""
    best: tuple[int, ir.Node] | None = None
    for node in members:
        costly = any(bool(_outlet(search, members, value)) for value in node.outputs) or any(
            value.producer() not in members and (part := search.part(value, members)) and part.kind == "new"
            for value in search.wide(node)
        )
        if not costly:
            continue
        rest = {other: how for other, how in members.items() if other is not node}
        _drop_impossible(search, rest)
        value_of_rest = _valued(search, rest).gain if rest else 0
        if value_of_rest > gain and (best is None or value_of_rest > best[0]):
            best = value_of_rest, node
    return best[1] if best is not None else None
