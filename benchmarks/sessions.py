"""Sessions of onnxruntime to measure and to compare with."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort


def session(
    model: Path | onnx.ModelProto, level: str = "ORT_ENABLE_ALL", threads: int = 1
) -> ort.InferenceSession:
    """A session on the CPU.

    Args:
        model: Its file, or itself.
        level: Name of the level of optimization.
        threads: How many run one operator.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
