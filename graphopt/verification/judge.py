"""Run a model as it stands, without any optimization: the judge of what it means.

onnxruntime with its optimizations off is the judge; the reference implementation of ONNX takes what
onnxruntime can't load. Sessions run in this process: a crash of native code takes it down (sizes of zero,
which are known for it, are tried in a child process first; see `isolation`).
"""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir

from graphopt.ir.evaluate.plain import plain_options
from graphopt.verification.compare import Answer, Array
from graphopt.verification.outline import outline

if TYPE_CHECKING:
    import onnxruntime as ort

Feeds: TypeAlias = Mapping[str, Answer]

# Element types that numpy can't name: they cross the border as raw memory.
_RAW_TYPES = {
    "tensor(bfloat16)": ir.DataType.BFLOAT16,
    "tensor(float8e4m3fn)": ir.DataType.FLOAT8E4M3FN,
    "tensor(float8e4m3fnuz)": ir.DataType.FLOAT8E4M3FNUZ,
    "tensor(float8e5m2)": ir.DataType.FLOAT8E5M2,
    "tensor(float8e5m2fnuz)": ir.DataType.FLOAT8E5M2FNUZ,
}


class JudgeError(Exception):
    """A judge could not load or run a model; the message is one line."""

    def __init__(self, judge: str, error: Exception) -> None:
        super().__init__(f"{judge}: {' '.join(str(error).split())[:300] or type(error).__name__}")


class Judge(Protocol):
    """A model that is loaded and can be asked."""

    @property
    def name(self) -> str:
        """Which engine and version, as the report says it."""
        ...

    def run(self, feeds: Feeds) -> list[Answer]:
        """The outputs in the model's order; raises JudgeError."""
        ...


def load_onnxruntime(source: ir.Model | Path) -> Judge:
    """A session of onnxruntime, from the file itself or from memory without copying weights.

    Raises:
        JudgeError: onnxruntime can't load the model.
    """
    return _Session(source)


def load_reference(source: ir.Model | Path) -> Judge:
    """The reference implementation: slow, but it follows the specification to the letter.

    Raises:
        JudgeError: It has no implementation for an operator.
    """
    return _Reference(source)


class _Session:
    def __init__(self, source: ir.Model | Path) -> None:
        import onnxruntime as ort

        self.name = f"onnxruntime {ort.__version__}"
        options = _session_options()
        providers = ["CPUExecutionProvider"]
        try:
            if isinstance(source, Path):
                self._session = ort.InferenceSession(str(source), options, providers=providers)
            else:
                content, weights = outline(source)
                # The session reads this memory in place: it must live as long as the session.
                self._weights = {name: _weight_value(tensor) for name, tensor in weights.items()}
                options.add_external_initializers(list(self._weights), list(self._weights.values()))
                self._session = ort.InferenceSession(content, options, providers=providers)
        except Exception as error:
            raise JudgeError(self.name, error) from error
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        self._raw = any(v.type in _RAW_TYPES for v in values)

    def run(self, feeds: Feeds) -> list[Answer]:
        try:
            if self._raw:
                return self._run_raw(feeds)
            return [_answer(a) for a in self._session.run(None, dict(feeds))]
        except Exception as error:
            raise JudgeError(self.name, error) from error

    def _run_raw(self, feeds: Feeds) -> list[Answer]:
        values = {}
        for name, array in feeds.items():
            if not isinstance(array, np.ndarray):
                raise TypeError(f"input {name!r}: a sequence beside element types that numpy lacks")
            values[name] = _value(np.asarray(array, order="C"), ir.DataType.from_numpy(array.dtype))
        outputs = self._session.run_with_ort_values(None, values)
        return [_from_value(v) for v in outputs]


class _Reference:
    def __init__(self, source: ir.Model | Path) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        self.name = f"onnx.reference {onnx.__version__}"
        try:
            proto = onnx.load(str(source)) if isinstance(source, Path) else ir.to_proto(source)
            self._evaluator = ReferenceEvaluator(proto)
        except Exception as error:
            raise JudgeError(self.name, error) from error

    def run(self, feeds: Feeds) -> list[Answer]:
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # means of nothing and the like: the answer says it
                outputs = self._evaluator.run(None, dict(feeds))
            return [_answer(a) for a in outputs]
        except Exception as error:
            raise JudgeError(self.name, error) from error


def _session_options() -> ort.SessionOptions:
    options = plain_options()
    # Packing weights costs more than the few small runs that follow it gain: 0.51 s against 0.17 s for 54 MB.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _weight_value(tensor: ir.TensorProtocol) -> ort.OrtValue:
    return _value(np.asarray(tensor.numpy(), order="C"), tensor.dtype)


def _value(array: Array, dtype: ir.DataType) -> ort.OrtValue:
    import onnxruntime as ort

    if dtype in _RAW_TYPES.values():
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, int(dtype))
    return ort.OrtValue.ortvalue_from_numpy(array)


def _from_value(value: ort.OrtValue) -> Answer:
    dtype = _RAW_TYPES.get(value.data_type())
    if dtype is None:
        return _answer(value.numpy())
    shape = value.shape()
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype.numpy())
    memory = ctypes.string_at(value.data_ptr(), count * dtype.numpy().itemsize)
    return np.frombuffer(memory, dtype.numpy()).reshape(shape)


def _answer(output: object) -> Answer:
    """Outputs as plain arrays: scalars of numpy and nested sequences made uniform."""
    if output is None:
        return None
    if isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        return [_answer(a) for a in output]
    if isinstance(output, dict):  # ZipMap of traditional machine learning: keys, then values
        return [np.asarray(list(output.keys())), np.asarray(list(output.values()))]
    return np.asarray(output)
