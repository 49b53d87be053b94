"""From a target set to the text of a trainer's configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.choice import LoraOptions, choose
from lora_probe.budgeting.ranks import read_ranks
from lora_probe.budgeting.unused import check_patterns, check_saved
from lora_probe.errors import BadQuantity, UnknownChoice
from lora_probe.exporting import (
    axolotl,
    llama_factory,
    megatron_bridge,
    mlx_lm,
    ms_swift,
    nemo_automodel,
    peft,
    torchtune,
    trl,
    unsloth,
)
from lora_probe.exporting.plan import Plan
from lora_probe.peft_rules import Inventory, predict
from lora_probe.targets import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Unpack

    from lora_probe.graph import ModuleGraph

__all__ = ["TRAINERS", "ExportOptions", "export"]

TRAINERS: Mapping[str, Callable[[Plan], str]] = {
    "peft": peft.write,
    "llama-factory": llama_factory.write,
    "axolotl": axolotl.write,
    "ms-swift": ms_swift.write,
    "unsloth": unsloth.write,
    "trl": trl.write,
    "torchtune": torchtune.write,
    "nemo-automodel": nemo_automodel.write,
    "megatron-bridge": megatron_bridge.write,
    "mlx-lm": mlx_lm.write,
}
"""What writes the configuration of each trainer."""
_ESCAPING = frozenset({"peft"})
"""Those whose form, JSON, holds any name."""
_HIGHEST_ALPHA = 2**30
"""An alpha beyond is a slip of the keyboard; no rank is as high."""


class ExportOptions(LoraOptions, total=False):
    """What else an export carries where the trainer has words for it."""

    alpha_pattern: Mapping[str, float]


def export(
    graph: ModuleGraph,
    targets: TargetSpec | str | Sequence[str],
    *,
    to: str,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    **options: Unpack[ExportOptions],
) -> str:
    """Return the configuration with which a trainer adapts exactly `targets`, as the text of a file.

    Args:
        graph: The model, as `scan` returns it.
        targets: A target set in the grammar of `resolve`.
        to: The trainer, one of `lora_probe.exporting.TRAINERS`.
        rank: r.
        alpha: lora_alpha, which divided by r scales the update; by default the rank.
        dropout: lora_dropout.
        **options: What else a `LoraConfig` says, by the names of :class:`ExportOptions`.

    Whatever is returned was read again the way the trainer reads it, over the whole model, and gave the same
    weights, ranks and alphas.

    Raises:
        LoraProbeError: The target set cannot be read or matches nothing, PEFT would refuse it, or an option
            is unknown.
        NotExportable: The trainer cannot be told this; says why.

    """
    if to not in TRAINERS:
        raise UnknownChoice(option="to", value=to, known=tuple(TRAINERS))
    plan = _plan(graph, targets, trainer=to, rank=rank, alpha=alpha, dropout=dropout, options=options)
    if to not in _ESCAPING:
        plan.check_names()
    return TRAINERS[to](plan)


def _plan(
    graph: ModuleGraph,
    targets: TargetSpec | str | Sequence[str],
    *,
    trainer: str,
    rank: int,
    alpha: float | None,
    dropout: float,
    options: Mapping[str, Any],
) -> Plan:
    (rank,) = read_ranks(rank, where="rank")
    alpha = _positive(alpha) if alpha is not None else rank
    if not 0 <= dropout < 1:
        raise BadQuantity(
            option="dropout", text=str(dropout), problem="is no share from 0 to below 1", example="0.05"
        )
    known = dict(options)
    alphas = known.pop("alpha_pattern", {})
    text = _text(targets)
    inventory = Inventory(graph)
    settings = replace(
        choose(inventory, text, known).settings, rank=rank, alpha=alpha, dropout=dropout, alpha_pattern=alphas
    )
    prediction = predict(inventory, settings)
    check_saved(settings, inventory)
    check_patterns(settings, prediction)
    return Plan(trainer=trainer, inventory=inventory, text=text, settings=settings, prediction=prediction)


def _text(targets: TargetSpec | str | Sequence[str]) -> str:
    if isinstance(targets, TargetSpec):
        return targets.text or str(targets)
    return targets if isinstance(targets, str) else ",".join(targets)


def _positive(alpha: float) -> float:
    if not 0 < alpha <= _HIGHEST_ALPHA:
        problem = f"is no positive number up to {_HIGHEST_ALPHA:,}"
        raise BadQuantity(option="alpha", text=str(alpha), problem=problem, example="32")
    return int(alpha) if alpha == int(alpha) else alpha
