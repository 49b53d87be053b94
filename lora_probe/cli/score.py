"""``lora-probe score``: three cheap signals of where LoRA may pay, as hints for a pilot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.score_options import SECTIONS, score_arguments
from lora_probe.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

__all__ = ["score"]

EXAMPLES = """\b
Examples:
  lora-probe score Qwen/Qwen3-0.6B --data train.jsonl
  lora-probe score ./model -d chats.jsonl --batches 16 --html scores.html --heatmap scores.png
  lora-probe score ./model -d train.jsonl --targets attention --json | jq .roles
"""
PROPOSED = 3


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for add in reversed(SECTIONS):
        function = add(function)
    return function


@click.command(
    cls=SectionedCommand, epilog=EXAMPLES, short_help="Hint at which roles of MODEL to adapt for your data."
)
@click.argument("model")
@_with_options
def score(*, model: str, propose: int | None, heatmap: str | None, **options: Any) -> None:
    """Score the roles of MODEL on your data by three cheap signals, and propose what a pilot should try.

    MODEL is a hub id or a folder with weights. A few forward and backward passes measure how far each layer
    is fitted to such data (NFN), how much gradient LoRA would get there, and how far micro-batches agree.
    The signals are hints and often disagree: a pilot decides.
    """
    from lora_probe.cli.output import waiting, write_bytes
    from lora_probe.cli.reports import check_destinations, deliver, destinations
    from lora_probe.scoring import propose as propose_sets
    from lora_probe.scoring import score as score_model
    from lora_probe.scoring.proposals import check_number
    from lora_probe.text import printable

    number = PROPOSED if propose is None else propose
    check_number(number, option="--propose")
    targets = destinations(options, model=model)
    check_destinations([*targets.values(), *([heatmap] if heatmap is not None else [])], model=model)
    data = options.pop("data")
    with waiting(f"Scoring {printable(model)}"):
        result = score_model(model, data[0] if len(data) == 1 else data, **score_arguments(options))
    proposals = propose_sets(result, number)

    def csv() -> str:
        from lora_probe.report.score_csv import score_csv

        return score_csv(result)

    def html() -> str:
        from lora_probe.report.score_html import score_page

        return score_page(result, proposals)

    def json() -> str:
        from json import dumps

        from lora_probe.encoding import encoded

        return dumps({**result.to_dict(), "proposals": encoded(proposals)}, indent=2)

    def markdown() -> str:
        from lora_probe.report.score_markdown import score_markdown

        return score_markdown(result, proposals)

    def table() -> RenderableType:
        from lora_probe.report.score_table import ScoreTable

        return ScoreTable(result, proposals)

    if heatmap is not None:
        from lora_probe.report.score_plots import heat_map_png

        write_bytes(heatmap, heat_map_png(result))
    deliver(targets, {"csv": csv, "html": html, "json": json, "markdown": markdown}, table=table)
