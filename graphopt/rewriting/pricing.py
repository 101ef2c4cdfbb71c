"""Would a rewrite make the target slower? Asked for rules whose gain depends on sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.ir import facts

if TYPE_CHECKING:
    from graphopt.rewriting.draft import Draft

__all__ = ["WOULD_BE_SLOWER", "is_slower"]

WOULD_BE_SLOWER = "the target's table predicts more time for what would take its place"


def is_slower(draft: Draft) -> bool:
    """Whether the new nodes of a draft take longer than the nodes that go for them, at any sample size."""
    editor = draft.editor
    return editor.target.is_slower(draft.nodes, _going(draft), editor.facts)


def _going(draft: Draft) -> dict[ir.Node, None]:
    """Nodes that nothing needs once the replacements are in place."""
    replaced = {old for old, new in draft.replacements.items() if old is not new}
    going: dict[ir.Node, None] = {}
    pending = [node for old in replaced if (node := old.producer()) is not None]
    while pending:
        node = pending.pop()
        if node in going or not all(_is_free(value, replaced, going) for value in node.outputs):
            continue
        if any(value in replaced for value in node.outputs) or facts.is_pure(node):
            going[node] = None
            pending += [p for v in node.inputs if v is not None and (p := v.producer()) is not None]
    return going


def _is_free(value: ir.Value, replaced: set[ir.Value], going: dict[ir.Node, None]) -> bool:
    if value in replaced:
        return True
    return not value.is_graph_output() and all(use.node in going for use in value.uses())
