"""Operators that the reference implementation runs, called by an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import Result, from_engine, to_engine

__all__ = ["Reference"]


class Reference:
    """Runs single nodes; what was made of a node is kept."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[Callable[..., object], list[str]]] = {}

    def __call__(self, number: int, node: bytes, values: list[object]) -> list[object]:
        """The node's results in the engine's form, of inputs in it; as `run`."""
        return [to_engine(result) for result in self.run(number, node, [from_engine(v) for v in values])]

    def run(self, number: int, node: bytes, values: Sequence[Result]) -> Sequence[Result]:
        """The node's results.

        Args:
            number: Which node of the program.
            node: A model of it alone.
            values: Its inputs.

        Raises:
            ExecutionError: It can't run on them.
        """
        found = self._runs.get(number)
        if found is None:
            found = self._runs[number] = _prepared(node)
        run, names = found
        try:
            results = run(None, dict(zip(names, values, strict=True)))
        except Exception as error:
            raise ExecutionError(f"{_named(node, values)}: {type(error).__name__}: {error}") from error
        assert isinstance(results, list | tuple)
        return results


def _named(node: bytes, values: Sequence[Result]) -> str:
    """What ran on what."""
    import onnx

    op = onnx.ModelProto.FromString(node).graph.node[0]
    shapes = " ".join(f"{v.dtype}{list(v.shape)}" if isinstance(v, np.ndarray) else "-" for v in values)
    operator = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
    return f"node '{op.name}' ({operator}, by the reference implementation) on {shapes}"


def _prepared(node: bytes) -> tuple[Callable[..., object], list[str]]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.ModelProto.FromString(node)
    try:
        evaluator = ReferenceEvaluator(model)
    except Exception as error:
        op = model.graph.node[0]
        where = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
        raise ExecutionError(f"nothing runs {where}: {type(error).__name__}: {error}") from error
    return evaluator.run, [i.name for i in model.graph.input]
