"""What can go wrong, one class a reason; the command line turns each into its exit code.

A message is one line: what, where (node, operator, value), what to do.
"""

from __future__ import annotations


class GraphoptError(Exception):
    """Base of every error that graphopt raises on purpose.

    Attributes:
        node: Name of the node concerned, where there is one.
        value: Name of the value concerned, where there is one.
        hint: What the user can do about it, where there is something.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, node: str | None = None, value: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.node = node
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        text = " ".join(super().__str__().split())
        return f"{text}; {self.hint}" if self.hint else text


class UsageError(GraphoptError):
    """The call itself is wrong: an unknown pass, a bad option, a folder in without a folder out."""

    exit_code = 2


class ModelError(GraphoptError):
    """The input can't be taken: missing, not a model, invalid, unsupported."""

    exit_code = 3


class MismatchError(GraphoptError):
    """The original fails on every sample given, or the result could not be made equal."""

    exit_code = 4


class OutputError(GraphoptError):
    """The output could not be written; nothing half-written remains."""

    exit_code = 5


class ExecutionError(ModelError):
    """The engine can't run the model on these inputs: names, types, sizes, indices, limits."""
