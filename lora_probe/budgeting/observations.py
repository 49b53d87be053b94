"""What a reader of a budget should know beyond its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.graph import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.budgeting.cost import SetCost

__all__ = ["observe"]


def observe(cost: SetCost, targets: str, *, rank: int) -> Iterator[Note]:
    """Yield the notes on one set; `rank` is the highest of its rows."""
    for warning in cost.warnings:
        if "_pattern" in warning and not cost.settings.rank_pattern:
            continue  # PEFT made that pattern itself, of expert names, and then misses a module for it
        yield Note(code="peft-warning", message=f"{targets}: PEFT warns that {warning}")
    for name in cost.settings.modules_to_save:
        if not any(path.endswith(name) for path in cost.copies):
            yield Note(code="nothing-to-save", message=f"modules_to_save holds {name}, which is no module")
    if dropped := {site.parameter for site in cost.wanted} - {site.parameter for site in cost.sites}:
        yield Note(
            code="not-adapted",
            message=(
                f"{targets}: PEFT leaves out {len(dropped):,} of {len(cost.wanted):,} weights, "
                "since modules_to_save covers them"
            ),
        )
    if cost.unasked_bytes:
        yield Note(
            code="whole-embedding",
            message=(
                f"{targets}: PEFT stores the weights of the adapted embedding or head in the adapter's file, "
                f"too ({cost.unasked_bytes:,} bytes), unless it is saved with save_embedding_layers=False"
            ),
        )
    multiplied = {key.rpartition(".")[2] for key in cost.multiplied}
    if multiplied:
        yield Note(
            code="multiplied-rank",
            message=(
                f"{targets}: PEFT gives {', '.join(sorted(multiplied))} a multiple of the rank, since "
                "several names of transformers 4 became this one parameter"
            ),
        )
    full = sum(min(site.in_features, site.out_features) <= rank for site in cost.sites)
    if full:
        every = len(cost.sites)
        yield Note(
            code="full-rank",
            message=(
                f"{targets}: {full:,} of {every:,} weights have no more than {rank} rows or columns, so that "
                f"at r={rank} LoRA trains more than they hold"
            ),
        )
