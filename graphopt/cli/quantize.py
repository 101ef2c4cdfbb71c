"""`graphopt quantize`: the same model in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from graphopt.cli import auditing, deciding
from graphopt.cli.failures import INTERRUPTED, about, report

if TYPE_CHECKING:
    from graphopt.quantizer import Quantized

OBSERVERS = ("auto", "minmax", "percentile", "kl", "mse")
REFINEMENTS = ("auto", "none", "easyquant", "admm", "gptq", "adaround", "moments")


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
    default="auto",
    show_default=True,
    help="How ranges are chosen from the samples; auto: for each value the way that outputs ask for.",
)
@click.option(
    "--per-tensor", is_flag=True, help="With --data: one scale a weight, for kernels that know no other."
)
@click.option(
    "--refine",
    type=click.Choice(REFINEMENTS),
    default="auto",
    show_default=True,
    help="How scales and codes of weights are refined with the samples.",
)
@click.option(
    "--compensate/--no-compensate",
    default=True,
    show_default=True,
    help="With --data: make up for errors of rounding; off: none of the next three.",
)
@click.option("--equalize/--no-equalize", default=True, show_default=True, help="Cross-layer equalization.")
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="SmoothQuant.")
@click.option(
    "--correct-biases/--no-correct-biases",
    default=True,
    show_default=True,
    help="Take off what quantizing shifts outputs by, where the model is better by it.",
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
@deciding.options
@auditing.option
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
    observer: Literal["auto", "minmax", "percentile", "kl", "mse"],
    per_tensor: bool,
    refine: Literal["auto", "none", "easyquant", "admm", "gptq", "adaround", "moments"],
    compensate: bool,
    equalize: bool,
    smooth: bool,
    correct_biases: bool,
    target: Literal["onnx", "onnxruntime", "graphopt"],
    activations: Literal["u8", "s8"],
    verify: bool,
    report_path: Path | None,
    quiet: bool,
    as_json: bool,
    **limits: object,
) -> int:
    """Optimize MODEL, store it in 8 or 4 bits, and write it.

    With --data values are observed, what each operator loses is measured, and the smallest model is written
    that decides 99 % of the samples as before, or that keeps a limit (exit code 7: none does). Without, a
    table is applied that was written before. With --weights-only neither is needed; with --data the weights
    are rounded so that they make up for each other's errors.

    Calibration and search that are interrupted go on where they were when the same command is given again:
    their state lies beside the table, or the output, until the end.
    """
    from graphopt.cli.optimization import Printing, progress_line, write_report

    if limits.pop("audit"):
        return auditing.print_audit(model, target, report=report_path, quiet=quiet, as_json=as_json)
    _check(model, data, table_path, weights_only)
    how = deciding.deciding_of(limits, has_data=data is not None and weights_only is None)
    destination = output or model.with_name(f"{model.stem}.{weights_only or 'int8'}.onnx")
    state = _state_beside(table_path or destination)
    if fresh:
        for left in _states(state):
            left.unlink(missing_ok=True)
    printing = Printing(quiet=quiet, verbose=False, as_json=as_json, report=report_path)
    with about(str(model)), _told_where_to_go_on(state):
        with progress_line(printing) as progress:
            import graphopt.ir  # noqa: F401 (before what imports onnx_ir: it spares a start 0.2 s)
            from graphopt.ir import quant_table
            from graphopt.ir.save import check_target
            from graphopt.quantization.compensating import Compensating
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
                per_tensor=per_tensor,
                refinement=refine,
                compensating=Compensating(
                    compensate and equalize, compensate and smooth, compensate and correct_biases
                ),
                deciding=how,
                verify=verify,
                progress=progress,
                state=state if data else None,
                target=target,
                activations=activations,
            )
            _write(result, destination, table_path if data else None)
            written = [destination]
            if limits["pareto"] and result.search is not None:
                written.append(deciding.write_front(result.search, destination))
        found = result.report.saved(destination)
        if report_path:
            write_report(report_path, found.to_json())
        if as_json:
            click.echo(found.to_json())
        elif not quiet:
            click.echo("\n".join([*found.lines(), *(f"written to {path}" for path in written)]))
    return deciding.exit_code_of(result)


@contextmanager
def _told_where_to_go_on(state: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        left = [str(path) for path in _states(state) if path.exists()]
        if not left:
            raise
        report(f"interrupted; the same command goes on from {' and '.join(left)}")
        raise click.exceptions.Exit(INTERRUPTED) from None


def _state_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.calibration")


def _states(state: Path) -> tuple[Path, Path]:
    from graphopt.quantization.making import States

    return States.paths(state)


def _check(model: Path, data: Path | None, table: Path | None, weights_only: str | None) -> None:
    if model.is_dir():
        raise click.UsageError("quantize takes one model, not a folder")
    if weights_only and table and not data:
        raise click.UsageError("--weights-only takes no --table, unless one is written of --data")
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
