"""``lora-probe export``: a target set as the configuration of PEFT or another trainer."""

from __future__ import annotations

from typing import Any

import click

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


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "-t", "--targets", required=True, metavar="SPEC",
    help="The target set: roles (attention, mlp.down, vision:attention.q), names (q_proj,v_proj), all-linear "
    "or re:…, joined by + and removed by -.",
)  # fmt: skip
@click.option("--to", type=click.Choice(NAMES), required=True, help="The trainer to write for.")
@click.option("-r", "--rank", type=int, default=16, show_default=True, help="Rank of the LoRA.")
@click.option(
    "--alpha", type=float, help="lora_alpha: the update is scaled by alpha / rank.  [default: the rank]"
)
@click.option("--dropout", type=float, default=0.0, help="lora_dropout.  [default: 0]")
@click.option("--dora", is_flag=True, help="Weight-decomposed LoRA.")
@click.option("--rslora", is_flag=True, help="Scale by alpha / sqrt(rank).")
@click.option("--bias", type=click.Choice(["none", "all", "lora_only"]), help="Train biases of the model.")
@click.option("--lora-bias", is_flag=True, help="Give each adapter a bias.")
@click.option("--modules-to-save", metavar="NAMES", help="Train modules in full: lm_head,embed_tokens.")
@click.option("--trainable-tokens", multiple=True, metavar="IDS", help="Train rows of the embedding: 0,5-9.")
@click.option("--rank-pattern", multiple=True, metavar="PATTERN=R", help="Another rank for some modules.")
@click.option("--alpha-pattern", multiple=True, metavar="PATTERN=A", help="Another alpha for some modules.")
@click.option("--tie-weights", is_flag=True, help="Keep tied weights tied (ensure_weight_tying).")
@click.option("--task-type", metavar="TYPE", help="PEFT's task type: CAUSAL_LM, SEQ_CLS and the like.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, allow_dash=True), default="-",
    help="File to write.  [default: standard output]",
)  # fmt: skip
@source_options
def export(*, model: str, to: str, output: str, **options: Any) -> None:
    """Write the configuration with which a trainer adapts exactly --targets of MODEL.

    What the trainer has no words for is refused with the reason; nothing that means another set is ever
    written. MODEL is a hub id, a folder, or a path to a config.json. No weights are loaded.
    """
    from lora_probe.cli.output import write_text
    from lora_probe.cli.source_options import scanned
    from lora_probe.exporting import export as exported

    arguments = _arguments(options)
    write_text(output, exported(scanned(model, options), to=to, **arguments))


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of the library's `export`; what was left out keeps its default."""
    from lora_probe.cli.lora_words import read_alpha_pattern, read_names, read_rank_pattern, read_tokens

    given = {
        "use_dora": options["dora"],
        "use_rslora": options["rslora"],
        "bias": options["bias"],
        "lora_bias": options["lora_bias"],
        "modules_to_save": read_names(options["modules_to_save"]),
        "trainable_token_indices": read_tokens(options["trainable_tokens"], option="--trainable-tokens"),
        "rank_pattern": read_rank_pattern(options["rank_pattern"], option="--rank-pattern"),
        "alpha_pattern": read_alpha_pattern(options["alpha_pattern"], option="--alpha-pattern"),
        "ensure_weight_tying": options["tie_weights"],
        "task_type": options["task_type"],
    }
    asked = {name: value for name, value in given.items() if value not in (None, False, (), {})}
    return {**{name: options[name] for name in ("targets", "rank", "alpha", "dropout")}, **asked}
