"""Which channels of which values may be rescaled without changing what a model computes.

Every value that is asked for gets a scale of its own for each channel, an unknown. Operators say which of
these must be equal: Relu(s x) = s Relu(x), so that input and output of a Relu have the same scales; a sum has
those of both its sides; Softmax has none but 1. A constant takes whatever its users need: the scales of a
weight follow from those of the product's input and output. What remains free may be chosen at will.

Unknowns come in pairs, a scale and its inverse: Q and K of attention have scales that cancel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.ir.scoped_names import scopes

__all__ = ["MOST", "ONE", "Axes", "ChannelScales", "Rule", "Unknowns", "Visit", "is_nothing", "rule"]

Unknowns = npt.NDArray[np.int64]
Axes = tuple[int, ...]
Key = tuple[ir.Value, str]

# The unknown that is 1; so is its inverse, number 1.
ONE = 0
# A Reshape that joins channels with places may ask for a scale for each: more of them are not worth it.
MOST = 1 << 18


class Visit:
    """A value of a node whose scales the node's rule has to relate to those of its other values.

    Attributes:
        node: The node.
        value: An input or an output of it.
        role: "" for the value itself; else which part of a constant's scales it is, and along which axis.
        axes: The axes that the scales lie along; () for a role.
        scales: The unknowns, one dim for each axis.
    """

    __slots__ = ("axes", "node", "role", "scales", "solver", "value")

    def __init__(self, solver: ChannelScales, node: ir.Node, value: ir.Value, role: str) -> None:
        self.solver = solver
        self.node = node
        self.value = value
        self.role = role
        self.axes, self.scales = solver.known[value, role]

    @property
    def is_output(self) -> bool:
        """Whether the node makes the value; what it takes it may take several times."""
        return self.value.producer() is self.node

    def fix(self) -> None:
        """The scales are all 1."""
        self.solver.fix(self.scales)

    def narrowed(self, keep: Iterable[int]) -> tuple[Axes, Unknowns] | None:
        """The scales along some of their axes, equal along all others; None: none are left, all are 1."""
        found = self.solver.narrowed(self.axes, self.scales, tuple(keep))
        if found is None:
            self.fix()
        return found

    def input(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None


Rule = Callable[[Visit], None]
_RULES: dict[str, Rule] = {}
# Operators that know the parts of a constant's scales.
_WITH_PARTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Mul")


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register what some operators of the standard say; all others fix every scale."""

    def decorate(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(op_types, function))
        return function

    return decorate


class ChannelScales:
    """The scales of a model's values, as equations between unknowns.

    Attributes:
        facts: Of the model.
        opset: Of its standard operators.
        known: Axes and unknowns of everything asked for, by value and role.
        owners: The node that each body belongs to.
    """

    def __init__(self, model: ir.Model) -> None:
        self.facts = Facts(model)
        self.opset = model.graph.opset_imports.get("", 1)
        self.known: dict[Key, tuple[Axes, Unknowns]] = {}
        self.owners: dict[ir.Graph, ir.Node | None] = {model.graph: None}
        for _, graph in scopes(model.graph):
            self.owners.update((body, node) for node in graph for body in bodies(node))
        # Whose results a value is: of a body's operator, None for the model.
        self._results: dict[ir.Value, list[ir.Node | None]] = {}
        for graph, owner in self.owners.items():
            for value in graph.outputs:
                self._results.setdefault(value, []).append(owner)
        self._count = 2
        self._pairs: list[tuple[Unknowns, Unknowns]] = []
        self._pending: deque[Key] = deque()
        self._products: dict[ir.Node, None] = {}
        self.equate(np.asarray([ONE]), np.asarray([ONE + 1]))

    # ------------------------------------------------------------------ what rules say

    def of(self, value: ir.Value, axes: Axes) -> Unknowns | None:
        """The scales of a value along some of its axes; None: they must be 1, as its dims are not known."""
        dims = self.facts.dims(value)
        if dims is None or self.facts.dtype(value) != ir.DataType.FLOAT:
            return None
        shape = [dims[axis] for axis in axes]
        fixed = tuple(n for n in shape if isinstance(n, int))
        if len(fixed) < len(shape) or not 0 < np.prod(fixed, dtype=np.int64) <= MOST:
            return None
        if (value, "") not in self.known:
            self._add(value, "", axes, fixed)
        own_axes, own = self.known[value, ""]
        if own_axes == axes:
            return own
        # Scales along some axes that are scales along others, too, depend on what both have alone.
        asked = self._fresh(fixed)
        common = tuple(axis for axis in axes if axis in own_axes)
        first, second = self.narrowed(axes, asked, common), self.narrowed(own_axes, own, common)
        if first is None or second is None:
            self.fix(own)
            self.fix(asked)
        else:
            self.equate(first[1], second[1])
        return asked

    def part(self, value: ir.Value, role: str, count: int) -> Unknowns:
        """One of several scales of a constant, which multiply: those of a weight's inputs, of its outputs."""
        if (value, role) not in self.known:
            self._add(value, role, (), (count,))
        return self.known[value, role][1]

    def tie(self, value: ir.Value | None, axes: Axes, scales: Unknowns, *, inverse: bool = False) -> None:
        """A value has these scales, or their inverses."""
        if value is None or is_nothing(value):
            return
        own = self.of(value, axes)
        if own is None or own.shape != scales.shape:
            self.fix(scales)
            if own is not None:
                self.fix(own)
        else:
            self.equate(own, scales ^ 1 if inverse else scales)

    def tie_part(self, part: Unknowns, scales: Unknowns, *, inverse: bool) -> None:
        """A part of a constant's scales is these, or their inverses."""
        if part.shape != scales.shape:
            self.fix(part)
            self.fix(scales)
        else:
            self.equate(part, scales ^ 1 if inverse else scales)

    def equate(self, first: Unknowns, second: Unknowns) -> None:
        """Two arrays of unknowns are the same; so are the inverses."""
        first, second = np.broadcast_arrays(first, second)
        self._pairs.append((first.reshape(-1), second.reshape(-1)))

    def fix(self, scales: Unknowns) -> None:
        """All of these are 1."""
        self.equate(scales, np.asarray(ONE))

    def narrowed(self, axes: Axes, scales: Unknowns, keep: Axes) -> tuple[Axes, Unknowns] | None:
        """The same along those of their axes that are among `keep`; all must be equal along the others."""
        lost = tuple(i for i, axis in enumerate(axes) if axis not in keep)
        if not lost:
            return axes, scales
        if len(lost) == len(axes):
            return None
        first: Unknowns = np.take(scales, np.asarray(0), lost[0])
        self.equate(np.expand_dims(first, lost[0]), scales)
        return self.narrowed(axes[: lost[0]] + axes[lost[0] + 1 :], first, keep)

    def postpone(self, node: ir.Node) -> None:
        """A product of two values with scales: one of both has to be 1, which one shows later."""
        self._products.setdefault(node)

    # ------------------------------------------------------------------ solving

    def solve(self) -> Unknowns:
        """Follow all that was asked for; gives for each unknown the one that stands for its class."""
        import graphopt.quantization.channel_rules  # noqa: F401 (registers the rules)

        while True:
            while self._pending:
                self._visit(*self._pending.popleft())
            classes = self._classes()
            if not self._products:
                return classes
            self._decide_product(classes)

    def is_fixed(self, classes: Unknowns, scales: Unknowns) -> npt.NDArray[np.bool_]:
        """Which of these are 1: equal to it, or to their own inverse."""
        fixed: npt.NDArray[np.bool_] = (classes[scales] == classes[ONE]) | (
            classes[scales] == classes[scales ^ 1]
        )
        return fixed

    def _add(self, value: ir.Value, role: str, axes: Axes, shape: tuple[int, ...]) -> None:
        self.known[value, role] = (axes, self._fresh(shape))
        self._pending.append((value, role))

    def _fresh(self, shape: Sequence[int]) -> Unknowns:
        count = int(np.prod(shape, dtype=np.int64))
        made = self._count + 2 * np.arange(count, dtype=np.int64).reshape(shape)
        self._count += 2 * count
        return made

    def _visit(self, value: ir.Value, role: str) -> None:
        scales = self.known[value, role][1]
        producer = value.producer()
        asked: list[ir.Node | None] = []
        if producer is not None and producer.op_type != "Constant":
            asked.append(producer)
        elif constants.constant(value) is not None:
            if len(self.known[value, role][0]) > 1:
                # A constant is multiplied along one axis at a time.
                self.fix(scales)
        else:
            # An input: of the model, or of a body.
            asked.append(self.owners.get(value.graph) if value.graph is not None else None)
        asked += self._results.get(value, ())
        asked += [use.node for use in value.uses()]
        for node in dict.fromkeys(asked):
            if node is None:
                self.fix(scales)
            else:
                self._ask(node, value, role)

    def _ask(self, node: ir.Node, value: ir.Value, role: str) -> None:
        visit = Visit(self, node, value, role)
        found = _RULES.get(node.op_type) if node.domain == "" else None
        if found is None or (role and node.op_type not in _WITH_PARTS):
            visit.fix()
        else:
            found(visit)

    def _decide_product(self, classes: Unknowns) -> None:
        """Of one product one side is fixed: the one that is anyway; of two that are free the second."""
        free = {
            node: [
                (value, "") in self.known and not self.is_fixed(classes, self.known[value, ""][1]).all()
                for value in node.inputs[:2]
                if value is not None
            ]
            for node in self._products
        }
        node = next((node for node, sides in free.items() if not all(sides)), next(iter(free)))
        del self._products[node]
        chosen, other = node.inputs[:2] if free[node][0] else reversed(node.inputs[:2])
        assert chosen is not None and other is not None
        if (other, "") in self.known:
            self.fix(self.known[other, ""][1])
        out = node.outputs[0]
        for value, target in ((chosen, out), (out, chosen)):
            if (value, "") in self.known:
                axes, scales = self.known[value, ""]
                shift = (self.facts.rank(target) or 0) - (self.facts.rank(value) or 0)
                if any(axis + shift < 0 for axis in axes):
                    self.fix(scales)
                else:
                    self.tie(target, tuple(axis + shift for axis in axes), scales)

    def _classes(self) -> Unknowns:
        """Components of the graph of equations: labels shrink to the least of each."""
        firsts = np.concatenate([pair[0] for pair in self._pairs])
        seconds = np.concatenate([pair[1] for pair in self._pairs])
        firsts, seconds = np.concatenate([firsts, firsts ^ 1]), np.concatenate([seconds, seconds ^ 1])
        label: Unknowns = np.arange(self._count, dtype=np.int64)
        while True:
            a, b = label[firsts], label[seconds]
            if np.array_equal(a, b):
                return label
            np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(shorter := label[label], label):
                label = shorter


def is_nothing(value: ir.Value) -> bool:
    """Whether it is a constant without elements, or of zeros: it stays so whatever it is multiplied with."""
    tensor = constants.constant(value)
    if tensor is None:
        return False
    return not tensor.size or (tensor.dtype == ir.DataType.FLOAT and constants.uniform(value) == 0)
