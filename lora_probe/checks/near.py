"""What a person probably meant by a name that a model does not have."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable
from lora_probe.targets.suffixes import shortest_suffixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lora_probe.checks.case import Case
    from lora_probe.graph import Site

__all__ = ["USUAL_NAMES", "parameter_names", "quoted", "suggestion"]

_SHOWN = 12
_FEW = 4
"""Names that fit into a suggestion."""
_ATTENTION = {
    "q": ("q_proj", "query", "q", "wq", "q_lin", "query_proj", "to_q", "q_a_proj"),
    "k": ("k_proj", "key", "k", "wk", "k_lin", "key_proj", "to_k"),
    "v": ("v_proj", "value", "v", "wv", "v_lin", "value_proj", "to_v"),
    "o": ("o_proj", "out_proj", "o", "wo", "out_lin", "to_out", "c_proj"),
    "qkv": ("qkv_proj", "qkv", "query_key_value", "c_attn", "Wqkv", "W_pack", "wqkv", "in_proj"),
}
_MLP = {
    "gate": ("gate_proj", "w1", "wi_0"),
    "up": ("up_proj", "w3", "wi_1", "fc1", "c_fc", "dense_h_to_4h", "fc_in"),
    "down": ("down_proj", "w2", "wo", "fc2", "dense_4h_to_h", "fc_out"),
    "gate_up": ("gate_up_proj", "wi", "gate_and_up_proj"),
}
_USUAL: Mapping[str, tuple[str, ...]] = {
    name: tuple(f"{block}.{part}" for block, parts in (("attention", _ATTENTION), ("mlp", _MLP))
                for part, names in parts.items() if name in names)
    for parts in (_ATTENTION, _MLP)
    for names in parts.values()
    for name in names
}  # fmt: skip
"""The roles that usually bear a name."""
USUAL_NAMES = tuple(_USUAL)
"""What projections are called in one model or another."""
_TOGETHER = {"attention": ("attention", "cross_attention")}
"""The blocks whose projections a name means alike."""
_HOLDS = {
    "q": ("q", "qkv", "qk", "q_up", "q_down"),
    "k": ("k", "qkv", "kv", "qk", "kv_up", "kv_down"),
    "v": ("v", "qkv", "kv", "kv_up"),
    "qkv": ("qkv", "q", "k", "v"),
    "gate": ("gate", "gate_up"),
    "up": ("up", "gate_up"),
    "gate_up": ("gate_up", "gate", "up"),
}
"""The parts in which a part may be fused, or into which it may be split, the nearest first."""


def suggestion(case: Case, name: str) -> str:
    """Return one line that says what to write for `name`, which matches nothing in the model."""
    leaf = name.rpartition(".")[2]
    roles = _USUAL.get(leaf, ())
    for role in roles:
        if same := _of_role(case, role):
            return f"write {quoted(same)}, which hold{'s' if len(same) == 1 else ''} {role} here"
    for role in roles:
        if others := case.called(block=role.partition(".")[0]):
            return f"drop it: there is no {role} here, only {quoted(others[:_SHOWN])}"
    if near := difflib.get_close_matches(leaf, case.leaves, n=3, cutoff=0.6):
        return f"close names here: {quoted(near)}"
    more = ", …" if len(case.leaves) > _SHOWN else ""
    return (
        f"names here: {quoted(case.leaves[:_SHOWN])}{more}" if case.leaves else "nothing here can be adapted"
    )


def quoted(names: Iterable[str]) -> str:
    """Return `names` as they stand in a list of `target_modules`."""
    return ", ".join(f'"{name}"' for name in names)


def parameter_names(sites: Iterable[Site]) -> tuple[str, ...]:
    """Return the entries of `target_parameters` that reach the bare parameters among `sites`."""
    parameters = (site.parameter for site in sites if site.adaptable is Adaptable.PARAMETER)
    return tuple(dict.fromkeys(_end(name) for name in parameters))


def _of_role(case: Case, role: str) -> tuple[str, ...]:
    """Return the entries of a list that mean `role` in the model, or the nearest to it, and nothing else.

    Where that would take many, the last segments are enough, with the one before where other roles bear
    the same.
    """
    block, _, part = role.partition(".")
    blocks = _TOGETHER.get(block, (block,))
    modules = [site for site in case.graph.sites if site.adaptable is Adaptable.MODULE]
    for each in _HOLDS.get(part, (part,)):
        of_role = [site for site in modules if site.block in blocks and site.part == each]
        if not any(site.block == block for site in of_role):
            continue
        exact = shortest_suffixes([site.path for site in of_role], case.inventory.paths)
        if exact is not None and len(exact) <= _FEW:
            return exact
        others = {site.name for site in modules if site.block not in blocks or site.part != each}
        ends = (_end(site.path) if site.name in others else site.name for site in of_role)
        return tuple(dict.fromkeys(ends))
    return ()


def _end(name: str) -> str:
    """Return the last two segments of a name."""
    return ".".join(name.split(".")[-2:])
