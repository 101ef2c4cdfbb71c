"""`graphopt inspect`: what a model takes, gives and holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--program", is_flag=True, help="Print the instructions that our engine runs.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(model: Path, program: bool, as_json: bool) -> None:
    """Summarize MODEL: signature, operators, control flow, functions, weights, metadata.

    Of a compiled model (.gopt), and with --program, the instructions are printed.
    """
    if program or _is_compiled(model):
        with about(str(model)):
            _print_program(model, as_json)
        return
    with about(str(model)):
        from graphopt.ir.load import load
        from graphopt.reporting.inspect import inspect

        found = inspect(load(model))
        if as_json:
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        else:
            from graphopt.reporting.console import print_inspection

            print_inspection(found)


def _is_compiled(model: Path) -> bool:
    from graphopt.runtime.compiled_file import is_compiled_file

    return is_compiled_file(model)


def _print_program(model: Path, as_json: bool) -> None:
    from graphopt.lowering.decode import decoded
    from graphopt.runtime.compilation import program_of
    from graphopt.runtime.compiled_file import read_compiled

    if _is_compiled(model):
        found = read_compiled(model, is_mapped=True)
        program = decoded(found.words, found.texts, found.blobs)
        for field in ("inputs", "outputs"):
            args = getattr(found, field)
            setattr(program, f"{field[:-1]}_types", tuple(arg.type for arg in args))
            setattr(program, f"{field[:-1]}_dims", tuple(arg.dims for arg in args))
        program.fallbacks = found.fallbacks
    else:
        program = program_of(model)
    text = str(program)
    click.echo(json.dumps({"model": str(model), "program": text}) if as_json else text, nl=as_json)
