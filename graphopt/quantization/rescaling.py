"""Where the channels between operators may be rescaled: the seams of a model.

A seam is a number of channels that can be divided by numbers of one's choice: what makes them (a weight and
its bias, the constants of a norm) is divided, the weights that take them are multiplied. The model computes
the same but for rounding of floats. Cross-layer equalization, SmoothQuant and the adjustment of weights to
one scale differ in nothing but how the numbers are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.scoped_names import scopes, scopes_by_graph
from graphopt.quantization.channel_scales import ChannelScales, Unknowns

__all__ = ["Layer", "Part", "Seam", "seams"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """How a constant or a value follows from the numbers of a seam.

    Attributes:
        name: Its scoped name.
        axis: The axis of the channels.
        index: For each position along it, which of the numbers it is multiplied with.
        power: 1: with that number; -1: with its inverse; 0: with nothing.
        is_given: Whether the constant makes the channels, and does not take them.
    """

    name: str
    axis: int
    index: Integers
    power: Integers
    is_given: bool = False

    def factors(self, numbers: Floats) -> Floats:
        """What each position is multiplied with."""
        return np.power(numbers[self.index], self.power)


@dataclass(frozen=True, eq=False)
class Layer:
    """An operator with a weight at a seam.

    Attributes:
        name: Its scoped name.
        weight: Its weight.
        weight_name: The scoped name of that.
        input: The value that it takes, as it follows from the seam's numbers; None: it only makes channels.
    """

    name: str
    weight: Weight
    weight_name: str
    input: Part | None


@dataclass(frozen=True, eq=False)
class Seam:
    """Channels that can be rescaled.

    Attributes:
        size: How many there are.
        constants: All constants that follow.
        takers: The operators whose inputs are divided.
        givers: The operators whose outputs are.
    """

    size: int
    constants: tuple[Part, ...]
    takers: tuple[Layer, ...]
    givers: tuple[Layer, ...]


def seams(model: ir.Model) -> list[Seam]:
    """All seams of a model, its bodies included, in the order of what takes them."""
    solver = ChannelScales(model)
    found = list(_layers(model))
    for _, weight in found:
        for value in (weight.node.inputs[0], weight.node.outputs[0]):
            axis = _channel_axis(weight, solver, value)
            if value is not None and axis is not None and constants.constant(value) is None:
                solver.of(value, (axis,))
    return _Seams(model, solver, found).all()


def _layers(model: ir.Model) -> Iterator[tuple[str, Weight]]:
    for scope, graph in scopes(model.graph):
        for node in graph:
            weight = weight_of(node)
            if weight is not None and not weight.is_table:
                yield f"{scope}{node.name}", weight


def _channel_axis(weight: Weight, solver: ChannelScales, value: ir.Value | None) -> int | None:
    rank = solver.facts.rank(value) if value is not None else None
    if rank is None or rank < 2:
        return None
    return rank - 1 if weight.is_matrix else 1


class _Seams:
    """Classes of unknowns, gathered into seams."""

    def __init__(self, model: ir.Model, solver: ChannelScales, found: Sequence[tuple[str, Weight]]) -> None:
        self.solver = solver
        self.found = found
        self.where = scopes_by_graph(model)
        classes = solver.solve()
        both = np.arange(classes.size)
        self.fixed = solver.is_fixed(classes, both)
        # An unknown and its inverse are one number and its sign.
        self.number = np.minimum(classes, classes[both ^ 1])
        self.power = np.where(classes == self.number, 1, -1)
        # Which seam a number is of, and which of its numbers it is.
        self.seam = np.full(classes.size, -1)
        self.place = np.full(classes.size, -1)
        # Where a number is met first the channel is divided by it.
        self.turn = np.ones(classes.size, np.int64)

    def all(self) -> list[Seam]:
        taken = [self._scales(weight, weight.node.inputs[0]) for _, weight in self.found]
        given = [self._scales(weight, weight.node.outputs[0]) for _, weight in self.found]
        # Channels that no operator with a weight takes, as those of Q and K, come after all others.
        sizes = self._number(taken, 0)
        sizes += self._number(given, len(sizes))
        constants_of: list[list[Part]] = [[] for _ in sizes]
        takers: list[list[Layer]] = [[] for _ in sizes]
        givers: list[list[Layer]] = [[] for _ in sizes]
        for name, axis, scales, is_given in self._constants():
            for seam, part in self._parts(name, axis, scales, is_given=is_given):
                constants_of[seam].append(part)
        for (name, weight), inputs, outputs in zip(self.found, taken, given, strict=True):
            label, value = self._scoped(weight.value), weight.node.inputs[0]
            if inputs is not None and value is not None:
                along = _channel_axis(weight, self.solver, value)
                assert along is not None
                for seam, part in self._parts(self._scoped(value), along, inputs):
                    takers[seam].append(Layer(name, weight, label, part))
            if outputs is not None:
                for seam, _ in self._parts("", 0, outputs):
                    givers[seam].append(Layer(name, weight, label, None))
        rows = zip(sizes, constants_of, takers, givers, strict=True)
        return [Seam(size, tuple(c), tuple(t), tuple(g)) for size, c, t, g in rows if c]

    def _scales(self, weight: Weight, value: ir.Value | None) -> Unknowns | None:
        axis = _channel_axis(weight, self.solver, value)
        if value is None or axis is None or (value, "") not in self.solver.known:
            return None
        axes, scales = self.solver.known[value, ""]
        return scales if axes == (axis,) else None

    def _number(self, arrays: Sequence[Unknowns | None], first: int) -> list[int]:
        """Number the seams of what these have free and has none yet; returns their sizes.

        Numbers that meet in one array are of one seam.
        """
        parent: dict[int, int] = {}

        def top(number: int) -> int:
            while parent[number] != number:
                number = parent[number]
            return number

        for scales in arrays:
            if scales is None:
                continue
            free = scales[~self.fixed[scales] & (self.seam[self.number[scales]] < 0)]
            numbers = self.number[free].tolist()
            for number, power in zip(numbers, self.power[free].tolist(), strict=True):
                if number not in parent:
                    parent[number] = number
                    self.turn[number] = -power
                parent[top(number)] = top(numbers[0])
        tops: dict[int, int] = {}
        sizes: list[int] = []
        for number in parent:
            seam = tops.setdefault(top(number), len(tops))
            sizes += [0] * (seam == len(sizes))
            self.seam[number], self.place[number] = first + seam, sizes[seam]
            sizes[seam] += 1
        return sizes

    def _constants(self) -> Iterator[tuple[str, int, Unknowns, bool]]:
        """Every constant with scales: its name, their axis, and whether it makes channels."""
        for (value, role), (axes, scales) in self.solver.known.items():
            if constants.constant(value) is None:
                continue
            name = self._scoped(value)
            words = role.split()
            if not role:
                yield name, axes[0], scales, True
            elif role.startswith("taken") and "each" in words:
                tensor = constants.constant(value)
                assert tensor is not None
                yield name, 0, scales.repeat(constants.shape_of(tensor)[0] // scales.size), False
            else:
                yield name, int(words[2]), scales, words[0] == "given"

    def _parts(
        self, name: str, axis: int, scales: Unknowns, *, is_given: bool = False
    ) -> Iterator[tuple[int, Part]]:
        """What one value has of each seam."""
        numbers = self.number[scales]
        owner = np.where(self.fixed[scales], -1, self.seam[numbers])
        for seam in dict.fromkeys(owner[owner >= 0].tolist()):
            here = owner == seam
            yield (
                seam,
                Part(
                    name,
                    axis,
                    np.where(here, self.place[numbers], 0),
                    np.where(here, self.power[scales] * self.turn[numbers], 0),
                    is_given,
                ),
            )

    def _scoped(self, value: ir.Value) -> str:
        producer = value.producer()
        graph = value.graph if producer is None else producer.graph
        return f"{self.where[graph]}{value.name}" if graph in self.where else value.name or ""
