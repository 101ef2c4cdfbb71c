"""Compute the shapes that a graph needs from its inputs' dims, with as few nodes as possible.

    before   Expand(h, Concat(Unsqueeze(Gather(Shape(x), 0)), [1], Unsqueeze(Mul(Gather(Shape(h), 1), 2))))
    after    Expand(h, Concat(Shape<end=1>(x), [1], Mul(Shape<start=1, end=2>(h), 2)))

All small integer tensors of a graph whose elements are known expressions are one region, however they are
computed. What other operators take from it is built anew, together, so that an expression is computed
once; targets of Reshape and Expand take whichever of their equivalent contents is cheapest. A tensor whose
old nodes are no dearer keeps them, and nothing happens unless fewer nodes are left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.shape_terms import Term, TermSearch
from graphopt.rewriting import Pass, Scope, constant, op
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.operators import building
from graphopt.rewriting.shape_regions import ShapeRegion, Want, shape_region, sources

# Each tensor is chosen again when it is known what the others need.
ROUNDS = 2


@dataclass(frozen=True)
class RebuildShapeArithmetic(Pass):
    """Compute the shapes that a graph needs from its inputs' dims, with as few nodes as possible."""

    name = "rebuild-shape-arithmetic"
    family = "shapes"
    stage = "fuse"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """One step a graph."""
        region = shape_region(scope)
        if not region.wants:
            return
        chosen = _cheaper_than_old(region, _terms(region, TermSearch(sources(scope, region), scope.opset)))
        anchor = chosen[0][0].value.producer() if chosen else None
        if anchor is not None and scope.fire(anchor, "rebuild"):
            _Builder(scope, list(region.places)).build(chosen)


def _terms(region: ShapeRegion, search: TermSearch) -> dict[int, Term]:
    """The cheapest term of each want that has one, given those of the others."""
    terms: dict[int, Term] = {}
    held: Counter[Term] = Counter()
    # Long ones first: what is in them can be picked for the short ones.
    order = sorted(range(len(region.wants)), key=lambda i: -len(set(region.wants[i].choices[0])))
    for _ in range(ROUNDS):
        for i in order:
            want = region.wants[i]
            if i in terms:
                held = _without(held, terms.pop(i))
            ways = [
                search.find(
                    choice,
                    want.dims if len(want.dims) != 1 else (len(choice),),
                    want.dtype,
                    held,
                    want.limit,
                )
                for choice in want.choices
            ]
            found = [way for way in ways if way is not None]
            if found:
                terms[i] = min(
                    found, key=lambda way: (sum(t not in held for t in way.nodes), len(way.nodes), way.place)
                )
                held.update(terms[i].nodes)
    return terms


def _without(held: Counter[Term], term: Term) -> Counter[Term]:
    for node in term.nodes:
        held[node] -= 1
        if not held[node]:
            del held[node]
    return held


def _cheaper_than_old(region: ShapeRegion, terms: dict[int, Term]) -> list[tuple[Want, Term]]:
    """The wants to build anew: the others keep their old nodes, which are no dearer. Empty: no gain."""
    known: dict[ir.Value, frozenset[ir.Node]] = {}
    olds = [region.cone(want.value, known) for want in region.wants]
    stay: Counter[ir.Node] = Counter()
    come: Counter[Term] = Counter()
    for value in region.kept:
        stay.update(region.cone(value, known))
    for i, cone in enumerate(olds):
        if i not in terms:
            stay.update(cone)
    new = dict(terms)
    for term in new.values():
        come.update(term.nodes)
    changed = True
    while changed:
        changed = False
        for i, term in list(new.items()):
            saved = sum(come[node] == 1 for node in term.nodes)
            if sum(not stay[node] for node in olds[i]) <= saved:
                del new[i]
                come = _without(come, term)
                stay.update(olds[i])
                changed = True
    everything = frozenset().union(*olds, *(region.cone(value, known) for value in region.kept))
    fewer = sum(count > 0 for count in stay.values()) + len(come) < len(everything)
    return [(region.wants[i], term) for i, term in new.items()] if fewer else []


class _Builder:
    """Makes the nodes of terms, each behind the last of what it takes."""

    def __init__(self, scope: Scope, order: list[ir.Node]) -> None:
        self._scope = scope
        self._order = order
        self._made: dict[Term, ir.Value] = {}
        self._fresh: set[ir.Node | None] = set()  # nodes whose outputs may still take an old name

    def build(self, chosen: list[tuple[Want, Term]]) -> None:
        """Make all terms, hand them to those who take them, drop the old nodes."""
        editor = self._scope.editor
        for want, term in chosen:
            value = self._value(term, want.value)
            for node, index in want.uses:
                node.replace_input_with(index, value)
                editor.touch(node)
            if not want.value.uses() and not want.value.is_graph_output() and value.producer() in self._fresh:
                self._fresh.discard(value.producer())
                name = want.value.name
                want.value.name = editor.names.unique(f"{name}_was")
                value.name = name
        for want, _ in chosen:
            producer = want.value.producer()
            if producer is not None and producer.graph is not None:
                self._scope.remove(producer)

    def _value(self, term: Term, old: ir.Value) -> ir.Value:
        if term in self._made:
            return self._made[term]
        inputs = [self._value(given, old) for given in term.inputs]
        before = self._order[term.place + 1]
        draft = Draft(self._scope.editor, before)
        with building(draft):
            value = _written(term, inputs)
        producer = old.producer()
        self._fresh.update(draft.nodes)
        for node in draft.nodes:
            self._scope.editor.insert(node, before)
            if producer is not None:
                node.metadata_props.update(producer.metadata_props)
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
        bounds = {"start": term.numbers[0], "end": term.numbers[1]} if term.numbers else {}
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
