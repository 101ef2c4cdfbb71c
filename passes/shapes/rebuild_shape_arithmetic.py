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

import onnx_ir as ir

from graphopt.ir.shape_search import SHAPE_SLICES_SINCE, TermSearch
from graphopt.ir.shape_terms import Term, cost
from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.shape_building import TermBuilder
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
        given = sources(scope, region)

        def best(opset: int) -> tuple[list[tuple[Want, Term]], int]:
            return _cheaper_than_old(region, _terms(region, TermSearch(given, opset, region.divisions)))

        chosen, count = best(scope.opset)
        if scope.opset < SHAPE_SLICES_SINCE and best(SHAPE_SLICES_SINCE)[1] < count:
            scope.raise_opset(SHAPE_SLICES_SINCE)
        anchor = chosen[0][0].value.producer() if chosen else None
        if anchor is not None and scope.fire(anchor, "rebuild"):
            _build(scope, region, chosen)


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
                terms[i] = min(found, key=lambda way: cost(way, held))
                held.update(terms[i].nodes)
    return terms


def _without(held: Counter[Term], term: Term) -> Counter[Term]:
    for node in term.nodes:
        held[node] -= 1
        if not held[node]:
            del held[node]
    return held


def _cheaper_than_old(region: ShapeRegion, terms: dict[int, Term]) -> tuple[list[tuple[Want, Term]], int]:
    """The wants to build anew, and the number of nodes then; the others keep old nodes that are no dearer."""
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
    count = sum(number > 0 for number in stay.values()) + len(come)
    if count >= len(everything):
        return [], len(everything)
    return [(region.wants[i], term) for i, term in new.items()], count


def _build(scope: Scope, region: ShapeRegion, chosen: list[tuple[Want, Term]]) -> None:
    """Make all terms, hand them to those who take them, drop the old nodes."""
    editor = scope.editor
    builder = TermBuilder(editor, list(region.places))
    named: set[ir.Value] = set()
    for want, term in chosen:
        value = builder.value(term, like=want.value.producer())
        for node, index in want.uses:
            node.replace_input_with(index, value)
            editor.touch(node)
        is_gone = not want.value.uses() and not want.value.is_graph_output()
        if is_gone and value.producer() is not None and value not in named:
            named.add(value)
            name = want.value.name
            want.value.name = editor.names.unique(f"{name}_was")
            value.name = name
    # Dead ones too: they hold on to what others no longer need.
    for node in reversed(region.nodes):
        if node.graph is not None and not any(v.uses() or v.is_graph_output() for v in node.outputs):
            scope.remove(node)
