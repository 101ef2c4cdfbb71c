"""What each kernel asks of the memory of its operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Layout", "Traits", "declare", "traits"]


class Layout(Enum):
    """How the elements of an operand may lie."""

    DENSE = "row-major, without gaps"
    ROWS = "the last dim has stride 1"
    ANY = "any strides"
    CHANNELS_LAST = "dim 1 is innermost, without gaps"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a kernel asks of its operands.

    Attributes:
        inputs: The layout of each input by its number; `default_input` for the others.
        in_place: Numbers of inputs whose memory output 0 may take over (same element type and dims).
    """

    default_input: Layout = Layout.DENSE
    default_output: Layout = Layout.DENSE
    inputs: Mapping[int, Layout] = field(default_factory=dict)
    outputs: Mapping[int, Layout] = field(default_factory=dict)
    in_place: tuple[int, ...] = ()

    def input(self, number: int) -> Layout:
        """The layout of an input."""
        return self.inputs.get(number, self.default_input)

    def output(self, number: int) -> Layout:
        """The layout of an output."""
        return self.outputs.get(number, self.default_output)


_DENSE = Traits()
_TRAITS: dict[str, Traits] = {}


def declare(
    kernel: str,
    inputs: Layout | Mapping[int, Layout] = Layout.DENSE,
    outputs: Layout | Mapping[int, Layout] = Layout.DENSE,
    in_place: tuple[int, ...] = (),
) -> None:
    """Say what a kernel asks of its operands; operands that a mapping leaves out are dense."""
    _TRAITS[kernel] = Traits(
        default_input=inputs if isinstance(inputs, Layout) else Layout.DENSE,
        default_output=outputs if isinstance(outputs, Layout) else Layout.DENSE,
        inputs={} if isinstance(inputs, Layout) else dict(inputs),
        outputs={} if isinstance(outputs, Layout) else dict(outputs),
        in_place=in_place,
    )


def traits(kernel: str) -> Traits:
    """What was declared; a kernel that nothing was said of wants dense operands."""
    return _TRAITS.get(kernel, _DENSE)
