"""graphopt's own engine: compile a model once, run it many times."""

from graphopt.runtime.binding import IOBinding
from graphopt.runtime.options import RunOptions
from graphopt.runtime.session import InferenceSession
from graphopt.runtime.signature import NodeArg

__all__ = ["IOBinding", "InferenceSession", "NodeArg", "RunOptions"]
