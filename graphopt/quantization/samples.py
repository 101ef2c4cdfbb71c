"""Inputs to calibrate on: an .npz file, a folder of .npz or .npy files, or any iterable of feeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.array_files import read_arrays
from graphopt.verification.signature import Input, inputs_of

__all__ = ["count_of", "samples_of"]

Array = npt.NDArray[np.generic]
Samples = Path | str | Iterable[Mapping[str, Array]]


def samples_of(data: Samples, model: ir.Model) -> Iterator[dict[str, Array]]:
    """Read samples one by one and check each against the model's inputs.

    Raises:
        UsageError: No samples; or one that has other names, types, ranks or fixed dims than the inputs, or
            NaN or infinities in it.
    """
    inputs = inputs_of(model)
    count = 0
    for source, feeds in _read_all(data, inputs):
        yield _checked(source, feeds, inputs)
        count += 1
    if not count:
        raise UsageError(f"{data if isinstance(data, str | Path) else 'data'}: no samples there")


def count_of(data: Samples) -> int | None:
    """How many samples there are; None where only reading them would tell."""
    if isinstance(data, str | Path):
        return len(_files(Path(data)))
    return len(data) if isinstance(data, Sized) else None


def _read_all(data: Samples, inputs: tuple[Input, ...]) -> Iterator[tuple[str, Mapping[str, Array]]]:
    if isinstance(data, str | Path):
        names = [i.name for i in inputs]
        for file in _files(Path(data)):
            yield file.name, read_arrays(file, names)
        return
    if isinstance(data, Mapping):
        raise UsageError("data is one sample, and samples are asked for", hint="put it in a list")
    for i, feeds in enumerate(data):
        if not isinstance(feeds, Mapping):
            raise UsageError(
                f"data[{i}]: a sample has an array for each input's name, this is a {type(feeds).__name__}"
            )
        yield f"data[{i}]", feeds


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.iterdir() if f.suffix in (".npz", ".npy"))


def _checked(source: str, feeds: Mapping[str, Array], inputs: tuple[Input, ...]) -> dict[str, Array]:
    names = {i.name for i in inputs}
    missing, extra = sorted(names - set(feeds)), sorted(set(feeds) - names)
    if missing or extra:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(extra)}, which is no input"
        raise UsageError(
            f"{source}: {wrong}", hint=f"its keys must be the model's inputs: {', '.join(sorted(names))}"
        )
    found: dict[str, Array] = {}
    for expected in inputs:
        array = np.asarray(feeds[expected.name])
        if array.dtype != expected.dtype.numpy():
            raise UsageError(
                f"{source}: {expected.name} is {array.dtype}, the model takes {expected.dtype.numpy()}"
            )
        dims = expected.dims
        if dims is not None and (
            len(dims) != array.ndim
            or any(isinstance(d, int) and d != n for d, n in zip(dims, array.shape, strict=True))
        ):
            raise UsageError(
                f"{source}: {expected.name} is {list(array.shape)}, the model takes {list(dims)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"{source}: {expected.name} has NaN or infinities in it")
        found[expected.name] = array
    return found
