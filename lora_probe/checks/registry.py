"""All rules, found by being there.

Every module of `lora_probe.checks.lints` declares one, every serving engine several.
"""

from __future__ import annotations

import difflib
import pkgutil
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from lora_probe.checks import lints
from lora_probe.checks.serving import ENGINES
from lora_probe.errors import UnknownRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.checks.rule import Rule

__all__ = ["explain", "rules"]


@lru_cache(maxsize=1)
def rules() -> Mapping[str, Rule]:
    """Return every rule by its name, in alphabetical order."""
    found = [
        import_module(f"{lints.__name__}.{module.name}").RULE
        for module in pkgutil.iter_modules(lints.__path__)
    ]
    found += [rule for engine in ENGINES.values() for rule in engine.rules()]
    return {rule.name: rule for rule in sorted(found, key=lambda rule: rule.name)}


def explain(name: str) -> str:
    """Return the documentation of the rule `name` as plain text.

    Raises:
        UnknownRule: there is no such rule; names those that look like it.

    """
    known = rules()
    if name not in known:
        raise UnknownRule(name=name, near=difflib.get_close_matches(name, known, n=3) or tuple(known))
    return known[name].explanation
