"""`graphopt quantize --audit`: what of a quantized model really computes with integers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from graphopt.cli.failures import about

__all__ = ["option", "print_audit"]

option = click.option(
    "--audit",
    is_flag=True,
    help="Quantize nothing: run MODEL, which is quantized already, and say what computes with integers.",
)


def print_audit(model: Path, target: str, *, report: Path | None, quiet: bool, as_json: bool) -> int:
    """Run a quantized model on its target and print what its operators became."""
    from graphopt.cli.optimization import write_report

    if model.is_dir():
        raise click.UsageError("--audit takes one model, not a folder")
    with about(str(model)):
        import graphopt.ir  # noqa: F401 (before what imports onnx_ir: it spares a start 0.2 s)
        from graphopt.quantization.audit import audit_file

        found = audit_file(model, target)
        text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
        if report:
            write_report(report, text)
        if as_json:
            click.echo(text)
        elif not quiet:
            click.echo("\n".join(found.lines()))
    return 0
