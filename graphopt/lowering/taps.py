"""Values that a tap is told of: each gets a reader that no pass knows, so that none takes the value away.

A value of a body is named with its scope: `loop_node:body/value`, a deeper one
`loop_node:body/if_node:then_branch/value`; `:` and `%` within a name of a node are written `%3A` and `%25`.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.scoped_names import scopes
from graphopt.ir.scopes import defined_values

__all__ = ["DOMAIN", "insert_taps"]

DOMAIN = "ai.graphopt.tap"


def insert_taps(model: ir.Model, names: Iterable[str]) -> None:
    """Add a reader to each of these values.

    Raises:
        UsageError: There is no such value.
    """
    wanted = dict.fromkeys(names)
    found: dict[str, tuple[ir.Graph, ir.Value]] = {}
    for scope, graph in scopes(model.graph):
        for value in defined_values(graph):
            name = f"{scope}{value.name}"
            if name in wanted:
                found.setdefault(name, (graph, value))
    for name in wanted:
        if name not in found:
            raise UsageError(
                f"there is no value {name!r} to keep", hint="a body's are written node:body/value"
            )
        graph, value = found[name]
        tap = ir.Node(
            DOMAIN, "Tap", [value], [ir.AttrString("name", name)], num_outputs=1, name=f"tap of {name}"
        )
        tap.outputs[0].name = f"tap of {name}"
        producer = value.producer()
        if producer is not None:
            graph.insert_after(producer, tap)
        elif len(graph):
            graph.insert_before(graph[0], tap)
        else:
            graph.append(tap)
    model.graph.opset_imports[DOMAIN] = 1
