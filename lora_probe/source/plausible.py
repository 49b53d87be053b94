"""Refuse sizes that no model has, before any code of a model class sees them.

The bounds lie one to three orders of magnitude above published models: they stop 10^9 layers and negative
widths, never a large model. What only some class would choke on is left to :mod:`lora_probe.source.limits`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lora_probe.errors import ImplausibleConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["require_plausible"]

_BOUNDS: tuple[tuple[str, re.Pattern[str], int], ...] = (
    (
        "layers",
        re.compile(
            r"(?:num|n)_(?:\w+_)?(?:layers?|blocks|stages)|(?:\w+_)?num_(?:hidden_)?layers"
            r"|(?:encoder|decoder|text|vision|audio)_layers|layers|depths?"
        ),
        2_000,
    ),
    ("experts", re.compile(r"(?:num|n)_(?:\w+_)?experts|moe_num_experts"), 100_000),
    (
        "heads",
        re.compile(r"(?:\w+_)?(?:num|n)_(?:\w+_)?heads?|(?:encoder|decoder)_attention_heads"),
        100_000,
    ),
    (
        "width",
        re.compile(
            r"(?:\w+_)?(?:hidden|intermediate|embed|embedding|ffn|inner)_(?:size|dim)s?"
            r"|(?:\w+_)?head_dim|d_(?:model|ff|kv|inner)|n_(?:embd|embed|inner)|ffn_dim|dim"
        ),
        5_000_000,
    ),
    ("vocabulary", re.compile(r"(?:\w+_)?vocab_size(?:_\w+)?"), 100_000_000),
)
"""What a field's name says it counts, and the most that is accepted."""
_FREE_TEXT = frozenset({"id2label", "label2id", "task_specific_params", "quantization_config", "auto_map"})
"""Fields whose keys are labels or module names, not sizes."""
_UNSET = (None, "None")
"""Some exporters write Python's None as a string."""
_LONGEST = 40


def require_plausible(config: Mapping[str, Any]) -> None:
    """Check every field that names a size, at every level of `config`, and the two that name classes.

    Raises:
        ImplausibleConfig: a size is no whole number, negative, or beyond its bound, or a name is no text;
            gives the field's path.

    """
    _require_names(config)
    for path, name, value in _leaves(config):
        for what, pattern, bound in _BOUNDS:
            if pattern.fullmatch(name):
                _require_size(value, path=path, what=what, bound=bound)
                break


def _require_names(config: Mapping[str, Any]) -> None:
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(model_type, (str, type(None))):
        raise ImplausibleConfig(path="model_type", value=_shown(model_type), problem="must be a string")
    named = architectures if isinstance(architectures, list) else [architectures or ""]
    if not all(isinstance(name, str) for name in named):
        problem = "must be a list of class names"
        raise ImplausibleConfig(path="architectures", value=_shown(architectures), problem=problem)


def _require_size(value: Any, *, path: str, what: str, bound: int) -> None:
    problem = None
    if isinstance(value, bool) or not (isinstance(value, int) or _is_whole(value)):
        problem = "must be a whole number"
    elif value < 0:
        problem = "must not be negative"
    elif value > bound:
        problem = f"is beyond any published model (at most {bound:,} for {what})"
    if problem:
        raise ImplausibleConfig(path=path, value=_shown(value), problem=problem)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _leaves(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield path, field name and value of every leaf that is set; items of a list carry the list's name."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _FREE_TEXT:
                yield from _leaves(item, f"{path}.{key}" if path else str(key), str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]", name)
    elif value not in _UNSET:
        yield path, name, value


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return f"a number of {len(str(abs(value)))} digits"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
