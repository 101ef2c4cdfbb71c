"""The command line: `graphopt COMMAND`, one module a command, imported when it is called."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import click

from graphopt import __version__
from graphopt.cli.failures import exit_code_of

# A graph is millions of small objects that live until the end: the default threshold scans them over and
# over. Rarer collections took 5.4 s to 3.6 s on a chain of 14,080 nodes and 2.1 s to 1.5 s on one of 4,255;
# none at all is no faster, and a repair, which copies the graph many times, would keep every copy.
COLLECT_EVERY = (500_000, 1, 1)

COMMANDS = (
    "optimize",
    "quantize",
    "table",
    "inspect",
    "diff",
    "run",
    "bench",
    "profile",
    "compile",
    "passes",
)


class CommandLine(click.Group):
    """A group whose commands are modules, and whose every end is one of the documented exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"graphopt.cli.{cmd_name}").command
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit code."""
        run = partial(
            super().main, args, prog_name or "graphopt", complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        gc.set_threshold(*COLLECT_EVERY)
        return sys.exit(exit_code_of(run))


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="graphopt")
def main() -> None:
    """Optimize ONNX models: fewer operators, the same answers, proved on samples."""
