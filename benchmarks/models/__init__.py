"""Builders of real architectures as ONNX: deterministic weights, no training framework."""
