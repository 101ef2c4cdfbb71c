"""Operators that the reference implementation runs: one node as a model of its own."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from graphopt.lowering.builder import Builder

__all__ = ["emit_reference"]


def emit_reference(build: Builder, node: ir.Node) -> None:
    """An instruction that calls back into Python with the node."""
    model = onnx.ModelProto(ir_version=10)
    proto = ir.serde.serialize_node(node)
    present = [v for v in node.inputs if v is not None]
    names = {id(v): f"i{i}" for i, v in enumerate(present)}
    del proto.input[:]
    proto.input.extend("" if v is None else names[id(v)] for v in node.inputs)
    del proto.output[:]
    wanted = [i for i, v in enumerate(node.outputs) if v.name]
    proto.output.extend(f"o{i}" if i in wanted else "" for i in range(len(node.outputs)))
    model.graph.node.append(proto)
    model.graph.name = "node"
    model.graph.input.extend(onnx.ValueInfoProto(name=f"i{i}") for i in range(len(present)))
    model.graph.output.extend(onnx.ValueInfoProto(name=f"o{i}") for i in wanted)
    model.opset_import.append(onnx.OperatorSetIdProto(domain=node.domain, version=build.opset(node)))
    if node.domain:
        version = build.opset_imports.get("", 21)
        model.opset_import.append(onnx.OperatorSetIdProto(domain="", version=version))
    build.emit(
        "reference",
        [build.register(v) for v in present],
        [build.output(node, i) for i in wanted],
        data=model.SerializeToString(),
    ).is_dynamic = True
