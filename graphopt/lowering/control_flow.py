"""If, Loop and Scan: instructions of the engine with modules for bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.lowering.builder import Builder

if TYPE_CHECKING:
    from graphopt.lowering.lower import Lowering
    from graphopt.lowering.program import Module

__all__ = ["lower_if", "lower_loop", "lower_scan"]


def lower_if(lowering: Lowering, node: ir.Node, build: Builder) -> None:
    """`if`: the condition; two modules without inputs."""
    condition = build.register(node.inputs[0])
    modules = tuple(
        _module(lowering, node.attributes[name].as_graph(), build, name)
        for name in ("then_branch", "else_branch")
    )
    build.emit("if", [condition], _outputs(build, node), bodies=modules)


def lower_loop(lowering: Lowering, node: ir.Node, build: Builder) -> None:
    """`loop`: trip count, condition, carried values; ints: number of carried values."""
    inputs = [build.register(v) for v in node.inputs]
    inputs += [-1] * (2 - len(inputs))
    module = _module(lowering, node.attributes["body"].as_graph(), build, "body", node)
    build.emit("loop", inputs, _outputs(build, node), ints=[len(inputs) - 2], bodies=(module,))


def lower_scan(lowering: Lowering, node: ir.Node, build: Builder) -> None:
    """`scan`: states, then scanned inputs; ints: numbers of both, then axis and direction of each slice."""
    inputs = [build.register(v) for v in node.inputs]
    slices = _integers(node, "num_scan_inputs")[0]
    states = len(inputs) - slices
    stacked = len(node.outputs) - states
    given = {
        name: _integers(node, name)
        for name in ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")
    }
    ints = [states, slices, stacked]
    for name, count in zip(given, (slices, slices, stacked, stacked), strict=True):
        ints += given[name] or [0] * count
    module = _module(lowering, node.attributes["body"].as_graph(), build, "body", node)
    build.emit("scan", inputs, _outputs(build, node), ints=ints, bodies=(module,))


def _integers(node: ir.Node, name: str) -> list[int]:
    """An attribute of one or several whole numbers; empty where it is left out."""
    found = attribute(node, name)
    if isinstance(found, int):
        return [found]
    return [item for item in found if isinstance(item, int)] if isinstance(found, tuple) else []


def _outputs(build: Builder, node: ir.Node) -> list[int]:
    return [build.output(node, i) for i in range(len(node.outputs))]


def _module(
    lowering: Lowering, graph: ir.Graph, build: Builder, name: str, node: ir.Node | None = None
) -> Module:
    """The module of a body. What it defines holds in it alone."""
    if node is not None:
        # The operator fills in the facts of its body's inputs.
        for output in node.outputs:
            lowering.facts.of(output)
    shared = lowering.shared
    scope = shared.symbols.scope()
    inner = Builder(shared, name, build)
    lowering.module(graph, inner, list(graph.inputs))
    shared.symbols.leave(scope)
    return inner.module
