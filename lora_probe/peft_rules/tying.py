"""What `ensure_weight_tying` changes: adapters or copies of the input embedding serve the modules tied to it.

After `_check_tied_modules` (peft/tuners/tuners_utils.py) and `LoraModel._add_…_to_tie`
(peft/tuners/lora/model.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import islice, permutations
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.graph import Kind
from lora_probe.peft_rules.matching import compiled
from lora_probe.peft_rules.tables import EMBEDDING_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.peft_rules.inventory import Inventory
    from lora_probe.peft_rules.records import Adapter
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["Ties", "embedding_adapter", "tie_modules"]

_ORDERS = 120
"""All orders of five tied modules; no model has more that one name covers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ties:
    """How tied modules are treated, and the settings that this leaves for all others."""

    settings: LoraSettings
    adapted: tuple[str, ...] = ()
    """Modules that get the embedding's factors, after all others were adapted."""
    saved: tuple[str, ...] = ()
    """Modules whose copy shares the weight of the embedding's copy."""


def tie_modules(settings: LoraSettings, inventory: Inventory) -> Ties:
    """Return what becomes of `settings` where `ensure_weight_tying` is given and a tied module is trained."""
    tied = inventory.tied_to_embedding
    embedding = inventory.graph.input_embedding
    if not settings.ensure_weight_tying or not tied or embedding is None:
        return Ties(settings=settings)
    if any(_is_embedding_name(name) for name in settings.modules_to_save):
        saved = settings.modules_to_save
        saved += () if embedding in saved else (embedding,)
        return Ties(settings=replace(settings, modules_to_save=_left(saved, tied)), saved=tied)
    target = settings.target_modules
    if isinstance(target, str):
        if not any(compiled(target, field="target_modules").fullmatch(name) for name in EMBEDDING_NAMES):
            return Ties(settings=settings)
        target = rf"(?:{target}|^{re.escape(embedding)}$)"
    else:
        if not any(_is_embedding_name(name) for name in target or ()):
            return Ties(settings=settings)
        names = tuple(sorted({*(target or ()), embedding}))
        _require_one_each(names, tied)
        target = _without(names, tied)
    return Ties(settings=replace(settings, target_modules=target), adapted=tied)


def embedding_adapter(adapters: Sequence[Adapter], inventory: Inventory) -> Adapter:
    """Return the adapter whose factors the tied modules share.

    Raises:
        PeftRefusal: the input embedding got none, so that PEFT finds nothing to share.

    """
    for adapter in adapters:
        if (
            adapter.module == inventory.graph.input_embedding
            and adapter.site
            and adapter.site.kind is Kind.EMBEDDING
        ):
            return adapter
    reason = "ensure_weight_tying needs an adapter on the input embedding, which is left out"
    raise PeftRefusal(rule="tie-without-embedding", reason=reason)


def _require_one_each(names: tuple[str, ...], tied: Sequence[str]) -> None:
    """Refuse names of which several cover one tied module: PEFT drops one of them, by the order of a set."""
    left = set(names)
    for path in tied:
        covering = {name for name in left if _covers(name, path)}
        if len(covering) > 1:
            reason = f"which of several names PEFT drops for the tied {path} is left to chance"
            raise PeftRefusal(rule="ambiguous-tie", reason=reason, where=sorted(covering))
        left -= covering


def _left(saved: tuple[str, ...], tied: tuple[str, ...]) -> tuple[str, ...]:
    """Return `saved` less what covers the tied modules, which PEFT goes through in the order of a set.

    Raises:
        PeftRefusal: what is left depends on that order, which differs from run to run.

    """
    left = {_without(saved, order) for order in islice(permutations(tied), _ORDERS)}
    if len(left) > 1:
        reason = "which of several modules_to_save PEFT drops for tied modules is left to chance"
        raise PeftRefusal(rule="ambiguous-tie", reason=reason, where=sorted(saved))
    return left.pop()


def _covers(name: str, path: str) -> bool:
    return bool(compiled(rf"(^|.*\.){name}($|\..*)", field="target_modules").match(path))


def _is_embedding_name(name: str) -> bool:
    return name.rpartition(".")[2] in EMBEDDING_NAMES


def _without(names: tuple[str, ...], tied: Sequence[str]) -> tuple[str, ...]:
    """Return `names` less, for each tied module, the first that covers it."""
    left = list(names)
    for path in tied:
        for name in left:
            if _covers(name, path):
                left.remove(name)
                break
    return tuple(left)
