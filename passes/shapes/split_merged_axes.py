"""Run operators on the axes that a Reshape had merged, where that saves Reshapes.

    before   q[b,h,n,d] -> Reshape(b*h,n,d) -> MatMul(k) -> Reshape(b,h,n,m) -> Add(mask) -> Reshape(b*h,n,m)
             -> Softmax -> MatMul(v) -> Reshape(b,h,n,d)          (k and v come through Reshapes as well)
    after    q[b,h,n,d] -> MatMul(k) -> Add(mask) -> Softmax -> MatMul(v)

Matrix products, softmax, normalization and element-wise operators work alike on one batch axis or several.
Exporters merge batch and heads for three-dimensional products and part them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.axis_splitting import split_regions


@dataclass(frozen=True)
class SplitMergedAxes(Pass):
    """Run operators on the axes that a Reshape had merged, where that saves Reshapes."""

    name = "split-merged-axes"
    family = "shapes"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """One step a region."""
        split_regions(scope)
