"""Fix dims of graph inputs: `freeze-shapes{shapes=image:1x3x224x224+ids:-1x77}`.

What `--shape` does before anything else, for pipelines written as text. A dim of -1 stays as it is; a
name that gets a number gets it everywhere in the signature.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.errors import UsageError
from graphopt.ir.freeze import freeze_inputs
from graphopt.rewriting import Editor, Pass


@dataclass(frozen=True)
class FreezeShapes(Pass):
    """Fix dims of graph inputs that their author left open."""

    name = "freeze-shapes"
    family = "layout"
    stage = "on-request"
    changes_signature = True

    shapes: tuple[str, ...] = ()

    def run_model(self, editor: Editor) -> None:
        """Give the inputs their dims; facts are made anew if any changed."""
        wanted = dict(_parsed(self.name, text) for text in self.shapes)
        before = [str(v.shape) for v in editor.model.graph.inputs]
        freeze_inputs(editor.model, wanted)
        if before != [str(v.shape) for v in editor.model.graph.inputs]:
            editor.adopt(editor.model)


def _parsed(name: str, text: str) -> tuple[str, list[int]]:
    """`ids:1x77` as ("ids", [1, 77]); an input's name may have colons itself."""
    value, colon, dims = text.rpartition(":")
    try:
        sizes = [int(size) for size in dims.split("x")] if dims else []
    except ValueError:
        colon = ""
        sizes = []
    if not colon:
        raise UsageError(f"pass {name}: {text!r} is no shape: write input:1x3x224x224")
    return value, sizes
