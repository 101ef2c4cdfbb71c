"""`graphopt table`: quant tables for other tools, and theirs for this one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli.failures import about

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir.json_file import Json
    from graphopt.ir.quant_table import Scaling
    from graphopt.quantization.exchange.losses import Losses

TOOLS = ("ort", "mnn", "openvino", "aimet")


@click.group("table")
def command() -> None:
    """Take a quant table to another tool, or that of another tool here."""


@command.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--to", "tool", type=click.Choice(TOOLS), required=True, help="The other tool.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where its JSON goes.")
@click.option(
    "--prepared",
    type=click.Path(path_type=Path),
    help="Also write the float model that the names are of: what the other tool quantizes.",
)
@click.option("--quiet", is_flag=True, help="Do not say what is lost.")
def export_command(
    model: Path, table: Path, tool: str, output: Path, prepared: Path | None, quiet: bool
) -> int:
    """Write TABLE, which is of MODEL, as another tool's JSON; what that has no word for is said."""
    with about(str(model)):
        import graphopt.ir  # noqa: F401 (before what imports onnx_ir: it spares a start 0.2 s)
        from graphopt.ir import quant_table
        from graphopt.ir.save import check_target, save
        from graphopt.quantization.applying import scaled
        from graphopt.quantization.exchange import export
        from graphopt.quantizer import prepare, sha256_of

        for path in (output, prepared):
            if path is not None:
                check_target(str(path))
        given = quant_table.read(table)
        given.check_model(sha256_of(model))
        source, _ = prepare(model, given.model.pipeline, given.needed_opset)
        content, losses = export(given, source, tool)
        if prepared is not None:
            save(scaled(source, given), prepared)
        _write(output, content)
    _tell(losses, output, quiet)
    return 0


@command.command("import")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "tool", type=click.Choice(TOOLS), required=True, help="The other tool.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Where the table goes.")
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="The table that was exported: FILE is of what --prepared wrote then [of MODEL as it is].",
)
@click.option("--quiet", is_flag=True, help="Do not say what is lost.")
def import_command(model: Path, file: Path, tool: str, output: Path, like: Path | None, quiet: bool) -> int:
    """Write a quant table of MODEL with what another tool's FILE says; what has no place in it is said."""
    with about(str(model)):
        import graphopt.ir  # noqa: F401 (before what imports onnx_ir: it spares a start 0.2 s)
        from graphopt import __version__
        from graphopt.ir import quant_table
        from graphopt.ir.json_file import read_json
        from graphopt.ir.save import check_target
        from graphopt.quantization.exchange import restore
        from graphopt.quantizer import prepare, sha256_of

        check_target(str(output))
        content = read_json(file)
        digest, pipeline = sha256_of(model), ""
        scalings: Mapping[str, tuple[Scaling, ...]] = {}
        if like is not None:
            known = quant_table.read(like)
            known.check_model(digest)
            pipeline, scalings = known.model.pipeline, known.scalings
        source, _ = prepare(model, pipeline)
        identity = quant_table.ModelIdentity(
            digest, source.graph.opset_imports.get("", 1), pipeline, f"graphopt {__version__}"
        )
        found, losses = restore(content, source, tool, identity)
        quant_table.write(replace(found, scalings=scalings), output)
    _tell(losses, output, quiet)
    return 0


def _tell(losses: Losses, output: Path, quiet: bool) -> None:
    if not quiet:
        click.echo("\n".join([*losses.lines(), f"written to {output}"]))


def _write(path: Path, content: Json) -> None:
    from graphopt.errors import OutputError
    from graphopt.ir.replacing import write_whole

    try:
        write_whole(str(path), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from error
