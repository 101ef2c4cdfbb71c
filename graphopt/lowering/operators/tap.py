"""Values that are shown while a model runs."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.lowering.builder import Builder
from graphopt.lowering.registry import lowers
from graphopt.lowering.taps import DOMAIN


@lowers("Tap", domain=DOMAIN)
def tap(build: Builder, node: ir.Node) -> None:
    """`tap`: shows its input; data: the name that was asked for."""
    name = node.attributes["name"].as_string()
    build.emit("tap", [build.register(node.inputs[0])], [], data=name.encode())
