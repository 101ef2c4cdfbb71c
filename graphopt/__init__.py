"""graphopt: an ONNX graph compiler whose output can be trusted without looking at it."""

__version__ = "0.1.0"
