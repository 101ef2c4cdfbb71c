"""graphopt's own engine: compile a model once, run it many times."""

from graphopt.runtime.session import InferenceSession

__all__ = ["InferenceSession"]
