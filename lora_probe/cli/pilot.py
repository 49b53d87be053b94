"""``lora-probe pilot``: which target set is best for this model and data, found out by short fine-tunes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.pilot_options import SECTIONS, pilot_arguments
from lora_probe.cli.sections import SectionedCommand, words
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lora_probe.piloting.run import PilotReport

__all__ = ["pilot"]

EXAMPLES = """\b
Examples:
  lora-probe pilot Qwen/Qwen3-0.6B --data train.jsonl --out pilot
  lora-probe pilot ./model -d chats.jsonl -c attention -c mlp -c all-linear -o pilot --steps 300
  lora-probe pilot ./model -d reviews.csv --task sequence-classification -c attention:r=4 -c mlp:r=4 -o pilot
  lora-probe pilot ./model -d train.jsonl -o pilot --shard 1/2
"""
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""
REPORT = "report.html"
_SECRET = "--token"  # noqa: S105 - the name of the option


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for add in reversed(SECTIONS):
        function = add(function)
    return function


@click.command(
    cls=SectionedCommand,
    epilog=EXAMPLES,
    short_help="Compare target sets on MODEL and your data, by training.",
)
@click.argument("model")
@_with_options
def pilot(*, model: str, out: str, as_json: bool, quiet: bool, **options: Any) -> int:
    """Compare target sets on MODEL by short fine-tunes on your data, and say which to use.

    MODEL is a hub id or a folder with weights. The base is loaded once and all candidates train on it side by
    side, with equal parameters, learning rates of their own and shared seeds. Whatever ends a run, the same
    command goes on where it stopped.
    """
    from lora_probe.cli.output import STDOUT, print_renderable, write_text
    from lora_probe.piloting.run import pilot as run_pilot
    from lora_probe.report.pilot_html import pilot_page
    from lora_probe.report.pilot_progress import progress_for
    from lora_probe.report.pilot_table import PilotTable

    data, candidates = options.pop("data"), options.pop("candidate")
    try:
        report = run_pilot(
            model,
            data[0] if len(data) == 1 else data,
            out=out,
            candidates=candidates or None,
            observer=progress_for(quiet=quiet),
            command=("lora-probe", "pilot", *_without_secret(words())),
            **pilot_arguments(options),
        )
    except KeyboardInterrupt:
        click.echo(_interrupted(out), err=True)
        return INTERRUPTED
    if report.waiting_for:
        click.echo(_left_to_others(report), err=True)
    write_text(str(Path(out) / REPORT), pilot_page(report.analysis))
    if as_json:
        write_text(STDOUT, report.to_json(indent=2))
    else:
        print_renderable(PilotTable(report.analysis))
    return 0


def _interrupted(out: str) -> str:
    if not Path(out).exists():
        return "Interrupted before the first step."
    return (
        f"Interrupted: what was measured up to the last evaluation is kept in {printable(out)}; "
        "run the same command again to go on."
    )


def _left_to_others(report: PilotReport) -> str:
    shards = ", ".join(report.waiting_for)
    return (
        f"This share is done; the rest waits for --shard {shards}, which does not run: "
        "start it, and then this command again."
    )


def _without_secret(given: Sequence[str]) -> list[str]:
    """Return the words of a command line without its token: they are kept in a file."""
    kept: list[str] = []
    skip = False
    for word in given:
        if not skip and word != _SECRET and not word.startswith(f"{_SECRET}="):
            kept.append(word)
        skip = word == _SECRET
    return kept
