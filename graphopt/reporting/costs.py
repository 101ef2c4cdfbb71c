"""What a model costs: bytes of its file; operations, time and memory of one run at given sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt import targets
from graphopt.ir.fact import TensorFact
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.reporting.signatures import dtype_name
from graphopt.targets.work import flops_of, trips_of

# Operators without arithmetic on floats, whatever their table says.
_FREE = frozenset({"Constant", "ConstantOfShape", "Identity", "Range", "Shape", "Size"})


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """Size of the serialized model.

    Attributes:
        graph: Everything but the weights.
        weights: Bytes of initializers and Constant tensors by element type, bodies and functions included;
            largest first.
    """

    graph: int
    weights: dict[str, int]

    @property
    def total(self) -> int:
        """The whole file, external data included."""
        return self.graph + sum(self.weights.values())


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of one run.

    Attributes:
        sizes: Sizes of the dynamic dims.
        flops: Floating-point operations; a lower bound where `unknown` is not empty. A Loop counts its body
            as often as its constant trip count says, once otherwise; an If counts its larger branch.
        unknown: How many nodes of each operator type have no known FLOPs.
        nanoseconds: Time that the target's table predicts (`graphopt.targets`); dims that only a run can
            tell, and trip counts, are 64.
        peak_bytes: Most memory that inputs, outputs and values between them need at once, nodes run in their
            order and nothing is computed in place; without weights.
        unsized: How many values have no known size, so don't count in `peak_bytes`.
    """

    sizes: dict[str, int]
    flops: int
    unknown: dict[str, int]
    nanoseconds: int
    peak_bytes: int
    unsized: int


def bytes_of(model: ir.Model) -> ModelBytes:
    """Measure the model as it would be written, to about 1 %; weights are not read."""
    from graphopt.verification.outline import outline

    content, outside = outline(model)
    found: Counter[str] = Counter()
    inline = 0
    for tensor in _tensors(model):
        found[dtype_name(tensor.dtype)] += tensor.nbytes
        inline += tensor.nbytes
    inline -= sum(tensor.nbytes for tensor in outside.values())
    return ModelBytes(max(len(content) - inline, 0), dict(found.most_common()))


def costs_of(model: ir.Model, sizes: Mapping[str, int], target: str = "onnx") -> Costs:
    """Costs at these sizes of the dynamic dims.

    Args:
        model: Left as it is; function calls are counted on an inlined copy.
        sizes: By name of the dim, or "input[axis]". What depends on dims that are not given is unknown.
        target: Whose table predicts the time.
    """
    # A call that the target runs as one operator is timed as one.
    time = targets.find(target).cost_of(model.graph, _facts_at(model, sizes))
    if model.functions:
        model = _inlined(model)
    counter = _Counter(_facts_at(model, sizes))
    flops = counter.flops(model.graph)
    peak = counter.peak(model.graph, held=list(model.graph.inputs))
    unknown = dict(counter.unknown.most_common())
    return Costs(dict(sizes), flops, unknown, round(time), peak, counter.unsized)


def _facts_at(model: ir.Model, sizes: Mapping[str, int]) -> Facts:
    """What is known of a model whose inputs have these sizes."""
    facts = Facts(model)
    for value in model.graph.inputs:
        fact = facts.of(value)
        if isinstance(fact, TensorFact) and fact.dims is not None:
            names = [(str(dim), f"{value.name}[{axis}]") for axis, dim in enumerate(fact.dims)]
            dims = tuple(
                sizes.get(name, sizes.get(place, dim))
                for dim, (name, place) in zip(fact.dims, names, strict=True)
            )
            facts.assume(value, TensorFact(fact.dtype, dims, fact.elements))
    return facts


@dataclass(slots=True)
class _Counter:
    facts: Facts
    unknown: Counter[str] = field(default_factory=Counter)
    unsized: int = 0

    def flops(self, graph: ir.Graph) -> int:
        return sum(self._node_flops(node) for node in graph)

    def _node_flops(self, node: ir.Node) -> int:
        inner = [self.flops(body) for body in bodies(node)]
        if node.op_type == "If":
            return max(inner, default=0)
        if inner:
            return sum(inner) * trips_of(node, self.facts, unknown=1)
        if node.op_type in _FREE:
            return 0
        found = flops_of(node, self.facts)
        if not isinstance(found, int) or found < 0:  # below zero: sizes that the model can't take
            self.unknown[node.op_type] += 1
            return 0
        return found

    def peak(self, graph: ir.Graph, held: list[ir.Value]) -> int:
        """Largest sum of sizes of values that are alive together; `held` live from the beginning."""
        nodes = list(graph)
        last: dict[ir.Value, int] = dict.fromkeys(graph.outputs, len(nodes))
        for i, node in enumerate(nodes):
            for value in _reads(node):
                last[value] = max(last.get(value, 0), i)
        alive = {v: self._bytes(v) for v in held if v.name not in graph.initializers}
        current = most = sum(alive.values())
        dying: dict[int, list[ir.Value]] = {}
        for i, node in enumerate(nodes):
            for value in node.outputs:
                if node.op_type != "Constant" and value in last:
                    alive[value] = self._bytes(value)
                    current += alive[value]
                    dying.setdefault(last[value], []).append(value)
            inside = max((self.peak(body, []) for body in bodies(node)), default=0)
            most = max(most, current + inside)
            for value in dying.pop(i, ()):
                current -= alive.pop(value)
        return most

    def _bytes(self, value: ir.Value) -> int:
        fact = self.facts.of(value)
        if not isinstance(fact, TensorFact) or fact.dims is None or fact.dtype is None:
            self.unsized += 1
            return 0
        total = 1
        for dim in fact.dims:
            if not isinstance(dim, int):
                self.unsized += 1
                return 0
            total *= dim
        return 0 if fact.dtype == ir.DataType.STRING else (total * fact.dtype.bitwidth + 7) // 8


def _reads(node: ir.Node) -> list[ir.Value]:
    """Inputs of a node, with what its bodies capture."""
    found = [v for v in node.inputs if v is not None]
    for body in bodies(node):
        for inner in body.all_nodes():
            found += [v for v in inner.inputs if v is not None and v.graph is not inner.graph]
        found += [v for v in body.outputs if v.graph is not body]
    return found


def _inlined(model: ir.Model) -> ir.Model:
    from onnx_ir.passes.common import InlinePass

    copy = model.clone()
    InlinePass()(copy)
    return copy


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    """Every stored tensor, shared ones once."""
    found: dict[int, ir.TensorProtocol] = {}
    functions = [f.graph for f in model.functions.values()]
    inner = [g for f in functions for g in f.subgraphs()]
    for graph in (model.graph, *model.graph.subgraphs(), *functions, *inner):
        for value in graph.initializers.values():
            if value.const_value is not None:
                found[id(value.const_value)] = value.const_value
        for node in graph:
            attribute = node.attributes.get("value")
            if node.op_type == "Constant" and attribute is not None and not attribute.is_ref():
                tensor = attribute.as_tensor()
                found[id(tensor)] = tensor
    return list(found.values())
