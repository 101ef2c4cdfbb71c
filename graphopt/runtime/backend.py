"""The engine as a backend of onnx's own test suite: `onnx.backend.base.Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from graphopt.errors import ExecutionError
from graphopt.runtime.session import InferenceSession

__all__ = [
    "EngineBackend",
    "Prepared",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]


class Prepared(BackendRep):
    """A model that is ready to run."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """Outputs for inputs in the model's order."""
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        names = self.session.input_names
        if len(given) > len(names):
            raise ExecutionError(
                f"{len(given)} inputs are given; the model takes {', '.join(names) or 'none'}"
            )
        return tuple(self.session.run(None, dict(zip(names, given, strict=False))))


class EngineBackend(Backend):
    """Runs models on the engine."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:  # noqa: ARG003
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> Prepared:  # noqa: ARG003
        """Compile a model; options are those of InferenceSession."""
        return Prepared(InferenceSession(model, **options))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options: Any
    ) -> tuple[Any, ...]:
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,  # noqa: ARG003
        **options: Any,
    ) -> tuple[Any, ...]:
        """Run one node of the newest opset that the engine knows."""
        from onnx.helper import make_graph, make_model, make_tensor_value_info, np_dtype_to_tensor_dtype

        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        values = [
            make_tensor_value_info(
                name, np_dtype_to_tensor_dtype(np.asarray(array).dtype), np.asarray(array).shape
            )
            for name, array in zip(node.input, given, strict=False)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output]
        model = make_model(make_graph([node], "node", values, results))
        return cls.run_model(model, given, device, **options)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":", maxsplit=1)[0] == "CPU"


is_compatible = EngineBackend.is_compatible
prepare = EngineBackend.prepare
run_model = EngineBackend.run_model
run_node = EngineBackend.run_node
supports_device = EngineBackend.supports_device
