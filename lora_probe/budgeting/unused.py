"""Options that name nothing in the model: PEFT passes over them, and trains something else."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from lora_probe.errors import UnmatchedTarget
from lora_probe.peft_rules.matching import pattern_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.peft_rules import Inventory, LoraSettings, Prediction

__all__ = ["check_patterns", "check_saved"]


def check_saved(settings: LoraSettings, inventory: Inventory) -> None:
    """Check that the modules to save are there.

    Raises:
        UnmatchedTarget: an entry of `modules_to_save` is the end of no module's path.

    """
    for entry in settings.modules_to_save:
        if not any(path.endswith(entry) for path in inventory.paths):
            raise _unmatched(entry, "in modules_to_save is no module of this model", inventory.paths)


def check_patterns(settings: LoraSettings, prediction: Prediction) -> None:
    """Check that every pattern of ranks or alphas applies to something.

    Raises:
        UnmatchedTarget: a pattern of ranks or alphas applies to no adapter.

    """
    keys = [adapter.key for adapter in prediction.adapters]
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(settings, name):
            if not any(pattern_key((pattern,), key) for key in keys):
                raise _unmatched(pattern, f"in {name} applies to nothing that is adapted", keys)


def _unmatched(name: str, problem: str, paths: Iterable[str]) -> UnmatchedTarget:
    leaves = dict.fromkeys(path.rpartition(".")[2] for path in paths)
    return UnmatchedTarget(target=name, problem=problem, near=get_close_matches(name[:200], leaves, n=4))
