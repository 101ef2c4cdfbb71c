"""Keep height and width apart between convolutions and operators over channels, where that saves Reshapes.

    before   x[b,c,h,w] -> Reshape(b,c,h*w) -> Transpose(0,2,1) -> MatMul
             -> Transpose(0,2,1) -> Reshape(b,n,h,w)
    after    x[b,c,h,w] -> Transpose(0,2,3,1) -> MatMul -> Transpose(0,3,1,2)

As `split-merged-axes`, but for axes other than the first. It comes after the attention is found, which is
written for one axis of positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.axis_splitting import split_regions


@dataclass(frozen=True)
class SplitMergedPositions(Pass):
    """Keep height and width apart between convolutions and operators over channels."""

    name = "split-merged-positions"
    family = "shapes"
    stage = "target"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """One step a region."""
        split_regions(scope, inner=True)
