"""Which adapters PEFT makes for a module or parameter, and which it refuses (peft/tuners/lora/layer.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.graph import Kind
from lora_probe.peft_rules.inventory import paths_around
from lora_probe.peft_rules.matching import pattern_key
from lora_probe.peft_rules.records import Adapter
from lora_probe.peft_rules.tables import is_refused_in_mamba

if TYPE_CHECKING:
    from collections.abc import Collection

    from lora_probe.peft_rules.inventory import Inventory, Parameter
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["adapt_module", "adapt_parameter", "check_reachable", "rank_of"]

_WRAPPABLE = frozenset({2, 3})
"""Dimensions of the parameters that PEFT can wrap."""


def rank_of(settings: LoraSettings, key: str) -> int:
    """Return the rank of the adapter on `key`: the first pattern's that applies, else the common one."""
    if not settings.rank_pattern:
        return settings.rank
    found = pattern_key(settings.rank_pattern, key)
    return settings.rank if found is None else settings.rank_pattern[found]


def adapt_module(path: str, settings: LoraSettings, inventory: Inventory) -> list[Adapter]:
    """Return the adapters of the module at `path`: one, but two for a packed attention and its output.

    Raises:
        PeftRefusal: PEFT has no layer for its class, or none with these options.

    """
    _check_mamba(path, inventory)
    site = inventory.by_module.get(path)
    if site is None:
        name = inventory.classes.get(path) or "module"
        raise PeftRefusal(
            rule="unsupported-module", reason=f"it has no LoRA layer for a {name}", where=[path]
        )
    rank = rank_of(settings, path)
    if site.kind is Kind.EMBEDDING and settings.lora_bias:
        raise PeftRefusal(rule="embedding-bias", reason="lora_bias is not made for embeddings", where=[path])
    if site.kind is Kind.CONV and rank % site.groups:
        reason = f"rank {rank} is no multiple of the convolution's {site.groups} groups"
        raise PeftRefusal(rule="conv-groups", reason=reason, where=[path])
    adapter = Adapter(key=path, module=path, rank=rank, site=site)
    if site.kind is not Kind.PACKED_ATTENTION:
        return [adapter]
    if settings.use_dora:
        raise PeftRefusal(
            rule="attention-dora", reason="DoRA is not made for MultiheadAttention", where=[path]
        )
    output = f"{path}.out_proj"
    return [adapter, Adapter(key=path, module=output, rank=rank, site=inventory.by_module.get(output))]


def adapt_parameter(parameter: Parameter, settings: LoraSettings, inventory: Inventory) -> Adapter:
    """Return the adapter of one parameter that `target_parameters` names.

    Raises:
        PeftRefusal: it is no matrix (or stack of them), it belongs to the root, or an option forbids it.

    """
    if not parameter.module:
        reason = "a parameter of the top-level module cannot be targeted"
        raise PeftRefusal(rule="root-parameter", reason=reason, where=[parameter.name])
    _check_mamba(parameter.module, inventory)
    if len(parameter.shape) not in _WRAPPABLE:
        reason = f"a parameter must have 2 or 3 dimensions, not {len(parameter.shape)}"
        raise PeftRefusal(rule="parameter-dimensions", reason=reason, where=[parameter.name])
    for option, given in (
        ("lora_dropout", settings.dropout),
        ("lora_bias", settings.lora_bias),
        ("DoRA", settings.use_dora),
    ):
        if given:
            reason = f"{option} does not go with target_parameters"
            raise PeftRefusal(rule="parameter-option", reason=reason, where=[parameter.name])
    return Adapter(
        key=parameter.name,
        module=parameter.module,
        rank=rank_of(settings, parameter.name),
        site=parameter.site,
        parameter=parameter,
    )


def check_reachable(path: str, wrapped: Collection[str]) -> None:
    """Check that no module around the one at `path` is `wrapped`: the wrapper hides what its module holds.

    Raises:
        PeftRefusal: one of them is.

    """
    for around in paths_around(path):
        if around in wrapped:
            reason = f"the adapter of {around} hides the modules that it holds"
            raise PeftRefusal(rule="inside-adapted", reason=reason, where=[path])


def _check_mamba(path: str, inventory: Inventory) -> None:
    model_type = inventory.graph.model_type
    if is_refused_in_mamba(path, model_type):
        name = path.rpartition(".")[2]
        reason = f"{name} is read past its adapter by the fused kernels of {model_type}"
        raise PeftRefusal(rule="mamba-module", reason=reason, where=[path])
