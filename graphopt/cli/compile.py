"""`graphopt compile`: a model as a file that the engine opens without knowing ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about
from graphopt.cli.sessions import PRECISIONS


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the result goes [model.gopt].")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="f32",
    show_default=True,
    help="f16: weights are stored so; bf16: dot products of it; int8: dynamic, row by row.",
)
@click.option(
    "--optimize/--no-optimize", default=True, show_default=True, help="Run graphopt's passes first."
)
@click.option(
    "--keep",
    multiple=True,
    metavar="VALUE",
    help="A value that taps can be told of; of a body: node:body/value.",
)
@click.option("--portable", is_flag=True, help="Pack the weights when it is opened: for any instruction set.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    model: Path,
    output: Path | None,
    precision: str,
    optimize: bool,
    keep: tuple[str, ...],
    portable: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compile MODEL for this machine's instruction set: packed weights, mapped when it is opened."""
    from graphopt.errors import UsageError
    from graphopt.runtime.compilation import compiled, program_of
    from graphopt.runtime.compiled_file import write_compiled

    target = output or model.with_suffix(".gopt")
    if target.resolve() == model.resolve():
        raise UsageError(f"{str(target)!r} is the model itself", hint="give another file to -o")
    with about(str(model)):
        program = program_of(model, precision=precision, optimize=optimize, keep=keep)  # type: ignore[arg-type]
        size = write_compiled(compiled(program), target, is_portable=portable)
    fallbacks = sorted({operator for operator, _ in program.fallbacks})
    if as_json:
        facts = {"model": str(model), "output": str(target), "bytes": size, "reference_operators": fallbacks}
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    elif not quiet:
        from graphopt.reporting.console import bytes_text

        if fallbacks:
            click.echo(f"run by the reference implementation: {', '.join(fallbacks)}")
        click.echo(f"written to {target} ({bytes_text(size)})")
