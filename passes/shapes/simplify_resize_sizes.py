"""Name only the axes that a Resize changes, so that their sizes are constants.

    before   x[batch,64,8,8] -> Resize(sizes = Concat(Shape(x)[:2], [16, 16]))
    after    x[batch,64,8,8] -> Resize(sizes = [16, 16], axes = [2, 3])

An axis that keeps its size is not resampled, whatever the mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on

NO_SIZES = "the sizes are constant already, or there are none"
OTHER_FORM = "a region of interest, or a policy that looks at all axes"
NEEDS_RUN = "the size of an axis that changes depends on the run"


@rule_on("Resize", opset=18, depth=1)
def constant_sizes(m: Match) -> ir.Value | Rejection | None:
    """Resize(x, sizes = computed) -> Resize(x, sizes = constant, axes)."""
    inputs = m.root.inputs
    sizes = input_of(m.root, 3)
    if inputs[0] is None or sizes is None or m.tensor(sizes) is not None:
        return Rejection(NO_SIZES)
    other = "axes" in m.root.attributes or m.attribute(m.root, "keep_aspect_ratio_policy") not in (
        None,
        "stretch",
    )
    if other or m.attribute(m.root, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return Rejection(OTHER_FORM, sizes)
    source, elements = m.dims(inputs[0]), m.facts.elements(sizes)
    if source is None or elements is None or len(source) != len(elements):
        return Rejection(NEEDS_RUN, sizes)
    axes = [axis for axis, (dim, size) in enumerate(zip(source, elements, strict=True)) if dim != size]
    numbers = [size for axis in axes if isinstance(size := elements[axis], int)]
    if not axes or len(numbers) != len(axes):
        return Rejection(NEEDS_RUN, sizes)
    attributes = dict(m.root.attributes)
    made = op.Resize(inputs[0], None, None, numbers, **{**attributes, "axes": axes})
    assert isinstance(made, ir.Value)
    return made


@dataclass(frozen=True)
class SimplifyResizeSizes(Pass):
    """Name only the axes that a Resize changes, so that their sizes are constants."""

    name = "simplify-resize-sizes"
    family = "shapes"
    stage = "fuse"
    rules = (constant_sizes,)
