"""Operators without a kernel of ours, called by an engine: the reference implementation runs them.

It knows the standard alone; those that onnxruntime contributes are run by onnxruntime's own kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import Result, from_engine, to_engine

if TYPE_CHECKING:
    import onnx
    from onnx.reference.op_run import OpRun

__all__ = ["Reference"]

_Run = Callable[..., object]
_CONTRIBUTED = "com.microsoft"


class Reference:
    """Runs single nodes; what was made of a node is kept."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[_Run, list[str]]] = {}

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
        except ExecutionError:
            raise
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
    by = "onnxruntime" if op.domain == _CONTRIBUTED else "the reference implementation"
    return f"node '{op.name}' ({operator}, by {by}) on {shapes}"


def _prepared(node: bytes) -> tuple[_Run, list[str]]:
    import onnx

    model = onnx.ModelProto.FromString(node)
    names = [i.name for i in model.graph.input]
    if model.graph.node[0].domain == _CONTRIBUTED:
        return _by_onnxruntime(model), names
    from onnx.reference import ReferenceEvaluator

    try:
        return ReferenceEvaluator(model, new_ops=[_stft_of_any_rank()]).run, names
    except Exception as error:
        raise _nothing_runs(model, error) from error


@cache
def _stft_of_any_rank() -> type[OpRun]:
    """The reference's STFT, of signals (batch, samples) as well: it takes (batch, samples, 1 or 2) alone."""
    from onnx.reference.ops import op_stft

    class STFT(op_stft.STFT):
        op_domain = ""

        def _run(self, x, *others, **attributes):  # type: ignore[no-untyped-def]
            parts = x[..., np.newaxis] if x.ndim == 2 else x
            return super()._run(parts, *others, **attributes)  # type: ignore[no-untyped-call]

    return STFT


def _by_onnxruntime(model: onnx.ModelProto) -> _Run:
    """onnxruntime's kernel of a node; it is made when it is known which element types come in."""
    import onnx

    from graphopt.ir.evaluate.plain import plain_session

    made: dict[tuple[int, ...], _Run] = {}

    def run(wanted: None, feeds: dict[str, Result]) -> object:
        arrays = [np.asarray(value) for value in feeds.values()]
        types = tuple(onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in arrays)
        if types not in made:
            for value, array, of in zip(model.graph.input, arrays, types, strict=True):
                value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, of, [None] * array.ndim))
            try:
                made[types] = plain_session(model).run
            except Exception as error:
                raise _nothing_runs(model, error) from error
        return made[types](wanted, feeds)

    return run


def _nothing_runs(model: onnx.ModelProto, error: Exception) -> ExecutionError:
    op = model.graph.node[0]
    where = f"{op.domain}::{op.op_type}" if op.domain else op.op_type
    return ExecutionError(f"nothing runs {where}: {type(error).__name__}: {str(error).splitlines()[0]}")
