"""`graphopt run`: a model's answers, by our own engine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about
from graphopt.cli.parameters import Shape
from graphopt.cli.sessions import feeds_of, input_options, session_options


@click.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@input_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="Y.NPZ", help="Where the answers go."
)
@session_options
@click.option(
    "--memory-limit", type=click.IntRange(min=0), default=0, metavar="BYTES", help="Of values [none]."
)
@click.option(
    "--iteration-limit", type=click.IntRange(min=0), default=0, metavar="N", help="Of any one loop [none]."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    model: Path,
    input_path: Path | None,
    shapes: tuple[tuple[str, Shape], ...],
    sizes: tuple[tuple[str, int], ...],
    output: Path | None,
    threads: int,
    precision: str,
    optimize: bool,
    memory_limit: int,
    iteration_limit: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run MODEL (.onnx, or compiled: .gopt) once, and write or summarize its answers.

    Inputs are read from an .npz file; without one they are random, as `graphopt bench` makes them.
    """
    from graphopt.runtime.options import RunOptions
    from graphopt.runtime.settings import Settings

    with about(str(model)):
        session = Settings(threads, precision, optimize).session(model)  # type: ignore[arg-type]
        feeds = feeds_of(model, session, input_path, shapes, sizes)
        results = session.run(None, feeds, RunOptions(memory_limit, iteration_limit))
    answers = dict(zip(session.output_names, results, strict=True))
    if output is not None:
        from graphopt.runtime.answers import write_answers

        write_answers(answers, output)
    from graphopt.reporting.performance import answer_to_dict, print_answers

    if as_json:
        shown = {name: answer_to_dict(value) for name, value in answers.items()}
        click.echo(json.dumps({"model": str(model), "outputs": shown}, indent=2, ensure_ascii=False))
    elif not quiet:
        print_answers(answers)
        if output is not None:
            click.echo(f"written to {output}")
