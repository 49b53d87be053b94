"""What serving engines make of an adapter: one engine a module, each limit with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.serving import llama_cpp, lorax, sglang, tgi, vllm
from lora_probe.checks.serving.engine import Engine, Limit
from lora_probe.errors import UnknownEngine

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ENGINES", "Engine", "Limit", "find_engines"]

ENGINES = {each.ENGINE.name: each.ENGINE for each in (vllm, sglang, llama_cpp, tgi, lorax)}


def find_engines(names: Iterable[str]) -> tuple[Engine, ...]:
    """Return the engines of these names, each once; a text is a list with commas.

    Raises:
        UnknownEngine: there are no rules for one of them.

    """
    split = names.split(",") if isinstance(names, str) else names
    found = {}
    for name in split:
        key = name.strip().lower()
        if key not in ENGINES:
            raise UnknownEngine(name=name, known=tuple(ENGINES))
        found[key] = ENGINES[key]
    return tuple(found.values())
