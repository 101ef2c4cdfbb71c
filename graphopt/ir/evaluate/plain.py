"""onnxruntime as a judge: it computes what is written, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["plain_options", "plain_session"]


def plain_options() -> onnxruntime.SessionOptions:
    """Options of a session without optimizations, on one thread, that says nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def plain_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session with these options, on the CPU."""
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), plain_options(), providers=providers)
