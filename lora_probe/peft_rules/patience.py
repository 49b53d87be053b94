"""A bound on the time that a person's regular expressions take: Python's matcher has none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lora_probe.deadline import alarm
from lora_probe.errors import SlowExpression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["patience"]

SECONDS = 10.0
"""Time for one prediction that matches expressions; on the largest models it takes a tenth of a second."""


@contextmanager
def patience(settings: LoraSettings) -> Iterator[None]:
    """Run the block, which matches the expressions of `settings`, for 10 seconds at most.

    In the main thread only, which alone can be interrupted (`lora_probe.deadline.alarm`).

    Raises:
        SlowExpression: it takes longer.

    """
    expressions = _expressions(settings)
    if not expressions:
        yield
        return

    def give_up() -> None:
        raise SlowExpression(expressions=expressions, seconds=SECONDS)

    with alarm(SECONDS, give_up):
        yield


def _expressions(settings: LoraSettings) -> tuple[str, ...]:
    """Return what PEFT reads as regular expressions: also parts of names, where it says nothing of that."""
    targets = None if settings.is_all_linear else settings.target_modules
    found = [text for text in (targets, settings.exclude_modules) if isinstance(text, str)]
    layers = settings.layers_pattern or ()
    found += [layers] if isinstance(layers, str) else layers
    found += [*settings.modules_to_save, *settings.rank_pattern, *settings.alpha_pattern]
    return tuple(found)
