"""Engines that the runtime is measured beside, each as a function from feeds to outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]
Outputs = Sequence[NDArray[Any]]
Engine = Callable[[Feeds], Outputs]


def ours(path: Path, precision: str = "f32", threads: int = 1, optimize: bool = True) -> Engine:
    """graphopt's own engine."""
    from graphopt.runtime import InferenceSession

    session = InferenceSession(path, precision=precision, threads=threads, optimize=optimize)  # type: ignore[arg-type]
    return lambda feeds: session.run(None, feeds)  # type: ignore[return-value]


def onnxruntime(path: Path, threads: int = 1) -> Engine:
    """onnxruntime with all its optimizations."""
    from benchmarks.sessions import session

    loaded = session(path, threads=threads)
    return lambda feeds: loaded.run(None, feeds)


def onnxruntime_int8(path: Path) -> Engine:
    """onnxruntime on the model with its dynamic quantization."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        quantized = Path(folder) / path.name
        quantize_dynamic(path, quantized, weight_type=QuantType.QInt8)
        return onnxruntime(quantized)


def openvino(path: Path, precision: str) -> Engine:
    """OpenVINO for latency; `precision` "f32" or "bf16".

    Raises:
        ImportError: It is not installed.
    """
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = ov.Core().compile_model(str(path), "CPU", options).create_infer_request()

    def run(feeds: Feeds) -> Outputs:
        request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return [np.asarray(tensor.data) for tensor in request.output_tensors]

    return run


PEERS: dict[str, Callable[[Path], Engine]] = {
    "onnxruntime": onnxruntime,
    "onnxruntime int8": onnxruntime_int8,
    "openvino": lambda path: openvino(path, "f32"),
    "openvino bf16": lambda path: openvino(path, "bf16"),
}
