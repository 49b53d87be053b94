"""What is trained beside the adapters: full copies of modules, rows of embeddings (peft/utils/other.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.graph import Kind
from lora_probe.peft_rules.inventory import paths_around
from lora_probe.peft_rules.records import SavedCopy, TokenRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lora_probe.peft_rules.inventory import Inventory
    from lora_probe.peft_rules.records import Adapter
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["saved_copies", "token_rows"]

_CONTAINERS = frozenset({"ModuleDict", "ModuleList", "ParameterDict", "ParameterList"})


def saved_copies(
    settings: LoraSettings, inventory: Inventory, adapters: Sequence[Adapter], *, tied: Sequence[str]
) -> tuple[SavedCopy, ...]:
    """Return the modules of which `modules_to_save` trains a copy.

    PEFT takes every module whose path merely ends with the characters of an entry: ``head`` takes
    ``lm_head``.

    Raises:
        PeftRefusal: one of them is a list of modules, is adapted itself, or holds another or an adapted
            module, where what PEFT trains is an accident.

    """
    paths = _ending(inventory.paths, settings.modules_to_save)
    adapted = {adapter.module for adapter in adapters}
    for path in paths:
        _check_wrappable(path, inventory, adapted)
        start = f"{path}."
        if inner := [each for each in (*paths, *adapted) if each.startswith(start)]:
            reason = f"modules_to_save copies {path} around what is adapted or copied itself"
            raise PeftRefusal(rule="nested-copy", reason=reason, where=inner)
    copies = {path: SavedCopy(path=path) for path in paths}
    if tied and inventory.graph.input_embedding not in copies:
        reason = "ensure_weight_tying needs a copy of the input embedding, which is not made"
        raise PeftRefusal(rule="tie-without-embedding", reason=reason)
    for path in _ending(inventory.paths, tied):
        if path in copies:  # the embedding itself, which some models count among what is tied to it
            continue
        _check_wrappable(path, inventory, adapted)
        if not copies.keys().isdisjoint(paths_around(path)):
            reason = "a tied module lies in a module that is copied itself"
            raise PeftRefusal(rule="nested-copy", reason=reason, where=[path])
        copies[path] = SavedCopy(path=path, tied=True)
    return tuple(copies.values())


def token_rows(
    settings: LoraSettings, inventory: Inventory, adapters: Sequence[Adapter], saved: Sequence[SavedCopy]
) -> tuple[TokenRows, ...]:
    """Return the embedding rows that `trainable_token_indices` trains.

    Raises:
        PeftRefusal: a name fits no module, or one that is adapted or saved in full; an index is beyond the
            rows of one; or tied modules get different rows although `ensure_weight_tying` is given.

    """
    embedding, given = inventory.graph.input_embedding, settings.trainable_token_indices
    if given is None:
        return ()
    wanted = given if isinstance(given, Mapping) else {embedding or "embed_tokens": given}
    if both := [name for name in wanted if name in settings.modules_to_save]:
        reason = "rows of a module are asked for and its full copy, too"
        raise PeftRefusal(rule="tokens-saved", reason=reason, where=both)
    ties = inventory.tied_to_embedding if inventory.graph.tie_word_embeddings else ()
    tied = [name for name in wanted if _is_tied(name, inventory, ties)]
    agree = len({wanted[name] for name in tied}) <= 1
    if not agree and settings.ensure_weight_tying:
        raise PeftRefusal(rule="tokens-differ", reason="tied modules must get the same rows", where=tied)
    adapted = {adapter.module for adapter in adapters}
    # An adapted module goes by the name of its base layer by now, so that PEFT does not see that it is tied.
    served = set(ties) - adapted if len(tied) > 1 and agree else set()
    found = {
        path: TokenRows(path=path, rows=len(rows), width=_width(path, rows, inventory))
        for name, rows in wanted.items()
        if name not in served
        for path in _wrappable(name, inventory, adapted)
    }
    if embedding in found and agree:
        for path in ties:
            found.setdefault(path, replace(found[embedding], path=path, tied=True))
    copied = {copy.path for copy in saved}
    if both := [path for path in found if copied.intersection((path, *paths_around(path)))]:
        reason = "rows of a module that modules_to_save copies are asked for"
        raise PeftRefusal(rule="nested-copy", reason=reason, where=both)
    return tuple(found.values())


def _wrappable(name: str, inventory: Inventory, adapted: set[str]) -> list[str]:
    """Return the modules whose path ends with `name`, each of them fit to be wrapped."""
    paths = _ending(inventory.paths, (name,))
    if not paths:
        raise PeftRefusal(rule="tokens-missing", reason=f"no module's path ends with {name!r}")
    for path in paths:
        _check_wrappable(path, inventory, adapted)
    return paths


def _ending(paths: Iterable[str], entries: Sequence[str]) -> list[str]:
    return [path for path in paths if path.endswith(tuple(entries))] if entries else []


def _is_tied(name: str, inventory: Inventory, ties: Sequence[str]) -> bool:
    """Return whether PEFT takes `name` for the input embedding or for one of the modules tied to it."""
    embedding = inventory.graph.input_embedding
    return bool(ties and embedding) and (
        str(embedding).endswith(name) or any(path.endswith(name) or name in path.split(".") for path in ties)
    )


def _check_wrappable(path: str, inventory: Inventory, adapted: set[str]) -> None:
    if path in adapted:
        raise PeftRefusal(
            rule="wrapped-adapter", reason="a module is adapted and trained in full", where=[path]
        )
    if inventory.classes.get(path) in _CONTAINERS:
        raise PeftRefusal(rule="wrapped-container", reason="a list of modules cannot be copied", where=[path])


def _width(path: str, rows: Sequence[int], inventory: Inventory) -> int:
    """Return the elements of one row of the weight of the module at `path`.

    Raises:
        PeftRefusal: the module has no rows: it is no embedding and no linear layer; or it has too few.

    """
    site = inventory.by_module.get(path)
    if site is None or site.kind not in {Kind.EMBEDDING, Kind.LINEAR}:
        raise PeftRefusal(rule="tokens-without-rows", reason="token rows need an embedding", where=[path])
    has, width = site.in_features, site.out_features
    if site.kind is Kind.LINEAR:
        has, width = width, has
    if beyond := [row for row in rows if not -has <= row < has]:
        reason = f"token {beyond[0]} is beyond the {has:,} rows of an embedding that was not resized"
        raise PeftRefusal(rule="tokens-beyond", reason=reason, where=[path])
    return width
