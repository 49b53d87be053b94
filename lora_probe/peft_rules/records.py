"""What PEFT will do, as records: adapters, copies and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.graph import Site
    from lora_probe.peft_rules.inventory import Parameter
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["Adapter", "Prediction", "SavedCopy", "TokenRows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One pair of low-rank factors that PEFT will add."""

    key: str
    """Full name that PEFT matched: of the module, or of the parameter where `parameter` is set."""
    module: str
    """Path of the module whose weight is adapted."""
    rank: int
    site: Site | None
    """The adapted weight's site; None where a parameter that is no site was named."""
    parameter: Parameter | None = None
    """The parameter, where PEFT adapts it by name; None where it adapts the module."""
    tied: bool = False
    """Whether the factors share the storage of the input embedding's (`ensure_weight_tying`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedCopy:
    """One module that `modules_to_save` trains in full, in a copy."""

    path: str
    tied: bool = False
    """Whether the copy shares the weight of the input embedding's copy (`ensure_weight_tying`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRows:
    """Rows of an embedding that `trainable_token_indices` trains."""

    path: str
    rows: int
    width: int
    tied: bool = False
    """Whether the rows are those of the input embedding."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What `peft.get_peft_model` will train for some settings on some model."""

    settings: LoraSettings
    """The settings as PEFT uses them, after its own rewriting of expert names, shorthands and defaults."""
    adapters: tuple[Adapter, ...]
    saved: tuple[SavedCopy, ...] = ()
    tokens: tuple[TokenRows, ...] = ()
    warnings: tuple[str, ...] = ()
    """What PEFT will warn of, in the words of this package."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The adapted sites, each once, in the order in which PEFT adapts them."""
        return tuple(
            {adapter.site.parameter: adapter.site for adapter in self.adapters if adapter.site}.values()
        )
