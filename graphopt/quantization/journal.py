"""What an interrupted search goes on from: every result as it came, a line each, in one file.

A result belongs to a run, which is named in the first line: another model, table, target or other samples
begin a new file. A line that was cut off by the interruption is passed over. What goes on from it gives the
same bits as what was never interrupted, since results are pure functions of what they are kept under.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from graphopt.errors import OutputError

__all__ = ["Journal"]

_VERSION = 1
Entry = dict[str, object]


class Journal:
    """The file of one run."""

    def __init__(self, path: str | os.PathLike[str], run: str) -> None:
        """Name the file.

        Args:
            path: The file; it need not exist.
            run: What this run is: a text that another run does not have.
        """
        self.path = Path(path)
        self._run = run
        self._found: dict[str, Entry] = {}
        self._head = ""

    def open(self, what: str) -> None:
        """Read what there is of this run.

        Args:
            what: What results depend on besides the run.
        """
        self._head = hashlib.sha256(f"{_VERSION}\0{self._run}\0{what}".encode()).hexdigest()
        head, *entries = self._lines() or [("", {})]
        if head == ("run", {"digest": self._head}):
            self._found = dict(entries)
        else:
            self._found = {}
            self._write("w", "run", {"digest": self._head})

    def _lines(self) -> list[tuple[str, Entry]]:
        """All that are whole."""
        try:
            text = self.path.read_text("utf-8")
        except (OSError, ValueError):
            return []
        found: list[tuple[str, Entry]] = []
        for line in text.splitlines():
            try:
                key, entry = json.loads(line)
            except (ValueError, TypeError):
                continue
            found.append((key, entry))
        if text and not text.endswith("\n"):
            # What was cut off stays on a line of its own.
            self._put("a", "\n")
        return found

    def find(self, key: str) -> Entry | None:
        """A result; None: it is not there yet."""
        return self._found.get(key)

    def add(self, key: str, entry: Entry) -> None:
        """Keep a result.

        Raises:
            OutputError: It can't be written.
        """
        self._found[key] = entry
        self._write("a", key, entry)

    def remove(self) -> None:
        """The run has ended."""
        self.path.unlink(missing_ok=True)

    def _write(self, mode: Literal["a", "w"], key: str, entry: Entry) -> None:
        self._put(mode, f"{json.dumps([key, entry])}\n")

    def _put(self, mode: Literal["a", "w"], text: str) -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OutputError(f"{self.path}: can't be written: {error.strerror or error}") from error
