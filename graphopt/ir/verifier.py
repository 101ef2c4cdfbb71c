"""Is this a valid graph? Asked of every input, after every pass in tests, and before anything is written.

Values are objects in memory and names on disk. So besides the rules of the standard one more is checked: that
each name, looked up where it is used, leads to the very value that is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir import schemas, scopes
from graphopt.ir.graphs import bodies
from graphopt.ir.schemas import Schema, type_name
from graphopt.ir.scopes import describe_node

_Scope = dict[str, ir.Value]


class InvalidGraph(ModelError):
    """The graph breaks a rule of the standard; the message names the node and the value."""


def verify(model: ir.Model) -> None:
    """Check structure, operators, attributes and declared types of a model, in time linear in its size.

    Raises:
        InvalidGraph: With the first rule broken, in one line.
    """
    verify_structure(model)
    functions = model.functions
    for root, imports in _roots(model):
        in_function = root is not model.graph
        for graph in scopes.nested(root):
            for node in graph:
                _check_node(node, imports, functions, in_function)
    _check_calls_end(functions)


def verify_structure(model: ir.Model) -> None:
    """Check names, scopes, order and producers only: nothing that needs to know an operator.

    Raises:
        InvalidGraph: With the first rule broken, in one line.
    """
    for root, _ in _roots(model):
        _check_graph(root, [])
    for function in model.functions.values():
        if function.graph.initializers:
            raise InvalidGraph(f"function '{function.name}': a function can't hold initializers")


def _roots(model: ir.Model) -> list[tuple[ir.Graph, dict[str, int]]]:
    return [
        (model.graph, model.graph.opset_imports),
        *((function.graph, function.opset_imports) for function in model.functions.values()),
    ]


def _check_graph(graph: ir.Graph, outer: Sequence[_Scope]) -> None:
    own = _given_values(graph)
    visible = [*outer, own]
    for node in graph:
        for used in node.inputs:
            if used is not None:
                _check_use(used, visible, node)
        for body in bodies(node):
            _check_graph(body, visible)
        for made in node.outputs:
            _declare(made, node, visible)
    for value in graph.outputs:
        if not value.name:
            raise InvalidGraph(f"graph '{graph.name}' has an output without a name")
        if own.get(value.name) is not value:
            raise InvalidGraph(
                f"output '{value.name}' of graph '{graph.name}' is made by nothing in it", value=value.name
            )


def _given_values(graph: ir.Graph) -> _Scope:
    """Inputs and initializers of a graph by name."""
    own: _Scope = {}
    for value in graph.inputs:
        if not value.name:
            raise InvalidGraph(f"graph '{graph.name}' has an input without a name")
        if value.name in own:
            raise InvalidGraph(f"input '{value.name}' is declared twice", value=value.name)
        own[value.name] = value
    for name, value in graph.initializers.items():
        if value.name != name:
            raise InvalidGraph(f"initializer '{name}' holds a value with the name '{value.name}'", value=name)
        if value.const_value is None:
            raise InvalidGraph(f"initializer '{name}' has no data", value=name)
        if own.setdefault(name, value) is not value:
            raise InvalidGraph(f"'{name}' is both an input and another initializer", value=name)
    return own


def _check_use(value: ir.Value, visible: Sequence[_Scope], node: ir.Node) -> None:
    name = value.name or ""
    for scope in reversed(visible):
        found = scope.get(name)
        if found is value:
            return
        if found is not None:
            raise InvalidGraph(
                f"{describe_node(node)}: uses a value '{name}' that another value of the same name hides",
                node=node.name,
                value=name,
            )
    producer = value.producer()
    if producer is None or producer.graph is None:
        reason = "which nothing makes"
    else:
        reason = f"which is made later, or out of its reach, by {describe_node(producer)}"
    raise InvalidGraph(f"{describe_node(node)}: uses value '{name}', {reason}", node=node.name, value=name)


def _declare(value: ir.Value, node: ir.Node, visible: Sequence[_Scope]) -> None:
    name = value.name
    if not name:
        if value.uses() or value.is_graph_output():
            raise InvalidGraph(
                f"{describe_node(node)}: makes a value without a name that is used", node=node.name
            )
        return
    if any(name in scope for scope in visible):
        raise InvalidGraph(
            f"{describe_node(node)}: makes value '{name}', a name that is already taken",
            node=node.name,
            value=name,
        )
    visible[-1][name] = value


def _check_node(
    node: ir.Node,
    imports: dict[str, int],
    functions: dict[ir.OperatorIdentifier, ir.Function],
    in_function: bool,
) -> None:
    if not in_function:
        for attribute in node.attributes.data.values():
            if attribute.is_ref():
                raise _fault(
                    node, f"attribute '{attribute.name}' refers to a function's attribute outside of one"
                )
    version = imports.get(node.domain)
    if version is None:
        raise _fault(node, f"no opset of domain '{node.domain or 'ai.onnx'}' is imported")
    function = functions.get(node.op_identifier()) if functions else None
    if function is not None:
        _check_call(node, function)
        return
    if not schemas.is_standard(node.domain):
        return
    found = schemas.schema(node.domain, node.op_type, version)
    if found is None or found.deprecated:
        state = "was removed before" if found is not None else "is not in"
        raise _fault(node, f"operator {node.op_type} {state} opset {version} of {node.domain or 'ai.onnx'}")
    _check_counts(node, found)
    _check_attributes(node, found)
    _check_types(node, found)


def _fault(node: ir.Node, reason: str, value: str | None = None) -> InvalidGraph:
    return InvalidGraph(f"{describe_node(node)}: {reason}", node=node.name, value=value)


def _check_call(node: ir.Node, function: ir.Function) -> None:
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise _fault(
            node,
            f"{len(node.inputs)} inputs and {len(node.outputs)} outputs for a function of "
            f"{len(function.inputs)} and {len(function.outputs)}",
        )
    for name in node.attributes:
        if name not in function.attributes:
            raise _fault(node, f"the function has no attribute '{name}'")


def _check_calls_end(functions: dict[ir.OperatorIdentifier, ir.Function]) -> None:
    """Check that no function calls itself, directly or through others."""
    calls = {
        name: {
            node.op_identifier(): None
            for graph in scopes.nested(function)
            for node in graph
            if node.op_identifier() in functions
        }
        for name, function in functions.items()
    }
    while calls:
        leaves = [name for name, called in calls.items() if not any(other in calls for other in called)]
        if not leaves:
            name = next(iter(calls))
            raise InvalidGraph(f"function '{name[0]}::{name[1]}' calls itself, or one that does")
        for name in leaves:
            del calls[name]


def _last_given(values: Sequence[ir.Value | None]) -> int:
    """Number of values up to the last that is given: trailing omitted ones do not count."""
    count = len(values)
    while count and (values[count - 1] is None or not values[count - 1].name):  # type: ignore[union-attr]
        count -= 1
    return count


def _check_counts(node: ir.Node, found: Schema) -> None:
    inputs, outputs = _last_given(node.inputs), _last_given(node.outputs)
    if not found.min_inputs <= inputs <= found.max_inputs:
        raise _fault(node, f"{inputs} inputs, {_span(found.min_inputs, found.max_inputs)} allowed")
    if not found.min_outputs <= outputs <= found.max_outputs:
        raise _fault(node, f"{outputs} outputs, {_span(found.min_outputs, found.max_outputs)} allowed")
    for value, formal in zip(node.inputs, found.inputs, strict=False):
        if value is None and formal.option == "single":
            raise _fault(node, f"input '{formal.name}' is missing")


def _span(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low} to {high}" if high < 1 << 30 else f"{low} or more"


def _check_attributes(node: ir.Node, found: Schema) -> None:
    for name, attribute in node.attributes.data.items():
        needed = found.attributes.get(name)
        if needed is None:
            raise _fault(node, f"has no attribute '{name}' in opset {found.since}")
        if attribute.type != needed:
            raise _fault(node, f"attribute '{name}' is {attribute.type.name}, {needed.name} needed")
    for name in found.required:
        if name not in node.attributes:
            raise _fault(node, f"attribute '{name}' is missing")


def _check_types(node: ir.Node, found: Schema) -> None:
    bound: dict[str, str] = {}
    for values, parameters in ((node.inputs, found.inputs), (node.outputs, found.outputs)):
        last = len(parameters) - 1
        for place, value in enumerate(values):
            name = type_name(value.type) if value is not None else None
            if value is None or name is None:
                continue
            formal = parameters[place if place < last else last]
            if name not in formal.types:
                raise _fault(
                    node, f"value '{value.name}' is {name}, not allowed for '{formal.name}'", value.name
                )
            if formal.type_variable is not None:
                first = bound.setdefault(formal.type_variable, name)
                if first != name:
                    raise _fault(node, f"value '{value.name}' is {name} where {first} is needed", value.name)
