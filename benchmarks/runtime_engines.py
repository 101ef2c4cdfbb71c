"""Engines that the runtime is measured beside, each as a function from feeds to outputs."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]
Outputs = Sequence[NDArray[Any]]
Engine = Callable[[Feeds], Outputs]

# What NNCF calibrates with.
SAMPLES, SAMPLE_LENGTH = 16, 30


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

    return _openvino_engine(ov.Core().read_model(str(path)), precision)


def openvino_int8(path: Path) -> Engine:
    """OpenVINO on the model that NNCF quantized with random samples; what is not in 8 bits is in float32.

    Raises:
        ImportError: One of them is not installed.
    """
    import nncf
    import openvino as ov

    model = ov.Core().read_model(str(path))
    random = np.random.default_rng(0)
    samples = [
        {
            given.any_name: random.uniform(
                -1.7,
                1.7,
                [SAMPLE_LENGTH if dim.is_dynamic else dim.get_length() for dim in given.partial_shape],
            ).astype(np.float32)
            for given in model.inputs
        }
        for _ in range(SAMPLES)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            model, nncf.Dataset(samples), subset_size=SAMPLES, model_type=nncf.ModelType.TRANSFORMER
        )
    return _openvino_engine(quantized, "f32")


def _openvino_engine(model: Any, precision: str) -> Engine:
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(feeds: Feeds) -> Outputs:
        request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return [np.asarray(tensor.data) for tensor in request.output_tensors]

    return run


PEERS: dict[str, Callable[[Path], Engine]] = {
    "onnxruntime": onnxruntime,
    "onnxruntime int8": onnxruntime_int8,
    "openvino": lambda path: openvino(path, "f32"),
    "openvino bf16": lambda path: openvino(path, "bf16"),
    "openvino int8": openvino_int8,
}
