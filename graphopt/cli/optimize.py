"""`graphopt optimize`: fewer operators, the same answers."""

from __future__ import annotations

from pathlib import Path

import click

from graphopt.cli.parameters import TARGETS, Opset, OpsetType, Shape, ShapeType, SizeType


@click.command("optimize")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where the result goes [model.opt.onnx]."
)
@click.option(
    "--target", type=click.Choice(TARGETS), default="onnx", show_default=True, help="Who will run it."
)
@click.option(
    "-O",
    "level",
    type=click.IntRange(0, 3),
    default=2,
    show_default=True,
    help="0: check and save; 1: exact; 2: and fusions within a stated bound; 3: and costly search.",
)
@click.option("--passes", metavar="TEXT", help="A pipeline of your own instead of a level's.")
@click.option("--skip", multiple=True, metavar="NAMES", help="Leave out these passes (comma-separated).")
@click.option(
    "--opset",
    type=OpsetType(),
    default="auto",
    show_default=True,
    help="auto: raise it where something fuses by it; keep; or the version to end at.",
)
@click.option(
    "--shape", "shapes", type=ShapeType(), multiple=True, help="Fix an input's shape; can be repeated."
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Samples of your own to verify on (.npz or a folder)."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare the answers on samples.")
@click.option(
    "--verify-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Time for finding and comparing samples.",
)
@click.option(
    "--size", "sizes", type=SizeType(), multiple=True, help="Estimate FLOPs and memory at this size of a dim."
)
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Write the report as JSON.")
@click.option("--explain", metavar="PASS", help="Say why each near miss of a pass did not fire.")
@click.option("--stop-after", type=click.IntRange(min=0), metavar="N", help="Allow only the first N firings.")
@click.option("--plugin", "plugins", multiple=True, metavar="MODULE", help="Import passes; can be repeated.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Processes for a folder [1]."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--verbose", is_flag=True, help="Print every firing and the time of every pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: Path,
    output: Path | None,
    target: str,
    level: int,
    passes: str | None,
    skip: tuple[str, ...],
    opset: Opset,
    shapes: tuple[tuple[str, Shape], ...],
    data: Path | None,
    verify: bool,
    verify_seconds: float,
    sizes: tuple[tuple[str, int], ...],
    report_path: Path | None,
    explain: str | None,
    stop_after: int | None,
    plugins: tuple[str, ...],
    jobs: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Optimize MODEL, verify that its answers are the same, and write it.

    MODEL is an .onnx file, or a folder: then -o names another folder, and every model is optimized into it.
    """
    from graphopt.cli.optimization import Job, Printing, Settings, run_file

    settings = Settings(
        target=target,
        level=level,
        passes=passes,
        skip=tuple(name.strip() for names in skip for name in names.split(",") if name.strip()),
        opset=opset,
        shapes=_by_input(shapes),
        data=data,
        verify=verify,
        verify_seconds=verify_seconds,
        stop_after=stop_after,
        explain=explain,
        plugins=plugins,
        sizes=dict(sizes),
        costs=bool(report_path) or verbose or as_json,
    )
    printing = Printing(quiet=quiet, verbose=verbose, as_json=as_json, report=report_path)
    if model.is_dir():
        from graphopt.cli.folder import run_folder

        return run_folder(model, output, settings, printing, jobs)
    return run_file(Job(model, output or model.with_name(f"{model.stem}.opt.onnx")), settings, printing)


def _by_input(shapes: tuple[tuple[str, Shape], ...]) -> dict[str, Shape] | None:
    found = dict(shapes)
    if len(found) < len(shapes):
        raise click.BadParameter("an input is given twice", param_hint="--shape")
    return found or None
