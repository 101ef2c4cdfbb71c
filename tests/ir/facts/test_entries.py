"""The table of operators as a whole: complete, consistent, and calm about what is unknown."""

from __future__ import annotations

import onnx
import onnx.defs
import onnx_ir as ir
import pytest

from graphopt.ir.facts import all_operators, find
from graphopt.ir.inference import Facts

# They have bodies, which say what comes out.
WITH_BODIES = {"If", "Loop", "Scan", "SequenceMap", "FlexAttention"}
# An attribute that is required and absent is a fault of the model, which may raise.
CALLABLE = {
    f"{schema.domain}.{schema.name}": schema
    for schema in onnx.defs.get_all_schemas()
    if schema.name not in WITH_BODIES and not any(attr.required for attr in schema.attributes.values())
}


def test_every_operator_of_onnx_has_an_entry():
    missing = [
        f"{schema.domain}.{schema.name}"
        for schema in onnx.defs.get_all_schemas_with_history()
        if find(schema.domain, schema.name) is None
    ]
    assert sorted(set(missing)) == []


def test_flags_do_not_contradict_each_other():
    for entry in all_operators():
        assert not (entry.random and entry.pure), entry.name
        assert not entry.movement or entry.pure, entry.name
        assert entry.infer is not None or entry.flops is None, entry.name


def failures(op, domain, count, outputs):
    """What inference says of a node all of whose inputs are of unknown rank and dtype."""
    inputs = [onnx.ValueInfoProto(name=f"x{i}") for i in range(count)]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    node = onnx.helper.make_node(op, [i.name for i in inputs], [o.name for o in results], domain=domain)
    graph = onnx.helper.make_graph([node], "graph", inputs, results)
    imports = [onnx.helper.make_opsetid("", 21)] + ([onnx.helper.make_opsetid(domain, 1)] if domain else [])
    model = ir.serde.deserialize_model(onnx.helper.make_model(graph, opset_imports=imports))
    facts = Facts(model)
    for output in model.graph.outputs:
        facts.of(output)
    return facts.failures


@pytest.mark.parametrize("key", sorted(CALLABLE))
def test_nothing_known_is_no_failure(key):
    schema = CALLABLE[key]
    count = min(max(schema.min_input, len(schema.inputs)), 8)
    assert not failures(schema.name, schema.domain, count, min(len(schema.outputs), 4))


@pytest.mark.parametrize("name", [entry.name for entry in all_operators() if entry.domain == "com.microsoft"])
def test_nothing_known_of_onnxruntimes_operators_is_no_failure(name):
    assert not failures(name, "com.microsoft", 9, 3)
