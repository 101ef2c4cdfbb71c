"""`graphopt inspect`: what a model takes, gives and holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(model: Path, as_json: bool) -> None:
    """Summarize MODEL: signature, operators, control flow, functions, weights, metadata."""
    with about(str(model)):
        from graphopt.ir.load import load
        from graphopt.reporting.inspect import inspect

        found = inspect(load(model))
        if as_json:
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        else:
            from graphopt.reporting.console import print_inspection

            print_inspection(found)
