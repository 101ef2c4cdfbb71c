"""Every contents of named values while samples run through a model, those of bodies in every iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.runtime import InferenceSession

__all__ = ["collect"]

Array = npt.NDArray[np.generic]
See = Callable[[str, Array], None]


def collect(
    model: ir.Model,
    names: Sequence[str],
    samples: Iterable[Mapping[str, Array]],
    see: See,
    after: Callable[[int], None] | None = None,
) -> int:
    """Run samples and show what they make of values; returns how many ran.

    Args:
        model: The model; it stays as it is.
        names: Scoped names of values, `loop_node:body/value` for those of bodies.
        samples: Inputs by name.
        see: Called with a name and an array, which is valid during the call.
        after: Called with the number of samples done, after each.

    Raises:
        ExecutionError: A sample does not fit the model.
    """
    session = InferenceSession(model, optimize=False, keep=names)

    def tap(name: str, _: tuple[int, ...], value: object) -> None:
        if isinstance(value, np.ndarray):
            see(name, value)

    count = 0
    for feeds in samples:
        session.run(None, feeds, tap=tap)
        count += 1
        if after is not None:
            after(count)
    return count
