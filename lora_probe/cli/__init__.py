"""The command line: parse, call one library function, render; and the one place where errors end.

Exactly the tree under :class:`~lora_probe.errors.LoraProbeError` becomes ``Error: …`` and exit code 2.
Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

import click

from lora_probe._version import __version__
from lora_probe.cli.budget import budget
from lora_probe.cli.check import check
from lora_probe.cli.compare import compare
from lora_probe.cli.demo import demo
from lora_probe.cli.diff import diff
from lora_probe.cli.export import export
from lora_probe.cli.models import models
from lora_probe.cli.pilot import pilot
from lora_probe.cli.roles import roles
from lora_probe.cli.scan import scan
from lora_probe.cli.score import score
from lora_probe.errors import LoraProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["lora_probe", "main", "run"]

BAD_INPUT = 2
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

EXAMPLES = """\b
Examples:
  lora-probe scan meta-llama/Llama-3.1-8B
  lora-probe scan ./my-model -r 32 --html report.html
  lora-probe scan config.json --json | jq .total_parameters
  lora-probe budget Qwen/Qwen3-8B --targets attention --targets all-linear -r 8,16
  lora-probe models qwen
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES, no_args_is_help=True)
@click.version_option(__version__, prog_name="lora-probe", message="%(prog)s %(version)s")
def lora_probe() -> None:
    """Know what a LoRA will adapt, cost and break before you train it."""


lora_probe.add_command(scan)
lora_probe.add_command(budget)
lora_probe.add_command(check)
lora_probe.add_command(export)
lora_probe.add_command(diff)
lora_probe.add_command(score)
lora_probe.add_command(pilot)
lora_probe.add_command(compare)
lora_probe.add_command(demo)
lora_probe.add_command(roles)
lora_probe.add_command(models)


def main() -> NoReturn:
    """Run the command line and end the process: the console entry point.

    What the terminal's encoding lacks is shown as a question mark, not answered with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a closed stream is None
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        status = lora_probe.main(list(arguments), prog_name="lora-probe", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LoraProbeError as error:
        click.echo(f"Error: {error}", err=True)
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    return status or 0
