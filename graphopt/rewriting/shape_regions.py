"""The shape arithmetic of a graph: nodes whose outputs are known integers, and what others take from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from itertools import product as combinations

import onnx_ir as ir

from graphopt.ir import facts as operator_facts
from graphopt.ir.dims import Dim, Expr
from graphopt.ir.dims.expression import Atom
from graphopt.ir.dims.parts import divisions
from graphopt.ir.fact import TensorFact
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import reshape_targets
from graphopt.ir.shape_terms import Source
from graphopt.rewriting.scope import Scope

__all__ = ["ShapeRegion", "Want", "known_integers", "shape_region", "sources"]

# A target of Expand is tried with and without each dim that the input has already: 2^4 contents.
MOST_CHOICES = 16

Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """A tensor that operators outside of the region take.

    Attributes:
        value: The tensor as it is computed now.
        dtype: Its element type.
        dims: Its shape.
        choices: Contents that it may have, row-major; those of other length than its own are vectors too.
        uses: (node, input) of those who take it.
        limit: Place of the first of them.
    """

    value: ir.Value
    dtype: ir.DataType
    dims: tuple[int, ...]
    choices: tuple[Dims, ...]
    uses: tuple[tuple[ir.Node, int], ...]
    limit: int


@dataclass(slots=True)
class ShapeRegion:
    """The shape arithmetic of one graph.

    Attributes:
        places: Nodes of the graph with their numbers.
        nodes: Those whose outputs are known integers.
        kept: Values that must stay as they are: graph outputs.
        wants: What others take.
        divisions: Quotients that the region computes itself.
    """

    places: dict[ir.Node, int]
    nodes: dict[ir.Node, None]
    kept: list[ir.Value]
    wants: list[Want]
    divisions: set[Atom]

    def cone(self, value: ir.Value, known: dict[ir.Value, frozenset[ir.Node]]) -> frozenset[ir.Node]:
        """The nodes of the region that compute a value; `known` remembers them."""
        pending = [value]
        while pending:
            current = pending[-1]
            producer = current.producer()
            if current in known or producer is None or producer not in self.nodes:
                known.setdefault(current, frozenset())
                pending.pop()
                continue
            inputs = [given for given in producer.inputs if given is not None]
            missing = [given for given in inputs if given not in known]
            if missing:
                pending.extend(missing)
                continue
            known[current] = frozenset({producer}).union(*(known[given] for given in inputs))
            pending.pop()
        return known[value]


def known_integers(facts: Facts, value: ir.Value) -> Dims | None:
    """The elements of an integer tensor, or of floats that are integers, if all of them are known."""
    fact = facts.of(value)
    if not isinstance(fact, TensorFact) or fact.elements is None or fact.dtype is None or fact.dims is None:
        return None
    if not (fact.dtype.is_integer() or fact.dtype.is_floating_point()):
        return None
    found: list[Dim] = []
    for element in fact.elements:
        if type(element) is float and element.is_integer():
            found.append(int(element))
        elif type(element) is int or type(element) is Expr:
            found.append(element)
        else:
            return None
    return tuple(found)


def shape_region(scope: Scope) -> ShapeRegion:
    """Find the shape arithmetic of a graph; bodies are regions of their own."""
    region = ShapeRegion({node: i for i, node in enumerate(scope.graph)}, {}, [], [], set())
    for node in region.places:
        if node.op_type == "Constant" or not node.outputs or bodies(node):
            continue
        known = all(known_integers(scope.facts, value) is not None for value in node.outputs)
        if known and operator_facts.is_pure(node):
            region.nodes[node] = None
    for node in region.nodes:
        region.divisions |= _own_divisions(scope.facts, node)
        for value in node.outputs:
            if value.is_graph_output():
                region.kept.append(value)
            region.wants.extend(_wants(scope, region, value))
    return region


def _own_divisions(facts: Facts, node: ir.Node) -> set[Atom]:
    """Quotients in a node's outputs that are not in what it takes."""
    if node.op_type in ("Shape", "Size"):
        return set()
    made = {atom for v in node.outputs for e in known_integers(facts, v) or () for atom in divisions(e)}
    if made:
        taken = [known_integers(facts, value) or () for value in node.inputs if value is not None]
        made.difference_update(atom for elements in taken for e in elements for atom in divisions(e))
    return made


def _wants(scope: Scope, region: ShapeRegion, value: ir.Value) -> Iterator[Want]:
    """One want for all uses that take the same choices."""
    elements, dims, dtype = (
        known_integers(scope.facts, value),
        scope.facts.dims(value),
        scope.facts.dtype(value),
    )
    assert elements is not None and dims is not None and dtype is not None, "found in the region"
    groups: dict[tuple[Dims, ...], list[tuple[ir.Node, int]]] = {}
    for use in value.uses():
        if use.node not in region.nodes:
            choices = _choices(scope.facts, use.node, use.idx, elements)
            groups.setdefault(choices, []).append((use.node, use.idx))
    for choices, uses in groups.items():
        limit = min(region.places[_here(scope, node)] for node, _ in uses)
        yield Want(value, dtype, tuple([d for d in dims if type(d) is int]), choices, tuple(uses), limit)


def _here(scope: Scope, node: ir.Node) -> ir.Node:
    """The node of the scope's graph that the node is, or is inside of."""
    while node.graph is not scope.graph:
        owner = scope.editor.regions[node.graph].owner if node.graph is not None else None
        assert owner is not None, "a value is used in its graph or in a body below"
        node = owner
    return node


def _choices(facts: Facts, node: ir.Node, index: int, elements: Dims) -> tuple[Dims, ...]:
    """The contents that an operator may be given instead of these, for the same result."""
    data = node.inputs[0]
    if index != 1 or node.domain != "" or node.op_type not in ("Reshape", "Expand") or data is None:
        return (elements,)
    source, result = facts.dims(data), facts.dims(node.outputs[0])
    if source is None or result is None:
        return (elements,)
    if node.op_type == "Expand":
        return expand_targets(source, result, elements)
    if "allowzero" in node.attributes or len(result) != len(elements):
        return (elements,)
    return tuple(dict.fromkeys(reshape_targets(source, result, elements)))


def expand_targets(source: Dims, result: Dims, elements: Dims) -> tuple[Dims, ...]:
    """Other contents that a target of Expand may have: 1 where the input has the result's dim already."""
    padded: tuple[Dim | None, ...] = (None,) * (len(result) - len(source)) + source
    offset = len(result) - len(elements)
    options = [
        tuple(dict.fromkeys((1, element, dim) if have == dim else (element, dim)))
        for have, dim, element in zip(padded[offset:], result[offset:], elements, strict=True)
    ]
    found = [elements]
    for choice in islice(combinations(*options), MOST_CHOICES):
        first = 0
        # Leading ones change nothing, as long as the rank comes from the input.
        while len(source) == len(result) and first < len(choice) - 1 and choice[first] == 1:
            first += 1
        found.append(choice[first:])
    return tuple(dict.fromkeys(found))


def sources(scope: Scope, region: ShapeRegion) -> list[Source]:
    """Values whose dims may be read: inputs of the model and the body, what is read already, then others.

    An inner value that no Shape reads yet is taken only for a dim that nothing else has: one more consumer
    may keep it from being fused away.
    """
    inputs = [value for value in scope.editor.model.graph.inputs if value.const_value is None]
    if scope.region.owner is not None:
        inputs.extend(scope.graph.inputs)
    read = [n.inputs[0] for n in region.nodes if n.op_type in ("Shape", "Size") and n.inputs[0] is not None]
    others = [value for node in region.places if node not in region.nodes for value in node.outputs]
    found: dict[ir.Value, Source] = {}
    covered: set[Dim] = set()
    for number, value in enumerate([*inputs, *read, *others]):
        dims = scope.facts.dims(value)
        if value in found or not dims or all(type(dim) is int for dim in dims):
            continue
        if number >= len(inputs) + len(read) and all(type(dim) is int or dim in covered for dim in dims):
            continue
        producer = value.producer()
        place = region.places.get(producer, -1) if producer is not None else -1
        found[value] = Source(value, dims, place)
        covered.update(dims)
    return list(found.values())
