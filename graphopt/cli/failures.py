"""How a command ends badly: the exit code of each exception, and one line on standard error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from graphopt.errors import GraphoptError

FAULT = 1
INTERRUPTED = 130

# What a run over a folder returns, worst first: our own faults before the models' ones.
WORST_FIRST = (INTERRUPTED, FAULT, 5, 4, 3, 2, 7, 6, 0)


class FileError(Exception):
    """Something went wrong with one file; the cause is the exception itself."""

    def __init__(self, file: str, cause: Exception) -> None:
        super().__init__(file)
        self.file = file
        self.cause = cause


@contextmanager
def about(file: str) -> Iterator[None]:
    """What goes wrong inside is about this file: its name stands in the message."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        raise FileError(file, error) from error


def exit_code_of(run: Callable[[], object]) -> int:
    """Run a command; report what goes wrong in one line and return the exit code."""
    try:
        code = run()
    except (click.Abort, KeyboardInterrupt):
        report("interrupted; nothing half-written remains")
        return INTERRUPTED
    except click.ClickException as error:
        report(f"{error.format_message()}{_where_help_is(error)}")
        return error.exit_code
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        return _reader_left() if error.errno == errno.EPIPE else failed(error)
    except Exception as error:
        return failed(error)
    return code if isinstance(code, int) else 0


def failed(error: Exception) -> int:
    """Report an exception in one line and return its exit code."""
    file = ""
    if isinstance(error, FileError):
        # Loading names the file itself, by its whole path; others by its name.
        is_named = str(error.cause).startswith((error.file, f"{os.path.basename(error.file)}: "))
        file, error = "" if is_named else f"{os.path.basename(error.file)}: ", error.cause
    if isinstance(error, GraphoptError):
        report(f"{file}{error}")
        return error.exit_code
    path = write_crash_report(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    report(f"{file}this is a fault of graphopt ({what}); please report it with {path}")
    return FAULT


def report(message: str) -> None:
    """One line on standard error."""
    click.echo(f"graphopt: {' '.join(message.split())}", err=True)


def write_crash_report(error: Exception) -> str:
    """Write the traceback, the versions and the command line to a temporary file; returns its path."""
    import platform
    import tempfile
    import traceback
    from importlib import metadata

    lines = [
        f"graphopt {metadata.version('graphopt')}, Python {platform.python_version()}, {platform.platform()}"
    ]
    for library in ("onnx", "onnx-ir", "onnxruntime", "numpy"):
        lines.append(f"{library} {metadata.version(library)}")
    lines += ["command line: " + " ".join(sys.argv), "", *traceback.format_exception(error)]
    with tempfile.NamedTemporaryFile(
        "w", prefix="graphopt-crash-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("\n".join(line.rstrip("\n") for line in lines) + "\n")
    return file.name


def worst(codes: Iterator[int]) -> int:
    """The exit code of a run over several files."""
    return min(codes, key=WORST_FIRST.index, default=0)


def _where_help_is(error: click.ClickException) -> str:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see {ctx.command_path} --help)" if ctx else ""


def _reader_left() -> int:
    """The reader of a pipe is gone: nothing more can be said, and nothing need be."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return FAULT
