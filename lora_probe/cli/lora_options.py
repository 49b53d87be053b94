"""What a `LoraConfig` says beside targets and rank: the options that commands about a target set share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    _Command = TypeVar("_Command", bound=Callable[..., Any])

__all__ = ["TARGETS", "given", "lora_arguments", "lora_options"]

TARGETS = (
    "roles (attention, mlp.down, vision:attention.q), names (q_proj,v_proj), all-linear or re:…, "
    "joined by + and removed by -; lora-probe roles lists the words."
)
"""What a target set is, for the help of each command."""

_OPTIONS = (
    click.option("--dora", is_flag=True, help="Weight-decomposed LoRA: a magnitude for each output."),
    click.option("--rslora", is_flag=True, help="Scale by alpha / sqrt(rank), which costs nothing."),
    click.option(
        "--bias", type=click.Choice(["none", "all", "lora_only"]), help="Train biases of the model."
    ),
    click.option("--lora-bias", is_flag=True, help="Give each adapter a bias."),
    click.option("--modules-to-save", metavar="NAMES", help="Train modules in full: lm_head,embed_tokens."),
    click.option(
        "--trainable-tokens", multiple=True, metavar="IDS", help="Train rows of the embedding: 0,5-9."
    ),
    click.option("--rank-pattern", multiple=True, metavar="PATTERN=R", help="Another rank for some modules."),
    click.option("--tie-weights", is_flag=True, help="Keep tied weights tied (ensure_weight_tying)."),
    click.option(
        "--task-type", metavar="TYPE", help="PEFT's task type; SEQ_CLS also trains the new head in full."
    ),
)


def lora_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def lora_arguments(options: MutableMapping[str, Any]) -> dict[str, Any]:
    """Take the options of :func:`lora_options` out of `options`; return them as the library's arguments.

    What was left out keeps its default.

    Raises:
        LoraProbeError: a word cannot be read.

    """
    from lora_probe.cli.lora_words import read_names, read_rank_pattern, read_tokens

    return given(
        {
            "use_dora": options.pop("dora"),
            "use_rslora": options.pop("rslora"),
            "bias": options.pop("bias"),
            "lora_bias": options.pop("lora_bias"),
            "modules_to_save": read_names(options.pop("modules_to_save")),
            "trainable_token_indices": read_tokens(
                options.pop("trainable_tokens"), option="--trainable-tokens"
            ),
            "rank_pattern": read_rank_pattern(options.pop("rank_pattern"), option="--rank-pattern"),
            "ensure_weight_tying": options.pop("tie_weights"),
            "task_type": options.pop("task_type"),
        }
    )


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a person gave: neither None nor False nor empty."""
    return {name: value for name, value in arguments.items() if value not in (None, False, (), {})}
