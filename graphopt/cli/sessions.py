"""Options of the commands that run a model, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from graphopt.cli.parameters import Shape, ShapeType, SizeType

if TYPE_CHECKING:
    from graphopt.runtime.arrays import Result
    from graphopt.runtime.session import InferenceSession

Command = TypeVar("Command", bound=Callable[..., object])

PRECISIONS = ("f32", "f16", "bf16", "int8")


def session_options(command: Command) -> Command:
    """`--threads`, `--precision`, `--optimize/--no-optimize`."""
    for option in reversed(
        (
            click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, metavar="N"),
            click.option(
                "--precision",
                type=click.Choice(PRECISIONS),
                default="f32",
                show_default=True,
                help="f16: weights are stored so; bf16: dot products of it; int8: dynamic, row by row.",
            ),
            click.option(
                "--optimize/--no-optimize",
                default=True,
                show_default=True,
                help="Run graphopt's passes first.",
            ),
        )
    ):
        command = option(command)
    return command


def input_options(command: Command) -> Command:
    """`--input`, or `--shape` and `--size` of random inputs."""
    for option in reversed(
        (
            click.option(
                "--input",
                "input_path",
                type=click.Path(path_type=Path),
                metavar="X.NPZ",
                help="Arrays by the names of the inputs [random ones].",
            ),
            click.option(
                "--shape",
                "shapes",
                type=ShapeType(),
                multiple=True,
                help="Of a random input; can be repeated.",
            ),
            click.option(
                "--size", "sizes", type=SizeType(), multiple=True, help="Of a dynamic dim of random inputs."
            ),
        )
    ):
        command = option(command)
    return command


def feeds_of(
    model: Path,
    session: InferenceSession,
    input_path: Path | None,
    shapes: tuple[tuple[str, Shape], ...],
    sizes: tuple[tuple[str, int], ...],
) -> dict[str, Result]:
    """The inputs that the options say.

    Raises:
        UsageError: They do not fit together, or the model.
    """
    from graphopt.errors import UsageError
    from graphopt.ir.array_files import read_arrays
    from graphopt.runtime.feeds import sampled_feeds

    if input_path is None:
        return sampled_feeds(model, dict(shapes), dict(sizes), session)
    if shapes or sizes:
        raise UsageError("--input says the shapes", hint="leave out --shape and --size")
    return {**read_arrays(input_path)}
