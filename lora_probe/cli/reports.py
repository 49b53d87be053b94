"""The forms in which a command gives its result: files, one document on standard output, or a table."""

from __future__ import annotations

from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lora_probe.errors import UnwritableOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    _Command = TypeVar("_Command", bound=Callable[..., Any])

__all__ = ["FILE", "check_destinations", "deliver", "destinations", "report_options"]

FILE = click.Path(dir_okay=False, allow_dash=True)
_FORMS = ("json", "csv", "html", "markdown")
_OPTIONS = (
    click.option("--json", is_flag=True, help="Print one JSON document."),
    click.option("--csv", type=FILE, help="Write the rows as CSV; - is standard output."),
    click.option("--html", type=FILE, help="Write a self-contained page; - is standard output."),
    click.option("--markdown", type=FILE, help="Write Markdown; - is standard output."),
)
_READ_FILES = ("config.json", ".safetensors", ".safetensors.index.json", "plan.json", ".jsonl")
"""Ends of the names of files from which a model, or a pilot, is read."""


def report_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def destinations(options: MutableMapping[str, Any], *, model: str) -> dict[str, str]:
    """Take the options of :func:`report_options` out of `options`; return where each form is to go.

    Raises:
        click.UsageError: two forms are to go to one place.
        UnwritableOutput: one would replace a file from which `model` is read.

    """
    from lora_probe.cli.output import STDOUT

    given = {form: options.pop(form) for form in _FORMS}
    given["json"] = STDOUT if given["json"] else None
    found = {form: target for form, target in given.items() if target is not None}
    check_destinations(list(found.values()), model=model)
    return found


def check_destinations(targets: list[str], *, model: str) -> None:
    """Return where `targets` are different places, none of which holds `model`.

    Raises:
        click.UsageError: two of them are one, or one has no name.
        UnwritableOutput: one would replace a file from which `model` is read.

    """
    from lora_probe.cli.output import STDOUT

    if "" in targets:
        raise click.UsageError("a file needs a name")
    if targets.count(STDOUT) > 1:
        raise click.UsageError("only one of --json and the files can go to standard output")
    # realpath takes a loop of symbolic links as it stands; writing to it fails later, with the reason.
    files = [Path(realpath(target)) for target in targets if target != STDOUT]
    if len(set(files)) < len(files):
        raise click.UsageError("two results cannot go to one file")
    source = Path(realpath(model))
    for file in files:
        if file == source or (file.parent == source and file.name.endswith(_READ_FILES)):
            raise UnwritableOutput(path=str(file), reason="the result itself is made from it")


def deliver(
    targets: Mapping[str, str], renderers: Mapping[str, Callable[[], str]], *, table: Callable[[], Any]
) -> None:
    """Write each form that has a target; print the table where none has.

    Everything is rendered before anything is written.

    Raises:
        UnwritableOutput: a target cannot be written.

    """
    from lora_probe.cli.output import print_renderable, write_text

    texts = {target: renderers[form]() for form, target in targets.items()}
    for target, text in texts.items():
        write_text(target, text)
    if not texts:
        print_renderable(table())
