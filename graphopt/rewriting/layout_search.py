"""Where in a graph a layout takes fewer nodes of data movement.

Every operator that can work in both layouts is a choice. Where a value is made in the one and used in the
other, a node has to stand between; a Transpose that is there already may be gone in one of them, or be as
good in both. The cheapest set of choices is a minimum cut, so that Transposes meet over any distance, and
none is moved unless some are gone.

    x -> Transpose -> Relu -> Add(c) -> Softmax -> Transpose -> y    Relu, Add, Softmax flipped
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.flows import UNLIMITED, Network
from graphopt.ir.inference import Facts
from graphopt.ir.layouts import Layout
from graphopt.ir.regions import Movement, is_movement_node, then
from graphopt.rewriting.flips import Flip, flip_of
from graphopt.rewriting.movement import Chain, spelled

__all__ = ["Plan", "Search"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Operators to be flipped, and what becomes of the movement around them.

    Attributes:
        flips: The operators, in no order.
        sources: For values made by movement: the chain to them, as laid out, from what the movement reads.
        sinks: Movement nodes that use laid out values, and the chain from those.
        gain: How many nodes fewer there will be.
    """

    flips: dict[ir.Node, Flip]
    sources: dict[ir.Value, Chain]
    sinks: dict[ir.Node, Chain]
    gain: int

    @property
    def border(self) -> list[ir.Node]:
        """The movement nodes that are changed."""
        made = [value.producer() for value in self.sources]
        return [*self.sinks, *(node for node in made if node is not None)]


@dataclass(slots=True)
class _Part:
    """Operators that can be flipped and are connected, with the values between them."""

    flips: dict[ir.Node, Flip] = field(default_factory=dict)
    values: dict[ir.Value, None] = field(default_factory=dict)


class Search:
    """The search in one graph for one layout."""

    def __init__(self, graph: ir.Graph, layout: Layout, facts: Facts, opset: int) -> None:
        self.graph = graph
        self.layout = layout
        self.facts = facts
        self.opset = opset
        self._flips: dict[ir.Node, Flip | None] = {}
        self._before: dict[ir.Value, Chain | None] = {}
        self._after: dict[ir.Node, Chain | None] = {}

    def plans(self, movements: list[ir.Node]) -> list[Plan]:
        """The flips that leave fewer nodes, in parts that have nothing to do with each other.

        Args:
            movements: The graph's movement nodes.
        """
        found: list[Plan] = []
        done: set[ir.Node] = set()
        # A movement between two parts is gone once only: the second part is looked at again next time.
        taken: set[ir.Node] = set()
        for node in movements:
            for start in self._starts(node):
                if start not in done and self._flip(start) is not None:
                    part = self._part(start)
                    done.update(part.flips)
                    plan = self._cut(part)
                    if plan is not None and taken.isdisjoint(plan.border):
                        found.append(plan)
                        taken.update(plan.border)
        return found

    def _starts(self, node: ir.Node) -> list[ir.Node]:
        """Neighbours of a movement that would not be needed if they were flipped."""
        value, source = node.outputs[0], node.inputs[0]
        if self._fits(value):
            chain = self._to(value)
            if chain is not None and not chain:
                return [use.node for use in value.uses()]
        if source is not None and self._fits(source):
            chain = self._from(node)
            producer = source.producer()
            if chain is not None and not chain and producer is not None:
                return [producer]
        return []

    def _fits(self, value: ir.Value) -> bool:
        dims = self.facts.dims(value)
        return dims is not None and self.layout.fits(dims)

    def _flip(self, node: ir.Node) -> Flip | None:
        if node not in self._flips:
            usable = node.graph is self.graph and not is_movement_node(node)
            self._flips[node] = flip_of(node, self.layout, self.facts, self.opset) if usable else None
        return self._flips[node]

    # ------------------------------------------------------------------ movement at the border

    def _to(self, value: ir.Value) -> Chain | None:
        """The chain that makes a value as laid out from what the movement that makes it reads."""
        if value not in self._before:
            node = value.producer()
            assert node is not None and node.inputs[0] is not None
            dims = self.facts.dims(node.inputs[0])
            movement = then(Movement.of(dims), node, self.facts) if dims is not None else None
            chain = self._spelled(self.layout.forwards(movement)) if movement is not None else None
            self._before[value] = chain
        return self._before[value]

    def _from(self, node: ir.Node) -> Chain | None:
        """The chain that makes what a movement makes from the laid out value that it reads."""
        if node not in self._after:
            dims = self.facts.dims(node.inputs[0]) if node.inputs[0] is not None else None
            movement: Movement | None = None
            if dims is not None:
                movement = self.layout.backwards(Movement.of(self.layout.dims(dims)))
                movement = then(movement, node, self.facts)
            self._after[node] = self._spelled(movement) if movement is not None else None
        return self._after[node]

    def _spelled(self, movement: Movement) -> Chain | None:
        return spelled(movement, self.opset, blocks=False)

    def _source_chain(self, value: ir.Value, part: _Part) -> Chain | None:
        """The chain to a value as laid out, if it is made by a movement at the part's border."""
        node = value.producer()
        if node is None or not self._is_border(node, part):
            return None
        return self._to(value)

    def _is_border(self, node: ir.Node, part: _Part) -> bool:
        """Whether a movement joins the part to the rest; one between two values of the part stays."""
        if not is_movement_node(node) or node.graph is not self.graph:
            return False
        return node.inputs[0] not in part.values or node.outputs[0] not in part.values

    # ------------------------------------------------------------------ the part of the graph that matters

    def _part(self, start: ir.Node) -> _Part:
        """Everything that can be flipped and is connected with an operator."""
        part = _Part()
        pending = [start]
        while pending:
            node = pending.pop()
            flip = self._flip(node)
            if flip is None or node in part.flips:
                continue
            part.flips[node] = flip
            values = [node.inputs[i] for i in flip.operands] + [node.outputs[i] for i in flip.results]
            for value in values:
                if value is None or value in part.values:
                    continue
                part.values[value] = None
                producer = value.producer()
                if producer is not None:
                    pending.append(producer)
                if constants.constant(value) is None:
                    pending += [use.node for use in value.uses()]
        return part

    def _cut(self, part: _Part) -> Plan | None:
        """The cheapest choices for a part, if they are cheaper than what is there."""
        network = Network()
        vertex = {node: network.vertex() for node in part.flips}
        sinks: dict[ir.Node, int] = {}
        now = 0
        for value in part.values:
            now += self._add(network, value, part, vertex, sinks)
        price, side = network.cut()
        if price >= now:
            return None
        flips = {node: flip for node, flip in part.flips.items() if vertex[node] in side}
        made = {node.outputs[i] for node, flip in flips.items() for i in flip.results}
        sources = {}
        for node, flip in flips.items():
            for i in flip.operands:
                operand = node.inputs[i]
                assert operand is not None, "an operand is there"
                chain = self._source_chain(operand, part) if operand not in made else None
                if chain is not None:
                    sources[operand] = chain
        after = {}
        for node, place in sinks.items():
            chain = self._from(node) if place in side and node.inputs[0] in made else None
            if chain is not None:
                after[node] = chain
        return Plan(flips, sources, after, now - price)

    def _add(
        self,
        network: Network,
        value: ir.Value,
        part: _Part,
        vertex: dict[ir.Node, int],
        sinks: dict[ir.Node, int],
    ) -> int:
        """Add what a value costs in either layout; returns what it costs now."""
        producer = value.producer()
        flip = part.flips.get(producer) if producer is not None else None
        is_flipped = flip is not None and producer is not None and value.index() in flip.results
        laid_out, plain = network.vertex(), network.vertex()
        now = self._add_uses(network, value, part, vertex, sinks, (laid_out, plain))
        if is_flipped and producer is not None:
            network.edge(laid_out, vertex[producer], 1)
            network.edge(vertex[producer], plain, 1)
            return now
        chain = self._source_chain(value, part)
        network.edge(laid_out, Network.SINK, 1 if chain is None else len(chain))
        if chain is not None:
            # The movement itself is needed as long as one consumer takes the value as it is.
            network.edge(Network.SOURCE, plain, 1)
            now += 1
        return now

    def _add_uses(
        self,
        network: Network,
        value: ir.Value,
        part: _Part,
        vertex: dict[ir.Node, int],
        sinks: dict[ir.Node, int],
        ends: tuple[int, int],
    ) -> int:
        """Tie the value's two forms to those who use it; returns what movement nodes among them cost now."""
        laid_out, plain = ends
        producer = value.producer()
        is_made = producer is not None and producer in part.flips
        now = 0
        users: dict[int, None] = {}
        if value.is_graph_output():
            users[Network.SINK] = None
        for use in value.uses():
            flip = part.flips.get(use.node)
            if flip is not None and use.idx in flip.operands:
                users[vertex[use.node]] = None
                continue
            chain = None
            # Movement of movement is composed elsewhere.
            if is_made and use.idx == 0 and self._is_border(use.node, part):
                chain = self._from(use.node)
            if chain is None:
                users[Network.SINK] = None
            elif use.node not in sinks:
                place = sinks[use.node] = network.vertex()
                network.edge(place, Network.SINK, len(chain))
                network.edge(Network.SOURCE, place, 1)
                users[place] = None
                now += 1
        for user in users:
            if user != Network.SINK:
                network.edge(user, laid_out, UNLIMITED)
            network.edge(plain, user, UNLIMITED)
        return now
