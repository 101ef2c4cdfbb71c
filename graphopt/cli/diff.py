"""`graphopt diff`: what differs between two models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli.failures import about

if TYPE_CHECKING:
    import onnx_ir as ir

DIFFERENT = 6


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--quiet", is_flag=True, help="Print nothing: the exit code says it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(before: Path, after: Path, quiet: bool, as_json: bool) -> int:
    """Compare two models: exit code 0 if they are the same, 6 if they differ.

    Names of nodes, and of values between them, don't count.
    """
    from graphopt.reporting.diff import diff

    models = _load(before), _load(after)
    with about(str(after)):
        found = diff(*models)
        if as_json:
            click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        elif not quiet:
            from graphopt.reporting.console import print_diff

            print_diff(found)
    return 0 if found.is_empty else DIFFERENT


def _load(path: Path) -> ir.Model:
    from graphopt.ir.load import load

    with about(str(path)):
        return load(path)
