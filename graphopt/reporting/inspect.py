"""Summarize one model: what it takes and gives, what is in it, how large it is."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.graphs import bodies
from graphopt.reporting.costs import ModelBytes, bytes_of
from graphopt.reporting.counts import OperatorCounts, count_operators
from graphopt.reporting.report import Json, Signature, counts_to_dict, signature_to_dict
from graphopt.reporting.signatures import dtype_name, signature_of

BIGGEST = 5  # initializers that are listed


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """An initializer."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class ControlFlow:
    """A node with bodies, such as Loop or If.

    Attributes:
        node: The node's name, or that of its first output.
        bodies: Name of the attribute, number of operators in it (bodies within included), and nodes with
            bodies in it.
    """

    node: str
    type: str
    bodies: tuple[tuple[str, int, tuple[ControlFlow, ...]], ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """The summary of a model.

    Attributes:
        dynamic: Names of dynamic dims of the inputs; "input[axis]" where a dim has none.
        functions: Model-local functions, "domain::name", with the nodes of each.
    """

    graph: str
    producer: str
    ir_version: int
    opsets: dict[str, int]
    signature: Signature
    dynamic: tuple[str, ...]
    operators: OperatorCounts
    bytes: ModelBytes
    initializers: int
    biggest: tuple[StoredTensor, ...]
    control_flow: tuple[ControlFlow, ...]
    functions: dict[str, int]
    metadata: dict[str, str]

    def to_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return {
            "graph": self.graph,
            "producer": self.producer,
            "ir_version": self.ir_version,
            "opsets": dict(self.opsets),
            "signature": signature_to_dict(self.signature),
            "dynamic": list(self.dynamic),
            "operators": counts_to_dict(self.operators),
            "bytes": {"graph": self.bytes.graph, "weights": dict(self.bytes.weights)},
            "initializers": self.initializers,
            "biggest": [
                {"name": t.name, "type": t.type, "shape": list(t.shape), "bytes": t.bytes}
                for t in self.biggest
            ],
            "control_flow": [_control_flow_to_dict(c) for c in self.control_flow],
            "functions": dict(self.functions),
            "metadata": dict(self.metadata),
        }


def inspect(model: ir.Model) -> Inspection:
    """Summarize a model; the weights' bytes are not read."""
    graph = model.graph
    signature = signature_of(model)
    return Inspection(
        graph=graph.name or "",
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        ir_version=model.ir_version,
        opsets={domain or "ai.onnx": version for domain, version in model.opset_imports.items()},
        signature=signature,
        dynamic=_dynamic(signature),
        operators=count_operators(model),
        bytes=bytes_of(model),
        initializers=len(graph.initializers),
        biggest=_biggest(graph),
        control_flow=_control_flow(graph),
        functions={f"{f.domain}::{f.name}": len(f.graph) for f in model.functions.values()},
        metadata=dict(model.metadata_props),
    )


def _dynamic(signature: Signature) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for value in signature.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int):
                names[dim or f"{value.name}[{axis}]"] = None
    return tuple(names)


def _biggest(graph: ir.Graph) -> tuple[StoredTensor, ...]:
    tensors = [(name, v.const_value) for name, v in graph.initializers.items() if v.const_value is not None]
    tensors.sort(key=lambda item: (-item[1].nbytes, item[0]))
    return tuple(
        StoredTensor(name, dtype_name(t.dtype), tuple(d for d in t.shape if isinstance(d, int)), t.nbytes)
        for name, t in tensors[:BIGGEST]
    )


def _control_flow(graph: ir.Graph) -> tuple[ControlFlow, ...]:
    return tuple(
        ControlFlow(
            node.name or next((v.name or "" for v in node.outputs), ""),
            node.op_type,
            tuple((name, _operators(body), _control_flow(body)) for name, body in _named_bodies(node)),
        )
        for node in graph
        if bodies(node)
    )


def _named_bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    found = []
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append((name, attribute.as_graph()))
    return found


def _operators(graph: ir.Graph) -> int:
    return sum(node.op_type != "Constant" for node in graph.all_nodes())


def _control_flow_to_dict(found: ControlFlow) -> dict[str, Json]:
    return {
        "node": found.node,
        "type": found.type,
        "bodies": [
            {"name": name, "operators": count, "control_flow": [_control_flow_to_dict(c) for c in inner]}
            for name, count, inner in found.bodies
        ],
    }
