"""Engines that a model can be measured on, ours among them, behind one face."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path

import numpy as np

from graphopt.errors import ModelError, UsageError
from graphopt.runtime.arrays import Result
from graphopt.runtime.settings import Settings

__all__ = ["PEERS", "imported", "opened", "version_of"]

Feeds = Mapping[str, Result]
Run = Callable[[], list[Result]]

# What an engine is installed and imported as.
PACKAGES = {
    "graphopt": ("graphopt", "graphopt.runtime"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "mnn": ("MNN", "MNN"),
}
PEERS = tuple(name for name in PACKAGES if name != "graphopt")


def imported(engine: str) -> None:
    """Import an engine.

    Raises:
        UsageError: It is not installed.
    """
    package, module = PACKAGES[engine]
    try:
        import_module(module)
    except ImportError as error:
        raise UsageError(f"{engine} is not installed", hint=f"pip install {package}") from error


def version_of(engine: str) -> str:
    """The version that is installed."""
    return metadata.version(PACKAGES[engine][0])


def opened(engine: str, path: Path, feeds: Feeds, settings: Settings) -> Run:
    """A function that runs the model on these inputs.

    Raises:
        ModelError: The engine can't take the model or the inputs.
        UsageError: It is not installed.
    """
    imported(engine)
    open_ = {"graphopt": _graphopt, "onnxruntime": _onnxruntime, "openvino": _openvino, "mnn": _mnn}[engine]
    try:
        return open_(path, feeds, settings)
    except (ModelError, UsageError):
        raise
    except Exception as error:
        raise ModelError(f"{type(error).__name__}: {str(error)[:300]}") from error


def _graphopt(path: Path, feeds: Feeds, settings: Settings) -> Run:
    session = settings.session(path)
    return lambda: session.run(None, feeds)


def _onnxruntime(path: Path, feeds: Feeds, settings: Settings) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run() -> list[Result]:
        results: list[Result] = session.run(None, feeds)
        return results

    return run


def _openvino(path: Path, feeds: Feeds, settings: Settings) -> Run:
    openvino = import_module("openvino")
    hints = {"f32": "f32", "f16": "f32", "bf16": "bf16", "int8": "f32"}
    config = {
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": hints[settings.precision],
    }
    request = openvino.Core().compile_model(os.fspath(path), "CPU", config).create_infer_request()
    outputs = request.model_outputs

    def run() -> list[Result]:
        request.infer(feeds, share_inputs=True, share_outputs=True)
        return [np.asarray(request.get_tensor(output).data) for output in outputs]

    return run


def _mnn(path: Path, feeds: Feeds, settings: Settings) -> Run:
    import onnx

    MNN = import_module("MNN")  # noqa: N806 (its name)
    graph = onnx.load(os.fspath(path), load_external_data=False).graph
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.mnn"
        command = [
            "mnnconvert",
            "-f",
            "ONNX",
            "--modelFile",
            os.fspath(path),
            "--MNNModel",
            os.fspath(converted),
        ]
        done = subprocess.run(  # noqa: S603 (the peer's own converter)
            [*command, "--bizCode", "bench"], capture_output=True, text=True, check=False
        )
        if not converted.exists():
            raise ModelError(f"mnn can't convert {path.name}: {(done.stderr or done.stdout).strip()[-200:]}")
        config = {"precision": "low" if settings.precision == "bf16" else "high", "backend": 0}
        config |= {"numThread": settings.threads}
        runtime = MNN.nn.create_runtime_manager((config,))
        names = [v.name for v in graph.output]
        module = MNN.nn.load_module_from_file(
            os.fspath(converted), list(feeds), names, runtime_manager=runtime
        )
    kinds = {np.dtype(np.float32): MNN.numpy.float32, np.dtype(np.int32): MNN.numpy.int32}
    given = []
    for value in feeds.values():
        array = np.asarray(value)
        # It has no integers of 64 bits.
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
        given.append(MNN.expr.const(array, list(array.shape), MNN.expr.NCHW, kinds[array.dtype]))

    def run() -> list[Result]:
        return [np.array(output.read()) for output in module.onForward(given)]

    return run
