"""``lora-probe demo``: the whole way offline, on a model and a text that come with the package."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from lora_probe.text import printable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["demo"]

EXAMPLES = """\b
Examples:
  lora-probe demo
  lora-probe demo --out /tmp/demo
"""
INTERRUPTED = 130
"""What `pilot` returns when it was."""
SETTINGS = "--rank 4 --learning-rate 0.01 --steps 80 --test-items 300"
"""Of the pilot: small enough for two cores, and a learning rate for so small a model."""


@click.command(epilog=EXAMPLES, short_help="Scan, budget, check, pilot and export, offline.")
@click.option(
    "-o", "--out", default="lora-probe-demo", show_default=True, metavar="DIR",
    type=click.Path(file_okay=False), help="Folder for model, data and report; run again, it goes on there.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def demo(*, out: str, quiet: bool) -> int:
    """Go the whole way with a tiny model that has read Python's source, and the text of Python's help.

    Every command is shown with what it prints: scan, budget, check, pilot, export. It takes a few minutes,
    uses no network, and ends with a report to open in a browser.
    """
    from pathlib import Path

    from lora_probe.piloting.demo import set_up
    from lora_probe.piloting.run import compare
    from lora_probe.report.pilot_wording import to_use

    folder = Path(out)
    model, data = set_up(folder)
    _show("What is in this model, and what would LoRA add?", "scan", model)
    _show("What do common target sets cost?", "budget", model)
    _show(
        "Would targets from a recipe for other models work?", "check", model, "--targets=q_proj,v_proj,dense"
    )
    pilot = folder / "pilot"
    more = [*shlex.split(SETTINGS), *(["--quiet"] if quiet else [])]
    ended = _show(
        "Which set learns best, at equal parameters?", "pilot", model, "--data", data, "--out", pilot, *more
    )
    if ended == INTERRUPTED:
        return ended
    winner = to_use(compare(pilot).analysis)
    if winner is not None:
        config = folder / "adapter_config.json"
        chosen = ["--targets", winner.targets, "--rank", str(winner.rank), "--alpha", f"{winner.alpha:g}"]
        _show("What does PEFT need for it?", "export", model, *chosen, "--to", "peft", "--output", config)
    click.echo(f"\nThe report, to open in a browser: {printable(str(pilot / 'report.html'))}")
    return 0


def _show(question: str, *words: str | Path) -> int:
    """Run one command of this program as if it had been typed, and return its exit code."""
    given = [str(word) for word in words]
    click.secho(f"\n# {question}", bold=True)
    click.echo(f"$ lora-probe {printable(shlex.join(given))}")
    program = click.get_current_context().find_root().command
    status: int | None = program.main(given, prog_name="lora-probe", standalone_mode=False)
    return status or 0
