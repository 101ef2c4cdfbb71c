"""Look up what a loop computes from its step alone: position codes.

    before   Loop { code = Concat(Sin(Cast(step) * f), Cos(Cast(step) * f)); ... }
    after    Loop { code = Gather(table, step); ... }

The number of steps must be bounded: by the trip count, or by `step < constant` in the condition to go on. The
table must not make the file larger than the nodes that it, and everything before it, have removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.ir.evaluate.steps import evaluate_steps
from graphopt.ir.graphs import bodies
from graphopt.rewriting import Pass, Scope, constant, op

# Bytes that a node with its names takes in a file: 127 to 230 were measured over exported models.
BYTES_A_NODE = 120
MOST_STEPS = 4096
# A table is looked up by one Gather: fewer nodes than this are not worth one.
FEWEST_NODES = 3


@dataclass(frozen=True, slots=True)
class _Step:
    """A scalar that is 0 in the first iteration and one more in each that follows."""

    value: ir.Value


@dataclass(frozen=True)
class TabulateLoopSteps(Pass):
    """Replace values that a Loop computes from its step alone by a table."""

    name = "tabulate-loop-steps"
    family = "control_flow"
    stage = "finish"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        owner = scope.region.owner
        if owner is None or owner.op_type != "Loop" or owner.domain != "":
            return
        for step in _steps(scope, owner):
            bound = _most_iterations(scope, owner, step)
            if bound is not None and 0 < bound <= MOST_STEPS:
                _tabulate(scope, step, bound)


def _steps(scope: Scope, loop: ir.Node) -> Iterator[_Step]:
    """The iteration number, and carried scalars that start at 0 and go up by 1."""
    body = scope.graph
    for index, value in enumerate(body.inputs):
        if scope.facts.dims(value) != ():
            continue
        if index == 0:
            yield _Step(value)
        elif index >= 2:
            start = constants.array(loop.inputs[index]) if loop.inputs[index] is not None else None
            is_zero = start is not None and start.dtype.kind == "i" and start.item() == 0
            if is_zero and _plus_one(body.outputs[index - 1], value):
                yield _Step(value)


def _plus_one(following: ir.Value, value: ir.Value) -> bool:
    node = following.producer()
    if node is None or node.op_type != "Add" or node.domain != "" or value not in node.inputs:
        return False
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    array = constants.array(other) if other is not None else None
    return array is not None and array.shape == () and array.item() == 1


def _most_iterations(scope: Scope, loop: ir.Node, step: _Step) -> int | None:
    """The trip count, or n where the loop goes on only while step + 1 < n; None without a bound."""
    count = constants.array(loop.inputs[0]) if loop.inputs[0] is not None else None
    bounds = [int(count.item())] if count is not None and count.item() <= MOST_STEPS else []
    pending = [scope.graph.outputs[0]]
    while pending:
        node = pending.pop().producer()
        if node is None or node.domain != "" or node.graph is not scope.graph:
            continue
        first, second = (*node.inputs, None, None)[:2]
        if first is None or second is None:
            continue
        if node.op_type == "And":
            pending += [first, second]
        elif node.op_type == "Less" and (limit := constants.array(second)) is not None and limit.size == 1:
            # Going on after step k asks for k < limit, or k + 1 < limit.
            if first is step.value:
                bounds.append(int(limit.item()) + 1)
            elif _plus_one(first, step.value):
                bounds.append(int(limit.item()))
    return max(min(bounds), 1) if bounds else None


def _tabulate(scope: Scope, step: _Step, bound: int) -> None:
    made: dict[ir.Value, ir.Node] = {}
    sources = _sources(scope, step)
    for node in scope.nodes():
        if _follows(node, sources, made):
            made.update((value, node) for value in node.outputs)
    for value in list(made):
        if made[value].graph is not None and _is_used_elsewhere(value, made):
            cone = _cone(value, made, scope)
            if len(cone) >= FEWEST_NODES:
                _look_up(scope, step, value, cone, sources, bound)


def _sources(scope: Scope, step: _Step) -> dict[ir.Value, None]:
    """Values that are the step under another name or shape: the rows of a cache that grows by one, too."""
    same = scope.facts.elements(step.value)
    found = {step.value: None}
    if same is not None:
        for value in (*scope.graph.inputs, *(v for node in scope.nodes() for v in node.outputs)):
            if scope.facts.dims(value) in ((), (1,)) and scope.facts.elements(value) == same:
                found[value] = None
    return found


def _follows(node: ir.Node, sources: dict[ir.Value, None], made: dict[ir.Value, ir.Node]) -> bool:
    """Whether a node computes from the step and constants alone, and is not the step itself."""
    used = [v for v in node.inputs if v is not None]
    known = (v in sources or v in made or constants.constant(v) is not None for v in used)
    from_step = any(v in sources or v in made for v in used) and node.outputs[0] not in sources
    return from_step and all(known) and facts.is_pure(node) and not bodies(node) and len(node.outputs) == 1


def _is_used_elsewhere(value: ir.Value, made: dict[ir.Value, ir.Node]) -> bool:
    return any(use.node.outputs[0] not in made for use in value.uses())


def _cone(value: ir.Value, made: dict[ir.Value, ir.Node], scope: Scope) -> list[ir.Node]:
    """The nodes that a value is computed by, in order."""
    wanted: set[ir.Node] = set()
    pending = [value]
    while pending:
        node = made.get(pending.pop())
        if node is not None and node not in wanted:
            wanted.add(node)
            pending += [v for v in node.inputs if v is not None]
    return [node for node in scope.nodes() if node in wanted]


def _look_up(
    scope: Scope,
    step: _Step,
    value: ir.Value,
    cone: list[ir.Node],
    sources: dict[ir.Value, None],
    bound: int,
) -> None:
    dims = scope.facts.dims(value)
    dtype = scope.facts.dtype(value)
    if dims is None or dtype is None or not all(isinstance(d, int) for d in dims):
        return
    size = bound * int(np.prod([int(d) for d in dims if isinstance(d, int)])) * dtype.itemsize
    saved = scope.editor.nodes_at_start - scope.editor.where.count + len(cone) - 1
    if size > BYTES_A_NODE * saved:
        return
    used = dict.fromkeys(v for node in cone for v in node.inputs if v is not None and v in sources)
    feeds = [{v: _number(scope, v, k) for v in used} for k in range(bound)]
    rows = evaluate_steps(cone, value, feeds, scope.region.opsets)
    if rows is None or len({row.shape for row in rows}) != 1:
        return
    anchor = cone[-1]
    with scope.rewriting(anchor, "table") as draft:
        draft.replace(anchor, op.Gather(constant(np.stack(rows)), step.value, axis=0))


def _number(scope: Scope, value: ir.Value, step: int) -> np.ndarray:
    dtype, dims = scope.facts.dtype(value), scope.facts.dims(value)
    return np.full((1,) if dims else (), step, dtype.numpy() if dtype is not None else np.int64)
