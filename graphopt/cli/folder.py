"""What `graphopt optimize` does with a folder: every model in a process of its own, one report.

A model that brings its process down is one failed model, not the end of the run.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import click

from graphopt.cli.failures import FAULT, INTERRUPTED, about, exit_code_of, worst
from graphopt.cli.optimization import Job, Printing, Settings, optimize_file, write_report
from graphopt.errors import ModelError, UsageError

SCHEMA = "https://graphopt.dev/schemas/reports-1.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model's end: its exit code, and its report as JSON text where there is one."""

    model: str
    code: int
    report: str | None


def run_folder(source: Path, output: Path | None, settings: Settings, printing: Printing, jobs: int) -> int:
    """Optimize every model of a folder into another folder; returns the worst file's exit code."""
    models = find_jobs(source, output)
    outcomes = []
    for outcome in run_all(models, settings, jobs):
        outcomes.append(outcome)
        if not (printing.quiet or printing.as_json):
            click.echo(_line(outcome, source))
    outcomes.sort(key=lambda o: o.model)
    text = to_json(outcomes)
    if printing.report:
        write_report(printing.report, text)
    if printing.as_json:
        click.echo(text)
    elif not printing.quiet:
        click.echo(_summary(outcomes))
    return worst(o.code for o in outcomes)


def find_jobs(source: Path, output: Path | None) -> list[Job]:
    """The models of a folder and its subfolders, and where each goes.

    Raises:
        UsageError: If no other folder is given for the results.
        ModelError: If there is no model in the folder.
    """
    if output is None:
        raise UsageError(f"{str(source)!r} is a folder", hint="say where the results go: -o FOLDER")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{str(output)!r} is a file", hint="a folder in needs a folder out")
    if output.resolve() == source.resolve():
        raise UsageError("the results would overwrite the models", hint="give another folder to -o")
    inside = output.resolve()
    paths = [p for p in sorted(source.rglob("*.onnx")) if p.is_file() and inside not in p.resolve().parents]
    if not paths:
        raise ModelError(f"there is no .onnx file in folder {str(source)!r}")
    return [Job(path, output / path.relative_to(source)) for path in paths]


def run_all(models: Sequence[Job], settings: Settings, jobs: int) -> Iterator[Outcome]:
    """Run the jobs, at most `jobs` at a time; outcomes come as they end."""
    context = _context()
    waiting = list(reversed(models))
    running: dict[Connection, tuple[BaseProcess, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                job = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_run_one, args=(theirs, job, settings), daemon=True)
                process.start()
                theirs.close()
                running[ours] = process, job
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                ended, job = running.pop(ready)
                yield _outcome(ready, ended, job)
    finally:
        for left, _ in running.values():
            left.terminate()
            left.join()


def _context() -> SpawnContext | ForkServerContext:
    """Fresh processes; where the platform can, forked from one that has imported everything already."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["graphopt.compiler", "graphopt.ir.save", "graphopt.verification"])
    return context


def _run_one(pipe: Connection, job: Job, settings: Settings) -> None:
    """In the child: optimize one file and send its outcome."""
    reports: list[str] = []

    def run() -> None:
        with about(str(job.source)):
            job.destination.parent.mkdir(parents=True, exist_ok=True)
            reports.append(optimize_file(job, settings, None).report.to_json())

    code = exit_code_of(run)
    if code != INTERRUPTED:
        pipe.send(Outcome(str(job.source), code, reports[0] if reports else None))
    pipe.close()


def _outcome(pipe: Connection, process: BaseProcess, job: Job) -> Outcome:
    try:
        outcome: Outcome = pipe.recv()
    except EOFError:
        process.join()
        if process.exitcode == 0:
            raise KeyboardInterrupt from None
        click.echo(f"graphopt: {job.source.name}: its process ended with code {process.exitcode}", err=True)
        outcome = Outcome(str(job.source), FAULT, None)
    process.join()
    pipe.close()
    return outcome


def to_json(outcomes: Sequence[Outcome]) -> str:
    """One report over all models."""
    models = [
        {"model": o.model, "exit": o.code, "report": json.loads(o.report) if o.report else None}
        for o in outcomes
    ]
    return json.dumps({"schema": SCHEMA, "models": models}, indent=2, ensure_ascii=False)


def _line(outcome: Outcome, source: Path) -> str:
    name = str(Path(outcome.model).relative_to(source))
    if outcome.report is None:
        return f"{name}: failed (exit code {outcome.code})"
    report = json.loads(outcome.report)
    before, after = (report["operators"][side]["total"] for side in ("before", "after"))
    status = report["verification"]["status"] if report["verification"] else "not verified"
    return f"{name}: {before:,} -> {after:,} operators, {status}, {report['seconds']:.1f} s"


def _summary(outcomes: Sequence[Outcome]) -> str:
    reports = [json.loads(o.report) for o in outcomes if o.report]
    before, after = (sum(r["operators"][side]["total"] for r in reports) for side in ("before", "after"))
    failed = len(outcomes) - len(reports)
    return f"{len(outcomes)} models, {failed} failed: {before:,} -> {after:,} operators"
