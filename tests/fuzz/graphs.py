"""Random small graphs of real operators, drawn by hypothesis so that a counter-example shrinks.

Dims are numbers or tokens. Tokens "N" and "M" are dynamic dims of inputs; others stand for what is computed.
Only parameters that are legal for every size of the tokens are drawn; where a size is illegal none the less
(an index into an empty axis), the original refuses it too, and the test passes over that size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Dim = int | str
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSETS = (13, 17, 18, 20, 21)
FAR = 2**63 - 1


@dataclass(frozen=True)
class Value:
    """A value of the graph: element type and dims as far as they are known."""

    name: str
    dtype: int
    dims: tuple[Dim, ...]


class Draft:
    """A graph while it is drawn. A body shares its names with the graph around it."""

    def __init__(self, draw: Callable[[st.SearchStrategy], Any], opset: int, outer: Draft | None = None):
        self.draw = draw
        self.opset = opset
        self.outer = outer
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.values: list[Value] = []
        self.count: list[int] = [0] if outer is None else outer.count

    # ------------------------------------------------------------ parts

    def fresh(self, stem: str = "v") -> str:
        self.count[0] += 1
        return f"{stem}{self.count[0]}"

    def unknown(self) -> str:
        return self.fresh("?")

    def among(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def node(self, op_type: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        names = [self.fresh() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, **attributes))
        return names

    def add(
        self, op_type: str, inputs: Sequence[str], dtype: int, dims: Sequence[Dim], **attributes: Any
    ) -> Value:
        [name] = self.node(op_type, inputs, **attributes)
        self.values.append(Value(name, dtype, tuple(dims)))
        return self.values[-1]

    def constant(self, array: object, dtype: type = np.int64) -> str:
        tensor = numpy_helper.from_array(np.asarray(array, dtype), self.fresh("c"))
        if self.outer is None and self.among(True, False):
            self.initializers.append(tensor)
            return tensor.name
        return self.node("Constant", [], value=tensor)[0]

    def weights(self, shape: Sequence[int]) -> str:
        rng = np.random.default_rng(self.integer(0, 3))
        return self.constant(rng.standard_normal(shape), np.float32)

    def all_values(self) -> list[Value]:
        return self.values + (self.outer.all_values() if self.outer is not None else [])

    def pick(self, dtype: int = FLOAT, accepts: Callable[[Value], bool] = lambda v: True) -> Value | None:
        fitting = [v for v in self.all_values() if v.dtype == dtype and accepts(v)]
        # Late values first: chains grow deep, and shrink to short ones.
        return self.draw(st.sampled_from(fitting[::-1][:6])) if fitting else None

    def axes_or_attribute(self, axes: Sequence[int], since: int) -> tuple[list[str], dict[str, Any]]:
        if self.opset >= since:
            return [self.constant(list(axes))], {}
        return [], {"axes": list(axes)}


def joined(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """The dims of a broadcast; None where it is not legal for every size."""
    rank = max(len(a), len(b))
    padded = [(1,) * (rank - len(dims)) + tuple(dims) for dims in (a, b)]
    found: list[Dim] = []
    for x, y in zip(*padded, strict=True):
        if x != y and 1 not in (x, y):
            return None
        found.append(y if x == 1 else x)
    return tuple(found)


def product(dims: Sequence[Dim]) -> Dim:
    numbers = [d for d in dims if isinstance(d, int)]
    tokens = [d for d in dims if isinstance(d, str)]
    factor = int(np.prod(numbers, dtype=np.int64))
    if not tokens:
        return factor
    return tokens[0] if len(tokens) == 1 and factor == 1 else "*".join([str(factor), *tokens])


def body(
    of: Draft, start: Value, steps: int, kinds: Sequence[Callable[[Draft], None]]
) -> tuple[Draft, Value]:
    """A body that ends in a value of the same dims and element type as `start`."""
    inner = Draft(of.draw, of.opset, of)
    inner.values.append(start)
    for _ in range(steps):
        inner.among(*kinds)(inner)
    same = [v for v in inner.values if v.dtype == start.dtype and v.dims == start.dims]
    [name] = inner.node("Identity", [same[-1].name])
    return inner, Value(name, start.dtype, start.dims)


def finished(draft: Draft, name: str, outputs: Sequence[Value]) -> onnx.GraphProto:
    """The graph with its outputs declared by rank alone: nothing about sizes is given away."""
    infos = [
        helper.make_tensor_value_info(v.name, v.dtype, [f"{v.name}_{i}" for i in range(len(v.dims))])
        for v in outputs
    ]
    return helper.make_graph(draft.nodes, name, draft.inputs, infos, draft.initializers)


@st.composite
def models(
    draw: Callable[[st.SearchStrategy], Any], kinds: Sequence[Callable[[Draft], None]], most: int = 12
):
    """A model of up to `most` draws from the kinds of operators given."""
    draft = Draft(draw, draw(st.sampled_from(OPSETS)))
    shapes = ((), (3,), ("N",), ("N", 4), (1, "N", 4), ("N", 3, "M", 4), (2, 3, 4), ("N", 1, 4))
    for dims in draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=3)):
        name = draft.fresh("x")
        draft.inputs.append(helper.make_tensor_value_info(name, FLOAT, list(dims)))
        draft.values.append(Value(name, FLOAT, dims))
    given = len(draft.values)
    for _ in range(draw(st.integers(1, most))):
        draft.among(*kinds)(draft)
    made = draft.values[given:] or [
        draft.add("Identity", [draft.values[0].name], FLOAT, draft.values[0].dims)
    ]
    further = draw(st.lists(st.sampled_from(made), max_size=2))
    outputs = list(dict.fromkeys([made[-1], *further]))
    model = helper.make_model(
        finished(draft, "random", outputs),
        opset_imports=[helper.make_opsetid("", draft.opset)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def feeds(
    model: onnx.ModelProto, sizes: dict[str, int], seed: int = 0, finite: bool = True
) -> dict[str, np.ndarray]:
    """Inputs at the sizes given: plain numbers, and now and then a zero, a minus zero, a large one, a NaN."""
    rng = np.random.default_rng(seed)
    odd = np.float32([0, -0.0, 1, -1, 30] + ([] if finite else [np.nan, np.inf, -np.inf]))
    found = {}
    for value in model.graph.input:
        dims = [
            d.dim_value if d.HasField("dim_value") else sizes[d.dim_param]
            for d in value.type.tensor_type.shape.dim
        ]
        array = rng.standard_normal(dims).astype(np.float32)
        special = rng.random(dims) < 0.15
        found[value.name] = np.where(special, rng.choice(odd, dims), array)
    return found
