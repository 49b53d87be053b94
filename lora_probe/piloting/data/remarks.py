"""What a reader should know of how data was read, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.data.contents import Contents
    from lora_probe.piloting.data.preparing import Prepared

__all__ = ["left_out", "remarks"]

_ENOUGH_TO_TEST = 256
"""Examples from which an interval is narrow enough for usual differences."""


def remarks(
    contents: Contents, prepared: Prepared, *, more: bool, max_examples: int, max_length: int, test: int
) -> Iterator[str]:
    """Yield a sentence for everything that was left out, cut or is scarce."""
    if more:
        yield f"only the first {max_examples:,} rows were read (--max-examples)"
    if contents.empty:
        yield left_out(contents.empty, "empty row", "empty rows")
    if contents.duplicates:
        yield left_out(contents.duplicates, "repetition of another row", "repetitions of other rows")
    if prepared.truncated:
        share = prepared.tokens_cut / prepared.tokens
        yield (
            f"{prepared.truncated:,} of {prepared.total:,} examples {_were(prepared.truncated)} cut to "
            f"{max_length:,} tokens, which lost {share:.1%} of all tokens"
        )
    if prepared.untrained:
        what = "without a token to train on"
        yield left_out(prepared.untrained, f"example {what}", f"examples {what}")
    if prepared.alike:
        yield left_out(
            prepared.alike,
            "example that became equal to another by the cut",
            "examples that became equal to others by the cut",
        )
    if test < _ENOUGH_TO_TEST:
        yield (
            f"there are only {test:,} examples to test on: small differences will stay unresolved "
            f"({_ENOUGH_TO_TEST} or more are better)"
        )


def left_out(count: int, one: str, several: str) -> str:
    """Return how many of something were left out."""
    return f"{count:,} {one if count == 1 else several} {_were(count)} left out"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
