"""`graphopt bench`: how fast a model is on our engine, and on others."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about
from graphopt.cli.parameters import Shape
from graphopt.cli.sessions import feeds_of, input_options, session_options

PEERS = ("onnxruntime", "openvino", "mnn")


@click.command("bench")
@click.argument("model", type=click.Path(path_type=Path))
@input_options
@session_options
@click.option("--against", metavar="ENGINES", help=f"Other engines, comma-separated: {', '.join(PEERS)}.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="S",
    help="How long the engines take turns.",
)
@click.option(
    "--audio-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Length of the sound in the inputs: adds the real-time factor.",
)
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure each one's peak memory.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(
    model: Path,
    input_path: Path | None,
    shapes: tuple[tuple[str, Shape], ...],
    sizes: tuple[tuple[str, int], ...],
    threads: int,
    precision: str,
    optimize: bool,
    against: str | None,
    seconds: float,
    audio_seconds: float | None,
    memory: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure MODEL: medians of runs that take turns, ratios to ours, peak memory in separate processes."""
    from graphopt.cli.optimization import Printing, progress_line
    from graphopt.errors import UsageError
    from graphopt.runtime.benchmark import benchmark
    from graphopt.runtime.peers import imported
    from graphopt.runtime.settings import Settings

    peers = [name.strip() for name in (against or "").split(",") if name.strip()]
    for name in peers:
        if name not in PEERS:
            raise UsageError(
                f"there is no engine {name!r} to measure against", hint=f"known: {', '.join(PEERS)}"
            )
        imported(name)
    settings = Settings(threads, precision, optimize)  # type: ignore[arg-type]
    with about(str(model)), progress_line(Printing(quiet, False, as_json, None)) as progress:
        feeds = feeds_of(model, settings.session(model), input_path, shapes, sizes)
        found = benchmark(
            model, feeds, settings, peers, seconds=seconds, with_memory=memory, progress=progress
        )
    if as_json:
        click.echo(json.dumps(found.to_dict(audio_seconds), indent=2, ensure_ascii=False))
    elif not quiet:
        from graphopt.reporting.performance import print_benchmark

        print_benchmark(found, audio_seconds)
