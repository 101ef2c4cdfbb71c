"""One graph as a pass sees it: the main graph, a body or a function's body."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.ir.inference import Facts
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.model_index import Region
from graphopt.rewriting.operators import building
from graphopt.rewriting.opsets import OpsetRaised
from graphopt.rewriting.trace import FiringId

if TYPE_CHECKING:
    from graphopt.rewriting.editor import Editor
    from graphopt.rewriting.passes import Pass


class Scope:
    """A graph with what a `run` pass needs to edit it. Every edit goes through here."""

    __slots__ = ("_pass", "editor", "region")

    def __init__(self, editor: Editor, region: Region, current: Pass) -> None:
        self.editor = editor
        self.region = region
        self._pass = current

    @property
    def graph(self) -> ir.Graph:
        return self.region.graph

    @property
    def facts(self) -> Facts:
        return self.editor.facts

    @property
    def opset(self) -> int:
        """The default domain's version."""
        return self.region.opsets.get("", 1)

    def nodes(self, *op_types: str) -> list[ir.Node]:
        """The graph's nodes in order (bodies not entered), or those of some default-domain operators."""
        if not op_types:
            return list(self.graph)
        return [n for n in self.graph if n.op_type in op_types and n.domain == ""]

    def fire(self, anchor: ir.Node, rule: str) -> bool:
        """Ask for one step of the pass. True: make the edits now, they are recorded as one firing."""
        return self.editor.begin_step(self._pass, rule, self.region.path, anchor)

    @contextmanager
    def rewriting(self, before: ir.Node, rule: str) -> Iterator[Draft]:
        """Build with `op`, then `draft.replace(old, new)`; put in place on leaving, if allowed.

        Args:
            before: The anchor: new nodes are put before it.
            rule: Name of the step.
        """
        draft = Draft(self.editor, before)
        with building(draft):
            yield draft
        if self.editor.can_take_over(draft) is not None:
            draft.replacements.clear()
        identity = self._allowed(before, rule) if draft.replacements else None
        if identity is None:
            draft.discard()
        else:
            self.editor.commit(draft, identity)

    @contextmanager
    def editing(self, before: ir.Node) -> Iterator[Draft]:
        """As `rewriting`, within a step that `fire` has allowed: for edits at several places."""
        draft = Draft(self.editor, before)
        with building(draft):
            yield draft
        self.editor.commit(draft, None)

    def _allowed(self, anchor: ir.Node, rule: str) -> FiringId | None:
        return self.editor.allow(self._pass, rule, anchor)

    def raise_opset(self, version: int) -> None:
        """Convert the whole model up and start the group over, if policy and operators allow it; else go on.

        Raises:
            OpsetRaised: It was done: nothing known of the graph holds any more. For the driver.
        """
        if self.editor.raise_opset(version):
            raise OpsetRaised

    def remove(self, node: ir.Node) -> None:
        """Take a node out, and what only it needed."""
        self.editor.remove(node)

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let every consumer of `old` take `new`; graph outputs keep their names."""
        self.editor.take_over(old, new)
