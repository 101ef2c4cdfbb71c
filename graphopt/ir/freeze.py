"""Fix dims of a model's inputs that its author left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from graphopt.errors import UsageError


def freeze_inputs(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs the dims in `shapes`, in place; -1 leaves a dim as it is.

    A dim with a name that becomes a number becomes it wherever inputs and outputs have that name.

    Args:
        model: The model.
        shapes: For each input concerned, one number a dim.

    Raises:
        UsageError: There is no such input, the rank differs, a fixed dim would change, or one name would get
            two numbers; the model is untouched.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    sizes: dict[str, int] = {}
    fixed: dict[ir.Value, list[int | ir.SymbolicDim]] = {}
    for name, wanted in shapes.items():
        value = inputs.get(name)
        if value is None:
            known = ", ".join(str(other) for other in inputs)
            raise UsageError(
                f"there is no input '{name}' to give a shape", value=name, hint=f"inputs: {known}"
            )
        fixed[value] = _fixed(value, wanted, sizes)
    for value, dims in fixed.items():
        value.shape = ir.Shape(dims)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([_named(dim, sizes) for dim in value.shape])


def _fixed(value: ir.Value, wanted: Sequence[int], sizes: dict[str, int]) -> list[int | ir.SymbolicDim]:
    given = f"shape {list(wanted)} for input '{value.name}'"
    if any(size < -1 for size in wanted):
        raise UsageError(f"{given}: a dim is negative", value=value.name)
    if value.shape is None:
        return [size if size >= 0 else ir.SymbolicDim(None) for size in wanted]
    if len(wanted) != len(value.shape):
        raise UsageError(f"{given}: it has {len(value.shape)} dims ({value.shape})", value=value.name)
    dims: list[int | ir.SymbolicDim] = []
    for dim, size in zip(value.shape, wanted, strict=True):
        if size < 0:
            dims.append(dim)
        elif isinstance(dim, int):
            # Exporters write -1 for a dim they do not know.
            if dim >= 0 and dim != size:
                raise UsageError(f"{given}: the model fixes {dim} where {size} is given", value=value.name)
            dims.append(size)
        else:
            if dim.value and sizes.setdefault(dim.value, size) != size:
                raise UsageError(
                    f"{given}: dim '{dim.value}' would be both {sizes[dim.value]} and {size}",
                    value=value.name,
                )
            dims.append(size)
    return dims


def _named(dim: int | ir.SymbolicDim, sizes: Mapping[str, int]) -> int | ir.SymbolicDim:
    if isinstance(dim, int) or dim.value is None:
        return dim
    return sizes.get(dim.value, dim)
