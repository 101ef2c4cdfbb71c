"""Answers in an .npz file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphopt.errors import OutputError
from graphopt.runtime.arrays import Array, Result

__all__ = ["write_answers"]


def write_answers(answers: Mapping[str, Result], path: Path) -> None:
    """Write answers by name; items of a sequence as `name.0`, `name.1`, an empty optional not at all.

    Types that numpy's format does not have become float32 or int32, which hold them exactly; texts become
    fixed-length unicode.

    Raises:
        OutputError: The file can't be written; nothing half-written remains.
    """
    from graphopt.ir.replacing import Replacement

    arrays: dict[str, Array] = {}
    for name, value in answers.items():
        _collect(name, value, arrays)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    try:
        with Replacement() as files:
            with open(files.create(str(path)), "wb", closefd=False) as file:
                file.write(content.getbuffer())
            files.commit()
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from error


def _collect(name: str, value: Result, arrays: dict[str, Array]) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            _collect(f"{name}.{i}", item, arrays)
    elif value is not None:
        arrays[name] = _storable(value)


def _storable(array: Array) -> Array:
    if array.dtype.kind == "O":
        return array.astype(np.str_)
    if array.dtype.isbuiltin == 1:
        return array
    is_integer = array.dtype.name.startswith(("int", "uint"))
    return array.astype(np.int32 if is_integer else np.float32)
