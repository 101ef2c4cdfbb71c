"""Graphs of ONNX text through the engine and through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from graphopt.ir.evaluate.plain import plain_session
from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.lowering.program import Instruction, Module, Program
from graphopt.runtime import InferenceSession

Feeds = Mapping[str, object]


def parsed(graph: str, opset: int = 18, functions: str = "") -> onnx.ModelProto:
    """A model of a graph's text; functions of domain `own` follow it."""
    imports = f'"" : {opset}' + (', "own" : 1' if functions else "")
    return onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{imports}]> {graph} {functions}")


def program(model: onnx.ModelProto | str) -> Program:
    """The program that a session of the model runs."""
    return lower(from_proto(parsed(model) if isinstance(model, str) else model))


def instructions(of: Program | Module, kernel: str = "") -> list[Instruction]:
    """All instructions, or those of a kernel, bodies included."""
    main = of.main if isinstance(of, Program) else of
    return [i for m in main.walk() for i in m.instructions if kernel in ("", i.kernel)]


def assert_same(model: onnx.ModelProto | str, *feeds: Feeds, rtol: float = 2e-6, atol: float = 1e-6) -> None:
    """One session answers all feeds, one after the other, as onnxruntime does."""
    made = parsed(model) if isinstance(model, str) else model
    ours, theirs = InferenceSession(made, optimize=False), plain_session(made)
    for given in feeds:
        for output, a, b in zip(
            made.graph.output, theirs.run(None, given), ours.run(None, given), strict=True
        ):
            assert_equal(a, b, f"{output.name} of {dict(given)}", rtol, atol)


def assert_equal(a: object, b: object, where: str, rtol: float, atol: float) -> None:
    """The same tensors, sequences or nothing."""
    if isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b), where
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y, where, rtol, atol)
        return
    if a is None or b is None:
        assert a is b, where
        return
    x, y = np.asarray(a), np.asarray(b)
    assert (x.shape, x.dtype) == (y.shape, y.dtype), f"{where}: {x.shape} became {y.shape}"
    np.testing.assert_allclose(y, x, rtol, atol, err_msg=where)
