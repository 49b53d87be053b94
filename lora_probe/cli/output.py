"""Results on their way out: whole files or none, and plain text where no terminal reads."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lora_probe.errors import UnwritableOutput
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["print_renderable", "waiting", "write_bytes", "write_text"]

STDOUT = "-"
BROKEN_PIPE = 141
"""Exit code where nobody reads any more: 128 + SIGPIPE, as of a program that does not handle it."""
_LEAST_WIDTH, _UNBOUNDED = 80, 100_000


def write_text(target: str, text: str) -> None:
    """Write `text`, in UTF-8, to the file `target`, or to standard output where that is ``-``.

    A file appears whole or not at all: it is written under another name beside its place, then moved there.

    Raises:
        UnwritableOutput: the file, or standard output, cannot be written.

    """
    if target == STDOUT:
        _echo(text.encode() if hasattr(sys.stdout, "buffer") else text)  # a StringIO in its place takes text
        return
    write_bytes(target, text.encode())


def write_bytes(target: str, content: bytes) -> None:
    """Write `content` to the file `target`, whole or not at all, or to standard output where that is ``-``.

    Raises:
        UnwritableOutput: the file, or standard output, cannot be written.

    """
    if target == STDOUT:
        with _standard_output():
            click.echo(content, nl=False)
        return
    path = Path(target)
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, /dev/null, a named pipe: never to be replaced
            path.write_bytes(content)
            return
        real = path.resolve()
        half = real.with_name(f".{real.name[:200]}.{os.urandom(4).hex()}.half")
        try:
            half.write_bytes(content)
            half.replace(real)
        except BaseException:
            with suppress(OSError):
                half.unlink()
            raise
    except (OSError, RuntimeError) as error:  # before Python 3.13, a loop of symbolic links is the latter
        raise UnwritableOutput(path=target, reason=getattr(error, "strerror", "") or str(error)) from error
    click.echo(f"wrote {printable(target)}", err=True)


def print_renderable(renderable: Any) -> None:
    """Print a rich renderable: fitted to a terminal, else as wide as it is and without trailing blanks.

    ``COLUMNS`` sets the width of either; ``NO_COLOR`` and ``FORCE_COLOR`` are respected as rich does.

    Raises:
        UnwritableOutput: standard output cannot be written.

    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(highlight=False, soft_wrap=False)
    if console.is_terminal:
        with _standard_output():
            console.print(renderable)
        return
    if not os.environ.get("COLUMNS", "").isdigit():
        unbounded = console.options.update(max_width=_UNBOUNDED)
        console.width = max(Measurement.get(console, unbounded, renderable).maximum, _LEAST_WIDTH)
    with _standard_output(), console.capture() as captured:  # rich writes an empty text all the same
        console.print(renderable)
    _echo("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Say on a terminal's standard error what the user waits for, and take it back afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(message, overflow="ellipsis", no_wrap=True)):
        yield


def _echo(text: str | bytes) -> None:
    """Print `text` and end its line."""
    newline: str | bytes = "\n" if isinstance(text, str) else b"\n"
    with _standard_output():
        click.echo(text, nl=not text.endswith(newline))  # type: ignore[arg-type]  # both are of one type


@contextmanager
def _standard_output() -> Iterator[None]:
    """Say why standard output cannot be written; where its reader has gone (``… | head``), end quietly.

    Raises:
        UnwritableOutput: for instance, the disk is full.

    """
    try:
        yield
    except BrokenPipeError:
        _forget_output()
        raise click.exceptions.Exit(BROKEN_PIPE) from None
    except OSError as error:
        _forget_output()
        raise UnwritableOutput(path="standard output", reason=error.strerror or str(error)) from error


def _forget_output() -> None:
    """Let what is still buffered go nowhere, or Python would complain about it at its exit."""
    with suppress(OSError, ValueError):  # not every stand-in for standard output has a number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
