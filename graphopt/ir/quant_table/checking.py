"""The JSON Schema of quant tables, and one line on what does not meet it."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import cast

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json

__all__ = ["check", "schema"]


# What is wrong may be a list of thousands of numbers.
_LONGEST_MESSAGE = 160


@cache
def schema() -> dict[str, Json]:
    """The JSON Schema of tables."""
    text = files("graphopt.ir").joinpath("quant_table.schema.json").read_text(encoding="utf-8")
    return cast(dict[str, Json], json.loads(text))


def check(found: Json, target: str) -> None:
    """Raise where the schema is not met; the first fault in the order of the file.

    Raises:
        UsageError: It names the file and the entry.
    """
    import jsonschema

    error = next(jsonschema.Draft202012Validator(schema()).iter_errors(found), None)
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the table"
        message = error.message
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[: _LONGEST_MESSAGE // 2]} ... {message[-_LONGEST_MESSAGE // 2 :]}"
        raise UsageError(f"{target}: {where}: {message}")
