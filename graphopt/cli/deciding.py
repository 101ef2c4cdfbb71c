"""Options of `graphopt quantize` that say what the result must keep to, and what is written of the search."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from graphopt.cli.failures import report

if TYPE_CHECKING:
    from graphopt.quantization.deciding import Deciding
    from graphopt.quantization.search import Search
    from graphopt.quantizer import Quantized

Command = TypeVar("Command", bound=Callable[..., object])

# What was asked for is out of reach; the best point was written.
OUT_OF_REACH = 7

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", re.IGNORECASE)


class BytesType(click.ParamType[int]):
    """`10M`, `9.5MB`, `512KiB`, or a number of bytes."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size: write 10M, 9.5MB, 512KiB or a number of bytes", param, ctx)
        number, letter, binary = found.groups()
        power = " kmg".index(letter.lower() or " ")
        size = int(float(number) * (1024 if binary else 1000) ** power)
        if size < 1:
            self.fail(f"{value!r} is no size of a model", param, ctx)
        return size


_OPTIONS = (
    click.option(
        "--max-loss", type=float, help="Lose at most so much by --metric, samples against the float model."
    ),
    click.option(
        "--metric",
        type=click.Choice(["kl", "sqnr", "agreement"]),
        help="Of --max-loss: mean divergence of a step (kl), decibels to keep (sqnr), or the share of "
        "samples that may be decided otherwise (agreement) [kl].",
    ),
    click.option("--max-size", type=BytesType(), help="At most so many bytes on disk: 10M, 9.5MB, 512KiB."),
    click.option("--max-fallbacks", type=int, help="At most so many operators compute floats that need not."),
    click.option("--knee", is_flag=True, help="Take the point where losing less begins to cost more."),
    click.option(
        "--pareto",
        is_flag=True,
        help="Measure the whole front; write every point's table and a plot to OUTPUT.pareto/.",
    ),
    click.option(
        "--bits",
        type=click.Choice(["8", "7", "4"]),
        default="8",
        show_default=True,
        help="Of weights, at least: 7 for kernels that add pairs in 16 bits, 4 in blocks where they may be.",
    ),
    click.option("--search/--no-search", default=True, help="Search, or quantize all that may be.  [search]"),
    click.option("--workers", type=int, default=1, show_default=True, help="Processes that measure."),
    click.option("--dask", help="Address of a Dask scheduler whose workers measure: tcp://host:8786."),
)


def options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def deciding_of(given: dict[str, object], *, has_data: bool) -> Deciding | None:
    """How to decide, from the options; None: not at all.

    Raises:
        click.UsageError: Options that contradict each other.
    """
    limits = ("max_loss", "max_size", "max_fallbacks", "knee", "pareto")
    asked = [name for name in limits if given[name] not in (None, False)]
    if not has_data:
        asked += ["dask"] if given["dask"] else []
        if asked:
            raise click.UsageError(
                f"--{asked[0].replace('_', '-')} needs samples (--data), and no --weights-only"
            )
        return None
    if not given["search"]:
        if asked:
            raise click.UsageError(f"--{asked[0].replace('_', '-')} needs the search")
        return None
    if given["metric"] is not None and given["max_loss"] is None:
        raise click.UsageError("--metric says what --max-loss is; give both")
    from graphopt.errors import UsageError
    from graphopt.quantization.deciding import Deciding
    from graphopt.quantization.limits import Limits

    found = Limits(
        max_loss=_as(float, given["max_loss"]),
        metric=given["metric"] or "kl",  # type: ignore[arg-type]
        max_size=_as(int, given["max_size"]),
        max_fallbacks=_as(int, given["max_fallbacks"]),
        knee=bool(given["knee"]),
    )
    workers = _as(int, given["workers"]) or 0
    try:
        found.check()
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    if workers < 1:
        raise click.UsageError(f"--workers must be 1 or more, not {given['workers']}")
    return Deciding(
        found,
        int(str(given["bits"])),  # type: ignore[arg-type]
        whole_front=bool(given["pareto"]),
        workers=workers,
        dask=None if given["dask"] is None else str(given["dask"]),
    )


Number = TypeVar("Number", int, float)


def _as(kind: type[Number], given: object) -> Number | None:
    return given if isinstance(given, kind) else None


def write_front(search: Search, destination: Path) -> Path:
    """Every point's table, all of them as JSON, and a plot, in a folder beside the output.

    Raises:
        OutputError: It can't be written.
    """
    import json

    from graphopt.errors import OutputError
    from graphopt.ir import quant_table
    from graphopt.quantization.summary import summary_of

    folder = destination.with_name(f"{destination.stem}.pareto")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(len(search.points)):
            quant_table.write(search.tables(i), folder / f"{i:02}.json")
        found = summary_of(search)
        (folder / "front.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        if not _plotted(search, folder / "front.svg"):
            report("front.svg was not drawn: matplotlib is missing; pip install 'graphopt[plots]'")
    except OSError as error:
        raise OutputError(f"{folder}: can't be written: {error.strerror or error}") from error
    return folder


def _plotted(search: Search, path: Path) -> bool:
    from graphopt.quantization.plots import plot_front

    try:
        plot_front(search, path)
    except ImportError:
        return False
    return True


def exit_code_of(result: Quantized) -> int:
    """0, or the code for a limit that is out of reach, which is said."""
    search = result.search
    if search is None or search.is_reached:
        return 0
    report(f"out of reach: {search.limits}; the best point was written")
    return OUT_OF_REACH
