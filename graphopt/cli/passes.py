"""`graphopt passes`: which passes there are, what each does, and its options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from graphopt.cli.parameters import TARGETS

if TYPE_CHECKING:
    from graphopt.rewriting import Pass


@click.command("passes")
@click.argument("names", nargs=-1)
@click.option(
    "--pipeline", "level", type=click.IntRange(0, 3), metavar="LEVEL", help="Print the pipeline of -O LEVEL."
)
@click.option(
    "--target", type=click.Choice(TARGETS), default="onnx", show_default=True, help="For --pipeline."
)
@click.option("--plugin", "plugins", multiple=True, metavar="MODULE", help="Import passes; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    names: tuple[str, ...], level: int | None, target: str, plugins: tuple[str, ...], as_json: bool
) -> None:
    """List all passes, or describe those named."""
    from graphopt.rewriting import pipeline, registry

    added = [cls for plugin in plugins for cls in registry.load_plugin(plugin)]
    if level is not None:
        click.echo(str(pipeline.default(level, target, added)))
        return
    registry.load_entry_points()
    chosen = [registry.find(name) for name in names] or registry.every()
    if as_json:
        click.echo(json.dumps([_facts(cls) for cls in chosen], indent=2))
    elif names:
        click.echo("\n\n".join(_described(cls) for cls in chosen))
    else:
        _print_table(chosen)


def _facts(cls: type[Pass]) -> dict[str, object]:
    return {
        "name": cls.name,
        "family": cls.family,
        "summary": cls.summary(),
        "stage": cls.stage,
        "level": cls.level,
        "targets": list(cls.targets),
        "bound": cls.bound,
        "rules": [rule.name for rule in cls.rules],
        "options": {name: field.default for name, field in cls.option_fields().items()},
    }


def _described(cls: type[Pass]) -> str:
    where = "on request" if cls.stage == "on-request" else f"-O{cls.level} and above"
    lines = [f"{cls.name} ({cls.family}; {where})", f"  {cls.summary()}"]
    lines.append(f"  answers: {cls.bound or 'bit-exact'}")
    lines += [f"  {name}={field.default}" for name, field in cls.option_fields().items()]
    return "\n".join(lines)


def _print_table(passes: list[type[Pass]]) -> None:
    width = max((len(cls.name) for cls in passes), default=0)
    for family in sorted({cls.family for cls in passes}):
        click.echo(f"{family}:")
        for cls in passes:
            if cls.family == family:
                level = "  " if cls.stage == "on-request" else f"O{cls.level}"
                click.echo(f"  {cls.name:{width}}  {level}  {cls.summary()}")
