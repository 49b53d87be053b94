"""``lora-probe export``: a target set as the configuration of PEFT or another trainer."""

from __future__ import annotations

from typing import Any

import click

from lora_probe.cli.lora_options import TARGETS, lora_options
from lora_probe.cli.reports import FILE
from lora_probe.cli.source_options import source_options

__all__ = ["export"]

EXAMPLES = """\b
Examples:
  lora-probe export meta-llama/Llama-3.1-8B --targets attention+mlp --to peft -o adapter_config.json
  lora-probe export google/gemma-3-4b-it --targets text:attention --to llama-factory -r 32 --alpha 64
  lora-probe export Qwen/Qwen3-30B-A3B --targets attention+experts --to axolotl
  lora-probe export Qwen/Qwen3-8B --targets attention@last:8 --to mlx-lm
"""
NAMES = (
    "peft", "llama-factory", "axolotl", "ms-swift", "unsloth", "trl", "torchtune", "nemo-automodel",
    "megatron-bridge", "mlx-lm",
)  # fmt: skip
"""The trainers; not taken from the exporters, so that help is shown without loading them."""


@click.command(epilog=EXAMPLES, short_help="Write a trainer's configuration for a target set.")
@click.argument("model")
@click.option("-t", "--targets", required=True, metavar="SPEC", help=f"The target set: {TARGETS}")
@click.option("--to", type=click.Choice(NAMES), required=True, help="The trainer to write for.")
@click.option("-r", "--rank", type=int, default=16, show_default=True, help="Rank of the LoRA.")
@click.option(
    "--alpha", type=float, help="lora_alpha: the update is scaled by alpha / rank.  [default: the rank]"
)
@click.option("--dropout", type=float, default=0.0, help="lora_dropout.  [default: 0]")
@lora_options
@click.option("--alpha-pattern", multiple=True, metavar="PATTERN=A", help="Another alpha for some modules.")
@click.option("-o", "--output", type=FILE, default="-", help="File to write.  [default: standard output]")
@source_options
def export(*, model: str, to: str, output: str, **options: Any) -> None:
    """Write the configuration with which a trainer adapts exactly --targets of MODEL.

    What the trainer has no words for is refused with the reason; nothing that means another set is ever
    written. MODEL is a hub id, a folder, or a path to a config.json. No weights are loaded.
    """
    from lora_probe.cli.output import write_text
    from lora_probe.cli.reports import check_destinations
    from lora_probe.cli.source_options import scanned
    from lora_probe.exporting import export as exported

    check_destinations([output], model=model)
    graph = scanned(model, options)
    write_text(output, exported(graph, to=to, **_arguments(options)))


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of the library's `export`; what was left out keeps its default."""
    from lora_probe.cli.lora_options import given, lora_arguments
    from lora_probe.cli.lora_words import read_alpha_pattern

    settings = lora_arguments(options)
    alphas = read_alpha_pattern(options.pop("alpha_pattern"), option="--alpha-pattern")
    return {**options, **settings, **given({"alpha_pattern": alphas})}
