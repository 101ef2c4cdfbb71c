"""Samples that the user gives: `.npz` files whose keys are the names of the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir.array_files import read_arrays
from graphopt.verification.compare import Answer
from graphopt.verification.judge import Feeds
from graphopt.verification.signature import Input

Data: TypeAlias = "Path | str | Mapping[str, Answer] | Sequence[Mapping[str, Answer]]"


@dataclass(frozen=True, slots=True)
class GivenSample:
    """The inputs of one run and where they came from."""

    feeds: Feeds
    source: str

    @property
    def sizes(self) -> dict[str, int]:
        """Its dims under plain names, for the report."""
        return {
            f"{name}[{axis}]": int(size)
            for name, array in self.feeds.items()
            if isinstance(array, np.ndarray)
            for axis, size in enumerate(array.shape)
        }


def given_samples(data: Data, inputs: Sequence[Input]) -> list[GivenSample]:
    """Read samples from a file, a folder of files, or memory.

    Raises:
        UsageError: Nothing there, not an .npz file, or its keys are not the inputs' names.
    """
    if isinstance(data, Mapping):
        found = [GivenSample(data, "data")]
    elif isinstance(data, (str, Path)):
        found = [GivenSample(read_arrays(path), path.name) for path in _files(Path(data))]
    else:
        found = [GivenSample(feeds, f"data[{i}]") for i, feeds in enumerate(data)]
    names = {i.name for i in inputs}
    optional = {i.name for i in inputs if i.container == "optional"}
    for sample in found:
        missing, extra = sorted(names - optional - set(sample.feeds)), sorted(set(sample.feeds) - names)
        if missing or extra:
            wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(extra)}, which is no input"
            raise UsageError(
                f"{sample.source}: {wrong}",
                hint=f"its keys must be the model's inputs: {', '.join(sorted(names))}",
            )
    return [GivenSample({i.name: _plain(s.feeds.get(i.name)) for i in inputs}, s.source) for s in found]


def _plain(value: Answer) -> Answer:
    """Numbers of numpy as arrays of rank 0, which engines ask for."""
    return value if value is None or isinstance(value, list) else np.asarray(value)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files or not all(f.is_file() for f in files):
        raise UsageError(f"{path}: no samples there", hint="give an .npz file or a folder of them")
    return files
