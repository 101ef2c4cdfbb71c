"""Inputs to measure a model on: given, or sampled from its signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ExecutionError, UsageError
from graphopt.runtime.arrays import Result
from graphopt.runtime.compiled_file import is_compiled_file

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.runtime.session import InferenceSession

__all__ = ["sampled_feeds"]

SECONDS = 5.0
SEED = 0

Feeds = dict[str, Result]


def sampled_feeds(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    session: InferenceSession,
) -> Feeds:
    """Random inputs of a model, as its graph uses them: indices within range, masks of zeros and ones.

    Args:
        path: The model, compiled or not.
        shapes: Shapes by input.
        sizes: Sizes by name of a dynamic dim. Where neither says a size, sizes that the model accepts are
            looked for, and the largest found are taken.
        session: What tries them.

    Raises:
        UsageError: A shape does not fit, or no sizes were found that the model accepts.
    """
    if is_compiled_file(path):
        return _of_signature(session, shapes, sizes)
    from graphopt.ir.load import load

    return _of_model(load(path, oldest_opset=1), shapes, sizes, session)


def _of_model(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    session: InferenceSession,
) -> Feeds:
    from graphopt.verification.flow import Flow
    from graphopt.verification.judge import Feeds as Given
    from graphopt.verification.judge import JudgeError
    from graphopt.verification.roles import role_of
    from graphopt.verification.sampling import find_samples
    from graphopt.verification.signature import inputs_of
    from graphopt.verification.values import sample_value

    inputs = inputs_of(model)
    known = _sizes({i.name: i.dims for i in inputs}, shapes, sizes)
    if all(symbol in known for i in inputs for symbol in i.symbols):
        flow, rng = Flow(model), np.random.default_rng(SEED)
        values = {v.name: v for v in model.graph.inputs}
        return {i.name: sample_value(i, role_of(values[i.name], flow), known, 0, rng) for i in inputs}
    if known:
        symbol, name = next((s, i.name) for i in inputs for s in i.symbols if s not in known)
        raise UsageError(f"dim {symbol!r} of input {name!r} has no size", hint=f"give --size {symbol}=N")

    def run(feeds: Given) -> list[Result]:
        try:
            return session.run(None, feeds)
        except ExecutionError as error:
            raise JudgeError("graphopt", error) from error

    found = find_samples(model, run, seconds=SECONDS, seed=SEED).found
    if not found:
        raise UsageError("no sizes were found that the model accepts", hint="give --shape or --input")
    return dict(max(found, key=lambda sample: sample.elements).feeds)


def _of_signature(
    session: InferenceSession, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> Feeds:
    """Of a compiled model nothing is known but its signature: floats around zero, integers 0 and 1."""
    from graphopt.runtime.arrays import DTYPES

    rng = np.random.default_rng(SEED)
    feeds: Feeds = {}
    inputs = session.get_inputs()
    known = _sizes({arg.name: arg.dims for arg in inputs}, shapes, sizes)
    for arg in inputs:
        if arg.dtype not in DTYPES or arg.dims is None:
            raise UsageError(f"input {arg.name!r} is {arg}: it can't be made up", hint="give --input")
        dims = [
            d if isinstance(d, int) else known.get(d or f"{arg.name}[{i}]") for i, d in enumerate(arg.dims)
        ]
        shape = [size for size in dims if size is not None]
        if len(shape) < len(dims):
            raise UsageError(f"input {arg.name!r} is {arg}", hint=f"give --shape {arg.name}=...")
        dtype = DTYPES[arg.dtype]
        is_float = np.issubdtype(dtype, np.inexact) or dtype.kind == "V"
        feeds[arg.name] = (rng.standard_normal(shape) if is_float else rng.integers(0, 2, shape)).astype(
            dtype
        )
    return feeds


def _sizes(
    inputs: Mapping[str, tuple[int | str | None, ...] | None],
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
) -> dict[str, int]:
    """Sizes of dynamic dims by name, or "input[axis]"."""
    known = dict(sizes)
    for name, shape in shapes.items():
        if name not in inputs:
            raise UsageError(f"there is no input {name!r}", hint=f"the model takes {', '.join(inputs)}")
        dims = inputs[name]
        if dims is None:
            known |= {f"{name}[{i}]": size for i, size in enumerate(shape)}
            continue
        if len(dims) != len(shape):
            raise UsageError(f"input {name!r} has {len(dims)} dims, {len(shape)} are given")
        for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
            wanted = dim if isinstance(dim, int) else known.setdefault(dim or f"{name}[{axis}]", size)
            if wanted != size:
                raise UsageError(f"dim {axis} of input {name!r} is {wanted}, {size} is given")
    return known
