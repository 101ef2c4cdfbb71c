"""Write the body of a model-local function where it is called.

    before   y = my.Norm <epsilon = 1e-5> (x)
    after    y = ... the nodes of my.Norm, with their attribute references bound

In its place a body meets the shapes and constants of its call, and every other pass sees through it. Calls of
operators that the target runs itself stay calls. So do those of functions that import another version of a
domain in which one of their operators is another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from graphopt.rewriting import Editor, Pass
from graphopt.rewriting.inlining import can_inline, inline_call


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Write functions' bodies where they are called."""

    name = "inline-functions"
    family = "cleanup"
    stage = "open"
    marks_steps = True

    def run_model(self, editor: Editor) -> None:
        functions = editor.model.functions
        if not functions:
            return
        pending = deque(n for n in editor.where.in_order() if n.op_identifier() in functions)
        while pending:
            call = pending.popleft()
            function = functions[call.op_identifier()]
            if call.graph is None or not can_inline(editor, call, function):
                continue
            if call.domain != "" and editor.target.has(call.domain):
                continue
            if editor.begin_step(self, "call", editor.regions[call.graph].path, call):
                inner = inline_call(editor, call, function)
                pending.extendleft(n for n in reversed(inner) if n.op_identifier() in functions)
