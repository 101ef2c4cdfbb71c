"""What a model costs: bytes of its file, floating-point operations and memory of one run at given sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir.fact import Fact, TensorFact
from graphopt.ir.facts import InferenceContext, lookup
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.reporting.signatures import dtype_name

# Operators without arithmetic on floats, whatever their table says.
_FREE = frozenset({"Constant", "ConstantOfShape", "Identity", "Range", "Shape", "Size"})
# A larger constant trip count (exporters write 2^63 - 1) means "until the condition ends it".
MOST_TRIPS = 1 << 20


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
        peak_bytes: Most memory that inputs, outputs and values between them need at once, nodes run in their
            order and nothing is computed in place; without weights.
        unsized: How many values have no known size, so don't count in `peak_bytes`.
    """

    sizes: dict[str, int]
    flops: int
    unknown: dict[str, int]
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


def costs_of(model: ir.Model, sizes: Mapping[str, int]) -> Costs:
    """Costs at these sizes of the dynamic dims.

    Args:
        model: Left as it is; function calls are counted on an inlined copy.
        sizes: By name of the dim, or "input[axis]". What depends on dims that are not given is unknown.
    """
    if model.functions:
        model = _inlined(model)
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
    counter = _Counter(facts, model.opset_imports)
    flops = counter.flops(model.graph)
    peak = counter.peak(model.graph, held=list(model.graph.inputs))
    return Costs(dict(sizes), flops, dict(counter.unknown.most_common()), peak, counter.unsized)


@dataclass(slots=True)
class _Counter:
    facts: Facts
    opsets: Mapping[str, int]
    unknown: Counter[str] = field(default_factory=Counter)
    unsized: int = 0

    def flops(self, graph: ir.Graph) -> int:
        return sum(self._node_flops(node) for node in graph)

    def _node_flops(self, node: ir.Node) -> int:
        inner = [self.flops(body) for body in bodies(node)]
        if node.op_type == "If":
            return max(inner, default=0)
        if inner:
            return sum(inner) * self._trips(node)
        entry = lookup(node)
        if node.op_type in _FREE:
            return 0
        if entry is None or entry.flops is None:
            self.unknown[node.op_type] += 1
            return 0
        inputs: list[Fact | None] = [None if v is None else self.facts.of(v) for v in node.inputs]
        opset = node.version or self.opsets.get(node.domain, 1)
        try:
            found = entry.flops(InferenceContext(self.facts, node, inputs, opset))
        except (ValueError, ZeroDivisionError, IndexError, TypeError):  # an input of unknown rank
            found = None
        if not isinstance(found, int) or found < 0:  # below zero: sizes that the model can't take
            self.unknown[node.op_type] += 1
            return 0
        return found

    def _trips(self, node: ir.Node) -> int:
        """How often a Loop's or Scan's body runs as far as the graph says; else once."""
        if node.op_type == "Loop" and node.inputs and node.inputs[0] is not None:
            elements = self.facts.elements(node.inputs[0])
            if elements and isinstance(elements[0], int) and elements[0] <= MOST_TRIPS:
                return max(elements[0], 0)
        if node.op_type == "Scan":
            count = node.attributes.get_int("num_scan_inputs", 1) or 1
            dims = self.facts.dims(node.inputs[-1]) if node.inputs[-1] is not None else None
            if dims and count and isinstance(dims[0], int):
                return dims[0]
        return 1

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
