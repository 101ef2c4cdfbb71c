"""Take the other branch where one can only end in an error.

    before   h = If(dim(x, 2) == 1) { then: Squeeze(x, 2), else: x }        x[b,h,n]
             LSTM(Unsqueeze(h, 0), ...)
    after    h = Squeeze(x, 2);  LSTM(Unsqueeze(h, 0), ...)

Scripted models carry branches for inputs of other rank. Where the value of a branch reaches an operator that
takes one rank only (LSTM: 3) with another rank, and that operator runs whenever the If does, no run that
takes the branch comes to an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.inference import Facts
from graphopt.rewriting import Pass, Scope, constant
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.operators import building

# Operators whose first input has one rank.
RANKS = {"LSTM": 3, "GRU": 3, "RNN": 3, "Gemm": 2}

# Operators whose first input has the rank of their weight.
LIKE_WEIGHT = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class RemoveImpossibleBranches(Pass):
    """Take the other branch of an If where one can only end in an error."""

    name = "remove-impossible-branches"
    family = "control_flow"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """The If gets a constant condition; `inline-if` does the rest."""
        for node in scope.nodes("If"):
            if node.graph is None or not _is_undecided(scope, node):
                continue
            impossible = [_fails(scope, node, name) for name in ("then_branch", "else_branch")]
            if impossible in ([True, False], [False, True]) and scope.fire(node, "impossible-branch"):
                condition = node.inputs[0]
                with building(Draft(scope.editor, node)):
                    node.replace_input_with(0, constant(np.array(impossible[1])))
                scope.editor.touch(node)
                for value in node.outputs:
                    scope.facts.forget(value)
                producer = condition.producer() if condition is not None else None
                if producer is not None and producer.graph is not None:
                    scope.remove(producer)


def _is_undecided(scope: Scope, node: ir.Node) -> bool:
    """Whether the branches give values of different known ranks."""
    condition = node.inputs[0]
    if condition is None or scope.facts.elements(condition) in ((True,), (False,)):
        return False
    then, otherwise = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    ranks = [
        (scope.facts.rank(a), scope.facts.rank(b))
        for a, b in zip(then.outputs, otherwise.outputs, strict=True)
    ]
    return any(a != b and a is not None and b is not None for a, b in ranks)


def _fails(scope: Scope, node: ir.Node, branch: str) -> bool:
    """Whether the values of a branch reach an operator that can't take them."""
    trial = Facts(scope.editor.model)
    for value, given in zip(node.outputs, node.attributes[branch].as_graph().outputs, strict=True):
        trial.assume(value, scope.facts.of(given))
    return any(_refuses(trial, user) for user in _downstream(scope, node))


def _downstream(scope: Scope, node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of the graph that depend on a node, through bodies too."""
    seen: set[ir.Node] = set()
    pending = [node]
    while pending:
        for value in pending.pop().outputs:
            for use in value.uses():
                user: ir.Node | None = use.node
                while user is not None and user.graph is not scope.graph:
                    region = scope.editor.regions.get(user.graph) if user.graph is not None else None
                    user = region.owner if region is not None else None
                if user is not None and user not in seen:
                    seen.add(user)
                    pending.append(user)
                    yield user


def _refuses(facts: Facts, node: ir.Node) -> bool:
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return False
    wanted = RANKS.get(node.op_type)
    if node.op_type in LIKE_WEIGHT and node.inputs[1] is not None:
        wanted = facts.rank(node.inputs[1])
    rank = facts.rank(node.inputs[0])
    return wanted is not None and rank is not None and rank != wanted
