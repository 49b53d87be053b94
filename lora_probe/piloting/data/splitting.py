"""Train, tuning and test parts by a hash of what an example says, so that more data moves nothing."""

from __future__ import annotations

from lora_probe.piloting.records import Split

__all__ = ["SHARES", "part_of"]

SHARES = {Split.TEST: 0.2, Split.TUNING: 0.1, Split.TRAIN: 0.7}
"""Expected shares of the parts."""
_DIGITS = 15
"""Hexadecimal digits of the hash that place an example: 60 bits."""


def part_of(key: str) -> Split:
    """Return the part of an example whose content has the SHA-256 `key`, in hexadecimal.

    It depends on nothing but the content: not on the order of the data, on what else there is, or on chance.
    """
    place = int(key[:_DIGITS], 16) / 16**_DIGITS
    if place < SHARES[Split.TEST]:
        return Split.TEST
    return Split.TUNING if place < SHARES[Split.TEST] + SHARES[Split.TUNING] else Split.TRAIN
