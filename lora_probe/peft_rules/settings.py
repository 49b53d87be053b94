"""What a PEFT `LoraConfig` says about which weights are trained: its fields, checked as PEFT checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lora_probe.errors import PeftRefusal

__all__ = ["ALL_LINEAR", "LoraSettings"]

ALL_LINEAR = "all-linear"
"""PEFT's shorthand for every nn.Linear and Conv1D but the output embedding; read without regard to case."""

_BIAS_OPTIONS = frozenset({"none", "all", "lora_only"})
_TASK_TYPES = frozenset({
    "SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION",
})  # fmt: skip
"""`TaskType` in peft/utils/peft_types.py (0.21)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """The part of a `LoraConfig` that decides which weights get an adapter, of which shape, and what else.

    Fields carry PEFT's names, but for `rank` (`r`), `alpha` (`lora_alpha`) and `dropout` (`lora_dropout`);
    what PEFT documents about each holds here. Lists are tuples, so that settings compare with ``==``.

    Raises:
        PeftRefusal: PEFT would not take this combination, whatever the model.

    """

    rank: int = 8
    alpha: float = 8
    dropout: float = 0.0
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    target_parameters: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | int | None = None
    layers_pattern: tuple[str, ...] | str | None = None
    modules_to_save: tuple[str, ...] = ()
    trainable_token_indices: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None
    ensure_weight_tying: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    use_dora: bool = False
    use_rslora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    task_type: str | None = None

    def __post_init__(self) -> None:
        """Refuse what `LoraConfig` refuses, and ranks and bias options that PEFT refuses when injecting."""
        for name in ("layers_to_transform", "layers_pattern"):
            if isinstance(self.target_modules, str) and getattr(self, name) is not None:
                raise PeftRefusal(rule="layers-need-names", reason=f"{name} needs a list of target_modules")
        if self.layers_pattern and self.layers_to_transform is None:
            raise PeftRefusal(rule="pattern-needs-layers", reason="layers_pattern needs layers_to_transform")
        if self.lora_bias and self.use_dora:
            raise PeftRefusal(rule="dora-bias", reason="lora_bias and DoRA exclude each other")
        for rank in (self.rank, *self.rank_pattern.values()):
            if rank <= 0:
                raise PeftRefusal(rule="rank", reason=f"a rank must be at least 1, got {rank}")
        if self.dropout > 1:
            raise PeftRefusal(
                rule="dropout", reason=f"a dropout is a probability from 0 to 1, got {self.dropout}"
            )
        if self.bias not in _BIAS_OPTIONS:
            raise PeftRefusal(rule="bias", reason=f"bias must be none, all or lora_only, got {self.bias!r}")
        if self.task_type is not None and self.task_type not in _TASK_TYPES:
            reason = f"task_type must be one of {', '.join(sorted(_TASK_TYPES))}, got {self.task_type!r}"
            raise PeftRefusal(rule="task-type", reason=reason)

    @property
    def is_all_linear(self) -> bool:
        """Whether `target_modules` is PEFT's shorthand for the linear layers."""
        return isinstance(self.target_modules, str) and self.target_modules.lower() == ALL_LINEAR

    def to_lora_config(self) -> dict[str, Any]:
        """Return the arguments of the equal `LoraConfig`: JSON types, PEFT's names, defaults left out."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            _PEFT_NAMES.get(name, name): _json(value)
            for name, value in given.items()
            if value != _DEFAULTS[name] or name in {"rank", "alpha"}
        }


def _json(value: Any) -> Any:
    """Return `value` with new lists for tuples and new dicts for mappings."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _json(each) for key, each in value.items()}
    return value


_DEFAULTS = {item.name: item.default for item in fields(LoraSettings)}
_DEFAULTS.update(rank_pattern={}, alpha_pattern={})
_PEFT_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
