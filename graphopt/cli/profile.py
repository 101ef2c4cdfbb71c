"""`graphopt profile`: where the time of a model goes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about
from graphopt.cli.parameters import Shape
from graphopt.cli.sessions import feeds_of, input_options, session_options


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@input_options
@session_options
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True, metavar="N")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--verbose", is_flag=True, help="Print every row.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    model: Path,
    input_path: Path | None,
    shapes: tuple[tuple[str, Shape], ...],
    sizes: tuple[tuple[str, int], ...],
    threads: int,
    precision: str,
    optimize: bool,
    runs: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Measure each instruction of MODEL: time, bytes, GB/s and GFLOP/s, by ONNX node and summed by kernel."""
    from graphopt.runtime.measuring import measure
    from graphopt.runtime.settings import Settings

    settings = Settings(threads, precision, optimize)  # type: ignore[arg-type]
    with about(str(model)):
        found = measure(
            model, settings, lambda session: feeds_of(model, session, input_path, shapes, sizes), runs
        )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif not quiet:
        from graphopt.reporting.performance import print_profile

        print_profile(found, verbose=verbose)
