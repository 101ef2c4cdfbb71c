"""What differs between two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.graphs import bodies
from graphopt.reporting.costs import ModelBytes, bytes_of
from graphopt.reporting.counts import OperatorCounts, count_operators
from graphopt.reporting.report import Json, Signature, ValueSignature, counts_to_dict
from graphopt.reporting.signatures import signature_of

Pair = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class ModelDiff:
    """Two models side by side; `before` and `after` in this order everywhere.

    Attributes:
        signature: What changed, a sentence each: "input 'x': float32[N, 3] became float32[1, 3]".
        opsets: Domains whose version changed; None where the domain is absent.
        metadata: Keys whose value changed.
        functions: Model-local functions that came, went or changed; the value says their node counts.
        weights: Names of initializers of both whose type, shape or contents differ.
        is_rewired: Nodes, their attributes or their connections differ; names of values between don't count.
    """

    operators: tuple[OperatorCounts, OperatorCounts]
    bytes: tuple[ModelBytes, ModelBytes]
    initializers: tuple[int, int]
    signature: tuple[str, ...]
    opsets: dict[str, Pair]
    metadata: dict[str, Pair]
    functions: dict[str, Pair]
    weights: tuple[str, ...]
    is_rewired: bool

    @property
    def is_empty(self) -> bool:
        """Whether the two are the same model but for names of values between and nodes."""
        changed = (self.signature, self.opsets, self.metadata, self.functions, self.weights)
        return not any(changed) and not self.is_rewired

    def changed_types(self) -> dict[str, tuple[int, int]]:
        """Operator types whose count differs, largest difference first."""
        before, after = (counts.types for counts in self.operators)
        pairs = {t: (before.get(t, 0), after.get(t, 0)) for t in {**before, **after}}
        changed = [item for item in pairs.items() if item[1][0] != item[1][1]]
        return dict(sorted(changed, key=lambda item: (-abs(item[1][1] - item[1][0]), item[0])))

    def to_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return {
            "same": self.is_empty,
            "operators": dict(zip(("before", "after"), map(counts_to_dict, self.operators), strict=True)),
            "bytes": {"before": self.bytes[0].total, "after": self.bytes[1].total},
            "initializers": {"before": self.initializers[0], "after": self.initializers[1]},
            "signature": list(self.signature),
            "opsets": {k: list(v) for k, v in self.opsets.items()},
            "metadata": {k: list(v) for k, v in self.metadata.items()},
            "functions": {k: list(v) for k, v in self.functions.items()},
            "weights": list(self.weights),
            "rewired": self.is_rewired,
        }


def diff(before: ir.Model, after: ir.Model) -> ModelDiff:
    """Compare two models; weights of one name, type and shape are read and compared."""
    return ModelDiff(
        operators=(count_operators(before), count_operators(after)),
        bytes=(bytes_of(before), bytes_of(after)),
        initializers=(len(before.graph.initializers), len(after.graph.initializers)),
        signature=tuple(_signature_changes(signature_of(before), signature_of(after))),
        opsets=_changes(_opsets(before), _opsets(after)),
        metadata=_changes(before.metadata_props, after.metadata_props),
        functions=_changes(_functions(before), _functions(after)),
        weights=_weights(before, after),
        is_rewired=_fingerprint(before) != _fingerprint(after),
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Pair]:
    return {
        k: (before.get(k), after.get(k)) for k in {**before, **after} if before.get(k) != after.get(k)
    }  # a dict keeps the order of both


def _opsets(model: ir.Model) -> dict[str, str]:
    return {domain or "ai.onnx": str(version) for domain, version in model.opset_imports.items()}


def _functions(model: ir.Model) -> dict[str, str]:
    return {f"{f.domain}::{f.name}": f"{len(f.graph)} nodes" for f in model.functions.values()}


def _signature_changes(before: Signature, after: Signature) -> list[str]:
    found = []
    sides = (("input", before.inputs, after.inputs), ("output", before.outputs, after.outputs))
    for side, old, new in sides:
        old_by_name, new_by_name = ({v.name: v for v in values} for values in (old, new))
        found += [f"{side} '{name}' is gone" for name in old_by_name if name not in new_by_name]
        found += [f"{side} '{name}' is new" for name in new_by_name if name not in old_by_name]
        for name, value in old_by_name.items():
            other = new_by_name.get(name, value)
            if other != value:
                found.append(f"{side} '{name}': {value_text(value)} became {value_text(other)}")
        if sorted(old_by_name) == sorted(new_by_name) and list(old_by_name) != list(new_by_name):
            found.append(f"{side}s changed order: {', '.join(new_by_name)}")
    return found


def value_text(value: ValueSignature) -> str:
    """Such as "float32[batch, 3]"; "[?]" is a dim without name or number, "[...]" an unknown rank."""
    if value.shape is None:
        return f"{value.type}[...]"
    return f"{value.type}[{', '.join('?' if d is None else str(d) for d in value.shape)}]"


def _weights(before: ir.Model, after: ir.Model) -> tuple[str, ...]:
    found = []
    for name, value in before.graph.initializers.items():
        other = after.graph.initializers.get(name)
        a, b = value.const_value, None if other is None else other.const_value
        if a is not None and b is not None and a is not b and not _same_tensor(a, b):
            found.append(name)
    return tuple(found)


def _same_tensor(a: ir.TensorProtocol, b: ir.TensorProtocol) -> bool:
    if a.dtype != b.dtype or tuple(a.shape) != tuple(b.shape):
        return False
    if a.dtype == ir.DataType.STRING:
        return bool(np.array_equal(a.numpy(), b.numpy()))
    return a.tobytes() == b.tobytes()


def _fingerprint(model: ir.Model) -> list[object]:
    """Nodes, attributes and connections with values numbered in the order in which they are made."""
    numbers: dict[ir.Value, object] = {}
    found: list[object] = []
    for function in model.functions.values():
        found += [function.domain, function.name, list(function.attributes)]
        _number(function.graph, numbers, found)
    _number(model.graph, numbers, found)
    return found


def _number(graph: ir.Graph, numbers: dict[ir.Value, object], found: list[object]) -> None:
    for value in (*graph.inputs, *graph.initializers.values()):
        # Weights are compared by name; where names were lost, by what they are.
        numbers.setdefault(value, value.name if value.is_initializer() else len(numbers))
    for node in graph:
        attributes = sorted(
            (name, _attribute_key(attribute))
            for name, attribute in node.attributes.items()
            if attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        )
        inputs = [None if v is None else numbers.get(v) for v in node.inputs]
        found.append((node.domain, node.op_type, node.overload, inputs, len(node.outputs), attributes))
        for value in node.outputs:
            numbers[value] = len(numbers)
        for body in bodies(node):
            _number(body, numbers, found)
    found.append([numbers.get(v) for v in graph.outputs])


def _attribute_key(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        content = tensor.numpy().tolist() if tensor.dtype == ir.DataType.STRING else tensor.tobytes().hex()
        return f"{tensor.dtype}{list(tensor.shape)}{content}"
    return str(attribute.value)
