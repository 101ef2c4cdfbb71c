"""Operators that the reference implementation runs, called by the engine."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import from_engine, to_engine

__all__ = ["Reference"]


class Reference:
    """Runs single nodes; what was made of a node is kept."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[Callable[..., object], list[str]]] = {}

    def __call__(self, number: int, node: bytes, values: list[object]) -> list[object]:
        """The node's results.

        Args:
            number: Which node of the program.
            node: A model of it alone.
            values: Its inputs in the engine's form.
        """
        found = self._runs.get(number)
        if found is None:
            import onnx
            from onnx.reference import ReferenceEvaluator

            model = onnx.ModelProto.FromString(node)
            evaluator = ReferenceEvaluator(model)
            found = self._runs[number] = (evaluator.run, [i.name for i in model.graph.input])
        run, names = found
        try:
            results = run(None, dict(zip(names, map(from_engine, values), strict=True)))
        except Exception as error:
            raise ExecutionError(f"the reference implementation: {type(error).__name__}: {error}") from error
        assert isinstance(results, list | tuple)
        return [to_engine(result) for result in results]
