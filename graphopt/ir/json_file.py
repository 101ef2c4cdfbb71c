"""JSON that people write or edit: what is no JSON, or loses something when it is read, is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError

__all__ = ["Json", "read_json"]

Json = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def read_json(path: str | os.PathLike[str], *, missing: str = "can't be read") -> Any:
    """Read a file of JSON.

    Args:
        path: The file.
        missing: What the error says where there is none.

    Raises:
        UsageError: It can't be read, is not JSON, names one thing twice, or holds NaN or an infinity.
    """
    target = os.fspath(path)
    try:
        text = Path(target).read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except OSError as error:
        raise UsageError(f"{target}: {missing}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{target}: not JSON: {error}") from error


def _once(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    """An object; of two entries of one name the first would be lost without a word."""
    found: dict[str, Json] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands there twice")
        found[name] = value
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
