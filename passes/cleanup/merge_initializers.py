"""Keep one of several initializers with the same type, shape and bits.

    before   w1, w2 equal; MatMul(x, w1), MatMul(y, w2)
    after    MatMul(x, w1), MatMul(y, w1)

It runs first, so that what is computed from equal ones is seen to be equal, and last, since passes make equal
ones of different ones. An initializer that is an input too can be another one at run time, and one that is
an output has a name to keep: both stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.constants import constant
from graphopt.ir.duplicates import find_duplicates
from graphopt.rewriting import Editor, Pass


@dataclass(frozen=True)
class MergeInitializers(Pass):
    """Keep one of several equal initializers."""

    name = "merge-initializers"
    family = "cleanup"
    stage = "open"
    again = True

    def run_model(self, editor: Editor) -> None:
        """Bodies have none left: `lift-constants` brings theirs to the main graph."""
        graph = editor.model.graph
        values = [v for v in graph.initializers.values() if v.uses() and not v.is_graph_output()]
        found = [(value, tensor) for value in values if (tensor := constant(value)) is not None]
        for group in find_duplicates([tensor for _, tensor in found]):
            kept = found[group[0]][0]
            for index in group[1:]:
                value = found[index][0]
                editor.take_over(value, kept)
                assert value.name is not None
                del graph.initializers[value.name]
