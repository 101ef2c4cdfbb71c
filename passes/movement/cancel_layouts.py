"""Carry Transposes, Squeezes and Unsqueezes through operators that don't mind, where fewer are left.

    before   Transpose(0 2 3 1) -> Relu -> Add(c) -> ReduceMean(1, 2) ... -> Transpose(0 3 1 2)
    after    Relu -> Add(c') -> ReduceMean(2, 3) ...

Which operators work in another layout than before is a minimum cut over the whole graph: a Transpose goes a
long way if one is gone at the end, and none is moved for nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.layouts import Layout, layouts_of
from graphopt.ir.regions import MOVEMENTS, Movement
from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.layout_search import Plan, Search
from graphopt.rewriting.movement import Chain, spelled, written

# A graph with more layouts than this is not laid out by any of them.
MOST_LAYOUTS = 8


class _Edits:
    """Puts a plan in place, node by node."""

    def __init__(self, scope: Scope, layout: Layout, plan: Plan) -> None:
        self.scope = scope
        self.layout = layout
        self.plan = plan
        # Values as laid out, by the values as they are.
        self.laid_out: dict[ir.Value, ir.Value] = {}

    def flip(self, node: ir.Node) -> None:
        """Replace a node by its flip, and bring the results back for those who need them."""
        flip = self.plan.flips[node]
        with self.scope.editing(before=node) as draft:
            inputs = [self._laid_out(v) if i in flip.operands else v for i, v in enumerate(node.inputs)]
            made = flip.build(inputs)
            for i, old in enumerate(node.outputs):
                if i not in flip.results:
                    draft.replace(old, made[i])
                    continue
                back = written(made[i], self._back(old))
                draft.replace(old, back)
                self.laid_out[back] = made[i]

    def _laid_out(self, value: ir.Value | None) -> ir.Value | None:
        assert value is not None, "an operand is there"
        known = self.laid_out.get(value)
        if known is None:
            chain = self.plan.sources.get(value)
            if chain is None:
                dims = self.scope.facts.dims(value)
                assert dims is not None, "the layout fits the value"
                source, chain = value, self._spelled(self.layout.forwards(Movement.of(dims)))
            else:
                # What the movement reads may have been written again since the plan was made.
                movement = value.producer()
                assert movement is not None and movement.inputs[0] is not None
                source = movement.inputs[0]
            known = self.laid_out[value] = written(source, chain)
        return known

    def _back(self, old: ir.Value) -> Chain:
        dims = self.scope.facts.dims(old)
        assert dims is not None, "the layout fits the value"
        return self._spelled(self.layout.backwards(Movement.of(self.layout.dims(dims))))

    def _spelled(self, movement: Movement) -> Chain:
        chain = spelled(movement, self.scope.opset, blocks=False)
        assert chain is not None, "a Transpose, Squeeze or Unsqueeze needs no shape"
        return chain

    def sink(self, node: ir.Node) -> None:
        """Let a movement read the laid out value."""
        value = node.inputs[0]
        assert value is not None
        with self.scope.editing(before=node) as draft:
            draft.replace(node.outputs[0], written(self.laid_out[value], self.plan.sinks[node], node))


@dataclass(frozen=True)
class CancelLayouts(Pass):
    """Carry Transposes, Squeezes and Unsqueezes through operators that don't mind, where fewer are left."""

    name = "cancel-layouts"
    family = "movement"
    # Attention and norms are recognised by the axes that they work on.
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place of a sum's largest term: sums in another order"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        counts: Counter[Layout] = Counter()
        for node in scope.nodes(*MOVEMENTS):
            counts.update(layouts_of(node, scope.facts))
        for layout, _ in counts.most_common(MOST_LAYOUTS):
            search = Search(scope.graph, layout, scope.facts, scope.opset)
            plans = search.plans(scope.nodes(*MOVEMENTS))
            if plans:
                place = {node: i for i, node in enumerate(scope.graph)}
                for plan in plans:
                    self._apply(scope, layout, plan, place)

    def _apply(self, scope: Scope, layout: Layout, plan: Plan, place: dict[ir.Node, int]) -> None:
        nodes = sorted(plan.flips, key=place.__getitem__)
        if not nodes or not scope.fire(nodes[0], "flip"):
            return
        edits = _Edits(scope, layout, plan)
        for node in nodes:
            edits.flip(node)
        for node in sorted(plan.sinks, key=place.__getitem__):
            edits.sink(node)
