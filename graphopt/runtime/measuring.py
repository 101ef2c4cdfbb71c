"""The profile of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from graphopt.runtime.arrays import Result
from graphopt.runtime.compiled_file import is_compiled_file
from graphopt.runtime.profile import Profile, flops_by_node, profiled
from graphopt.runtime.session import InferenceSession
from graphopt.runtime.settings import Settings

__all__ = ["measure"]


def measure(
    path: Path, settings: Settings, feeds_for: Callable[[InferenceSession], dict[str, Result]], runs: int
) -> Profile:
    """Profile a model.

    Args:
        path: The model; of a compiled one FLOPs are not known.
        settings: Of the session.
        feeds_for: Its inputs, once there is a session that can try some.
        runs: How many are measured.
    """
    if is_compiled_file(path):
        session = settings.session(path)
        return profiled(session.times(feeds_for(session), runs), runs, {})
    from graphopt.runtime.compilation import optimized_model

    model = optimized_model(path, optimize=settings.optimize)
    session = InferenceSession(model, threads=settings.threads, precision=settings.precision, optimize=False)
    feeds = feeds_for(session)
    return profiled(session.times(feeds, runs), runs, flops_by_node(model, feeds))
