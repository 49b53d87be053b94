"""The options of ``lora-probe score``, by what they are about; those of model and data are a pilot's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.lora_options import TARGETS
from lora_probe.cli.pilot_options import DATA, MODEL, PLACE, columns_of
from lora_probe.cli.reports import FILE
from lora_probe.cli.sections import section

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECTIONS", "score_arguments"]

_RESULT = section(
    "Result",
    click.option("--propose", type=int, metavar="N", help="The most sets to propose.  [default: 3]"),
    click.option("--json", is_flag=True, help="Print one JSON document."),
    click.option("--csv", type=FILE, help="Write the modules as CSV; - is standard output."),
    click.option("--html", type=FILE, help="Write a self-contained page; - is standard output."),
    click.option("--markdown", type=FILE, help="Write Markdown; - is standard output."),
    click.option("--heatmap", type=FILE, help="Write the heat maps, layer by role, as a PNG."),
)
_SIGNALS = section(
    "Signals",
    click.option("-t", "--targets", metavar="SPEC", help=f"What to score: {TARGETS}  [default: all-linear]"),
    click.option("--batches", type=int, metavar="K", help="Forward and backward passes.  [default: 8]"),
    click.option("--batch-size", type=int, metavar="N", help="Rows of a micro-batch.  [default: 4]"),
    click.option("-r", "--rank", type=int, metavar="N", help="Of the adapters.  [default: 8]"),
    click.option("--alpha-over-rank", type=float, metavar="X", help="Their scale.  [default: 2]"),
    click.option("--seed", type=int, metavar="N", help="Of their A.  [default: 0]"),
    click.option("--data-seed", type=int, metavar="N", help="Order of the data.  [default: 0]"),
)
SECTIONS = (_RESULT, section("Data", *DATA), _SIGNALS, section("Machine", *PLACE), MODEL)


def score_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as those of the library's `score`; what was left out is left out.

    Raises:
        BadPilotOption: a column cannot be read.

    """
    given = {name: value for name, value in options.items() if name != "column" and value is not False}
    read = {**given, "columns": columns_of(options["column"])}
    return {name: value for name, value in read.items() if value is not None}
