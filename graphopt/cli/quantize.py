"""`graphopt quantize`: the same model in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from graphopt.cli.failures import INTERRUPTED, about, report

if TYPE_CHECKING:
    from graphopt.quantizer import Quantized

OBSERVERS = ("minmax", "percentile", "kl", "mse")


@click.command("quantize")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where the result goes [model.int8.onnx]."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    help="Samples to calibrate on: .npz, or a folder of .npz or .npy.",
)
@click.option(
    "--table",
    "table_path",
    type=click.Path(path_type=Path),
    help="The quant table: written with --data, read and applied without.",
)
@click.option(
    "--fresh", is_flag=True, help="Start over, rather than go on where an interrupted run has left its state."
)
@click.option("--weights-only", type=click.Choice(["int8", "int4"]), help="Store weights so, compute floats.")
@click.option(
    "--observer",
    type=click.Choice(OBSERVERS),
    default="mse",
    show_default=True,
    help="How ranges are chosen from the samples.",
)
@click.option(
    "--target",
    type=click.Choice(["onnx", "onnxruntime", "graphopt"]),
    default="onnx",
    show_default=True,
    help="Who runs the result: onnx writes QuantizeLinear and DequantizeLinear alone.",
)
@click.option(
    "--activations",
    type=click.Choice(["u8", "s8"]),
    default="u8",
    show_default=True,
    help="With --data: unsigned with a zero point, or signed around zero (for TensorRT).",
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Verify the optimizer's part.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Write the report as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: Path,
    output: Path | None,
    data: Path | None,
    table_path: Path | None,
    fresh: bool,
    weights_only: Literal["int8", "int4"] | None,
    observer: Literal["minmax", "percentile", "kl", "mse"],
    target: Literal["onnx", "onnxruntime", "graphopt"],
    activations: Literal["u8", "s8"],
    verify: bool,
    report_path: Path | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Optimize MODEL, store it in 8 or 4 bits, and write it.

    With --data values are observed and computed with as 8-bit integers, as the quant table says. Without, a
    table is applied that was written before. With --weights-only neither is needed.

    Calibration that is interrupted goes on where it was when the same command is given again: its state lies
    beside the table, or the output, until the end.
    """
    from graphopt.cli.optimization import Printing, progress_line, write_report

    _check(model, data, table_path, weights_only)
    destination = output or model.with_name(f"{model.stem}.{weights_only or 'int8'}.onnx")
    state = _state_beside(table_path or destination)
    if fresh:
        state.unlink(missing_ok=True)
    printing = Printing(quiet=quiet, verbose=False, as_json=as_json, report=report_path)
    with about(str(model)), _told_where_to_go_on(state):
        with progress_line(printing) as progress:
            import graphopt.ir  # noqa: F401 (before what imports onnx_ir: it spares a start 0.2 s)
            from graphopt.ir import quant_table
            from graphopt.ir.save import check_target
            from graphopt.quantizer import quantize

            for path in (destination, table_path, report_path):
                if path is not None:
                    check_target(str(path))
            given = quant_table.read(table_path) if table_path and not (data or weights_only) else None
            result = quantize(
                model,
                data=data,
                table=given,
                weights_only=weights_only,
                observer=observer,
                verify=verify,
                progress=progress,
                state=state if data else None,
                target=target,
                activations=activations,
            )
            _write(result, destination, table_path if data else None)
        found = result.report.saved(destination)
        if report_path:
            write_report(report_path, found.to_json())
        if as_json:
            click.echo(found.to_json())
        elif not quiet:
            click.echo("\n".join([*found.lines(), f"written to {destination}"]))
    return 0


@contextmanager
def _told_where_to_go_on(state: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if not state.exists():
            raise
        report(f"interrupted; the same command goes on from {state}")
        raise click.exceptions.Exit(INTERRUPTED) from None


def _state_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.calibration")


def _check(model: Path, data: Path | None, table: Path | None, weights_only: str | None) -> None:
    if model.is_dir():
        raise click.UsageError("quantize takes one model, not a folder")
    if weights_only and (data or table):
        raise click.UsageError("--weights-only takes neither --data nor --table")
    if not (data or table or weights_only):
        raise click.UsageError("give samples (--data), a quant table (--table), or --weights-only int8")


def _write(result: Quantized, destination: Path, table_path: Path | None) -> None:
    """The model, and the table where there is one to write: both or none."""
    from graphopt.ir import quant_table
    from graphopt.ir.save import save

    if table_path is None or result.table is None:
        save(result.model, destination)
        return
    with quant_table.staged(result.table, table_path) as commit:
        save(result.model, destination)
        commit()
