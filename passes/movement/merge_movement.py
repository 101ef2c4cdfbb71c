"""Make the cheapest chain that does what a chain of Transposes and Reshapes does.

    before   k[b,h,t,d] -> Reshape(-1,t,d) -> Transpose(0,2,1) -> Reshape(b,h,d,t)
    after    k[b,h,t,d] -> Transpose(0,1,3,2)

    before   x[b,c*4,h,w] -> Reshape(b,c,2,2,h,w) -> Transpose(0,1,4,2,5,3) -> Reshape(b,c,h*2,w*2)
    after    DepthToSpace(x, blocksize=2, mode=CRD)

A chain is one map of coordinates, whatever it is made of. It is written again where that takes fewer nodes,
or as many of which fewer move elements: a Transpose that moves only dims of 1 is a Reshape.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import low
from graphopt.ir.regions import MOVEMENTS, Movement, is_movement_node, then
from graphopt.ir.relabelling import is_relabelling
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, rule_on
from graphopt.rewriting.movement import Chain, Cost, cost_of, spelled, written

NO_SHORTER = "no chain with constant shapes is cheaper"

# A chain is followed this far up; what lies above is seen when its lower part has become shorter.
LONGEST_CHAIN = 8

# onnxruntime has no other kernels for DepthToSpace and SpaceToDepth.
BLOCK_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@rule_on(*MOVEMENTS, depth=LONGEST_CHAIN)
def one_movement(m: Match) -> ir.Value | Rejection | None:
    """Reshape(Transpose(Reshape(x))) -> Transpose(x), or the cheapest chain there is."""
    nodes = _chain(m.root)
    if all(is_relabelling(node) for node in nodes) or (len(nodes) == 1 and nodes[0].op_type != "Transpose"):
        return None
    best: tuple[Cost, Chain, ir.Value] | None = None
    removed, moving = 0, 0
    is_free = True
    for length, node in enumerate(nodes, 1):
        is_free = is_free and (length == 1 or m.has_one_consumer(node.outputs[0]))
        if is_free:
            removed, moving = removed + 1, moving + (not is_relabelling(node))
        chain = _cheapest(m, nodes[:length])
        if chain is None:
            continue
        count, moves = cost_of(chain)
        gain = (count - removed, moves - moving)
        source = node.inputs[0]
        if source is not None and gain < (0, 0) and (best is None or gain < best[0]):
            best = gain, chain, source
    if best is not None:
        return written(best[2], best[1], m.root)
    if len(nodes) == 1:
        return None
    return Rejection(NO_SHORTER if is_free else HAS_OTHER_CONSUMERS, m.output)


def _chain(root: ir.Node) -> list[ir.Node]:
    """The root and the movements above it in the same graph, bottom up."""
    found = [root]
    while len(found) < LONGEST_CHAIN:
        value = found[-1].inputs[0]
        node = value.producer() if value is not None else None
        if node is None or not is_movement_node(node) or node.graph is not root.graph:
            break
        found.append(node)
    return found


def _cheapest(m: Match, nodes: list[ir.Node]) -> Chain | None:
    """The cheapest chain for some nodes, given bottom up."""
    source = nodes[-1].inputs[0]
    dims = m.dims(source) if source is not None else None
    if dims is None:
        return None
    movement: Movement | None = Movement.of(dims)
    for node in reversed(nodes):
        movement = then(movement, node, m.facts) if movement is not None else None
    if movement is None:
        return None
    target = m.root.inputs[1] if m.root.op_type == "Reshape" and len(m.root.inputs) > 1 else None
    elements = (m.facts.elements(target) if target is not None else None) or ()
    allowzero = bool(m.attribute(m.root, "allowzero", 0))
    return spelled(
        movement,
        m.opset,
        blocks=m.dtype(m.output) in BLOCK_TYPES,
        inferred=elements.index(-1) if -1 in elements else None,
        own_target=bool(elements) and all(_is_no_copy(e, allowzero) for e in elements),
    )


def _is_no_copy(element: object, allowzero: bool) -> bool:
    """Whether an element of a target says the same of whatever is reshaped."""
    if isinstance(element, int):
        return element != 0 or allowzero
    return element is not None and (low(element) or 0) >= 1  # type: ignore[arg-type]


@dataclass(frozen=True)
class MergeMovement(Pass):
    """Make the cheapest chain that does what a chain of Transposes and Reshapes does."""

    name = "merge-movement"
    family = "movement"
    rules = (one_movement,)
