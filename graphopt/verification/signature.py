"""What a model asks for: its inputs, with their types and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Input:
    """One input that must be fed.

    Attributes:
        dims: A number, or the name of a dynamic dim; a dim without a name is named "input[axis]". None: the
            rank is unknown.
        container: "tensor", "sequence" or "optional" (of tensors of this type).
    """

    name: str
    dtype: ir.DataType
    dims: tuple[int | str, ...] | None
    container: str = "tensor"

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape at these sizes; a tensor of unknown rank is taken as a vector."""
        dims = (self.any_length,) if self.dims is None else self.dims
        return tuple(d if isinstance(d, int) else sizes[d] for d in dims)

    @property
    def any_length(self) -> str:
        """The symbol for the length of a tensor whose rank is unknown."""
        return f"{self.name}[0]"

    @property
    def symbols(self) -> tuple[str, ...]:
        """Its dynamic dims in order of axes."""
        if self.dims is None:
            return (self.any_length,)
        return tuple(d for d in self.dims if isinstance(d, str))


def inputs_of(model: ir.Model) -> tuple[Input, ...]:
    """The inputs of the main graph without those that an initializer gives a default."""
    return tuple(_input(v) for v in model.graph.inputs if v.name not in model.graph.initializers)


def _input(value: ir.Value) -> Input:
    name = value.name or ""
    container = "tensor"
    type_ = value.type
    if isinstance(type_, ir.OptionalType):
        container, type_ = "optional", type_.elem_type
    if isinstance(type_, ir.SequenceType):
        container, type_ = "sequence", type_.elem_type
    dtype = getattr(type_, "dtype", None) or ir.DataType.FLOAT
    dims = None if value.shape is None else tuple(_dim(d, name, i) for i, d in enumerate(value.shape))
    return Input(name, dtype, dims, container)


def _dim(dim: int | ir.SymbolicDim, name: str, axis: int) -> int | str:
    # Some exporters write -1 for a dynamic dim, as a number or as a name.
    text = dim if isinstance(dim, int) else dim.value
    if text is None or text == "" or (isinstance(text, int) and text < 0) or text == "-1":
        return f"{name}[{axis}]"
    return text
