"""Run Gemms, and what is around them, on the axes that a Reshape had merged to rows.

    before   x[b,s,2,6] -> Reshape(b*s,12) -> Gemm(w, c) -> Reshape(Concat(Shape(x)[:2], 3))
    after    x[b,s,2,6] -> Reshape(0,0,12) -> MatMul(w) -> Add(c)

As `split-merged-axes`, but a Gemm becomes MatMul and Add. Without a Reshape to be saved, that is done only
where the shape of the result is no longer computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.axis_splitting import split_regions


@dataclass(frozen=True)
class SplitMergedRows(Pass):
    """Run Gemms, and what is around them, on the axes that a Reshape had merged to rows."""

    name = "split-merged-rows"
    family = "shapes"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place: the bias is added after the products"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """One step a region."""
        split_regions(scope, products=True)
