"""Samples that come only once, kept on disk so that every stage can go over them."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Spool", "repeatable"]

Array = npt.NDArray[np.generic]
Feeds = Mapping[str, Array]


class Spool:
    """Samples of an iterator, to be gone over again and again, none of them held in memory.

    Each goes to a file when it is first asked for; an iteration that ends early asks for no more. The files
    are gone when the spool is, at the latest with the process.
    """

    def __init__(self, source: Iterator[Feeds]) -> None:
        self._source = source
        self._folder = Path(tempfile.mkdtemp(prefix="graphopt-samples-"))
        self._count = 0
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def __iter__(self) -> Iterator[Feeds]:
        number = 0
        while True:
            path = self._folder / str(number)
            if number < self._count:
                yield pickle.loads(path.read_bytes())  # noqa: S301 (written below, in a folder of its own)
            else:
                try:
                    feeds = dict(next(self._source))
                except StopIteration:
                    return
                path.write_bytes(pickle.dumps(feeds, pickle.HIGHEST_PROTOCOL))
                self._count += 1
                yield feeds
            number += 1


def repeatable(data: Path | str | Iterable[Feeds]) -> Path | str | Iterable[Feeds]:
    """The same data; what can be gone over only once, as generators, is kept on disk as it comes."""
    return Spool(data) if isinstance(data, Iterator) else data
