"""What a reader should know of how data was read, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.data.contents import Contents
    from lora_probe.piloting.data.preparing import Prepared

__all__ = ["remarks"]

_ENOUGH_TO_TEST = 256
"""Examples from which an interval is narrow enough for usual differences."""


def remarks(
    contents: Contents, prepared: Prepared, *, more: bool, max_examples: int, max_length: int, test: int
) -> Iterator[str]:
    """Yield a sentence for everything that was left out, cut or is scarce."""
    if more:
        yield f"only the first {max_examples:,} rows were read (--max-examples)"
    if contents.empty:
        yield f"{contents.empty:,} empty rows were left out"
    if contents.duplicates:
        yield f"{contents.duplicates:,} repetitions of other rows were left out"
    if prepared.truncated:
        share = prepared.tokens_cut / prepared.tokens
        yield (
            f"{prepared.truncated:,} of {prepared.total:,} examples were cut to {max_length:,} tokens, "
            f"which lost {share:.1%} of all tokens"
        )
    if prepared.untrained:
        yield f"{prepared.untrained:,} examples without a token to train on were left out"
    if prepared.alike:
        yield f"{prepared.alike:,} examples that became equal to others by the cut were left out"
    if test < _ENOUGH_TO_TEST:
        yield (
            f"there are only {test:,} examples to test on: small differences will stay unresolved "
            f"({_ENOUGH_TO_TEST} or more are better)"
        )
