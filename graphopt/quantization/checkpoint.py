"""What an interrupted calibration goes on from: the state of everything it gathers, in one file.

It is written between two samples, whole or not at all, and seldom enough that writing takes a small share of
the time. It names the run that it belongs to, and how many samples are in it with a digest of them: another
model, other values or other samples never go on from it. What goes on gives the same bits as what was never
interrupted.
"""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from graphopt.errors import OutputError, UsageError
from graphopt.ir.replacing import Replacement

__all__ = ["Checkpoint", "Resumable"]

Array = npt.NDArray[np.generic]

# Writing takes no more than so much of the time, and is not done more often than every other second.
_SHARE = 0.05
_SECONDS = 2.0
_VERSION = 1


class Resumable(Protocol):
    """What gathers something from samples."""

    def state(self) -> dict[str, Array]:
        """All that it has gathered."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take what another one had gathered."""


class Checkpoint:
    """The file that an interrupted run goes on from.

    Attributes:
        path: Where it is.
        samples: How many samples are in it.
    """

    def __init__(self, path: str | os.PathLike[str], run: str, *, seconds: float = _SECONDS) -> None:
        """Name the file.

        Args:
            path: The file; it need not exist.
            run: What this run is: a text that another run does not have.
            seconds: It is not written more often.
        """
        self.path = Path(path)
        self.samples = 0
        self._run = run
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._digest = hashlib.sha256()
        self._expected = ""

    def open(self, parts: Sequence[tuple[str, Resumable]]) -> None:
        """Restore what the file has of this run; without a file, or with that of another run, nothing.

        Args:
            parts: What gathers, by names.
        """
        found = self._read(self._identity([name for name, _ in parts]))
        if found is None:
            return
        for i, (_, part) in enumerate(parts):
            prefix = f"{i}/"
            part.restore({k[len(prefix) :]: v for k, v in found.items() if k.startswith(prefix)})
        self.samples = int(found["samples"])
        self._expected = str(found["digest"])

    def is_done(self, number: int, feeds: Mapping[str, Array]) -> bool:
        """Whether the sample with this number, from 0, is in the file already.

        Raises:
            UsageError: The samples are not those that are in it.
        """
        for name in sorted(feeds):
            array = np.ascontiguousarray(feeds[name])
            self._digest.update(f"{name} {array.dtype} {array.shape};".encode())
            self._digest.update(array.tobytes())
        if number + 1 == self.samples and self._digest.hexdigest() != self._expected:
            raise self._other_samples()
        return number < self.samples

    def end(self, number: int) -> None:
        """Make sure, at the end of the samples, that none was missing.

        Raises:
            UsageError: There are fewer samples than the file has.
        """
        if number < self.samples:
            raise self._other_samples()

    def after(self, number: int, parts: Sequence[tuple[str, Resumable]]) -> None:
        """Write the state after so many samples, if it is time.

        Raises:
            OutputError: It can't be written.
        """
        start = time.monotonic()
        if number <= self.samples or start < self._next:
            return
        arrays: dict[str, Array] = {
            "run": np.asarray(self._identity([name for name, _ in parts])),
            "samples": np.asarray(number),
            "digest": np.asarray(self._digest.hexdigest()),
        }
        for i, (_, part) in enumerate(parts):
            arrays.update({f"{i}/{key}": array for key, array in part.state().items()})
        self._write(arrays)
        self.samples, self._expected = number, self._digest.hexdigest()
        now = time.monotonic()
        self._next = now + max(self._seconds, (now - start) / _SHARE)

    def remove(self) -> None:
        """The run has ended."""
        self.path.unlink(missing_ok=True)

    def _identity(self, names: Sequence[str]) -> str:
        text = "\0".join([str(_VERSION), self._run, *names])
        return hashlib.sha256(text.encode()).hexdigest()

    def _read(self, identity: str) -> dict[str, Array] | None:
        try:
            with np.load(self.path, allow_pickle=False) as content:
                if str(content["run"]) != identity:
                    return None
                return {name: content[name] for name in content.files}
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
            return None

    def _write(self, arrays: dict[str, Array]) -> None:
        try:
            with Replacement() as replacement:
                with os.fdopen(os.dup(replacement.create(str(self.path))), "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                replacement.commit()
        except OSError as error:
            raise OutputError(f"{self.path}: can't be written: {error.strerror or error}") from error

    def _other_samples(self) -> UsageError:
        return UsageError(
            f"{self.path} is of a run over other samples", hint="give these samples, or start over (--fresh)"
        )
