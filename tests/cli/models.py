"""Small models for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import parser

CHAIN = "g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  b = Neg(a)  c = Abs(b)  y = Identity(c) }"


def write(path: Path, graph: str = CHAIN, opset: int = 17) -> Path:
    """Write a model from its text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}'), path)
    return path
