"""Short names for specifications that people use often; a preset is nothing but its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS"]

PRESETS: Mapping[str, str] = {
    "q": "attention.q",
    "k": "attention.k",
    "v": "attention.v",
    "o": "attention.o",
    "qkv": "attention.qkv",
    "qk": "attention.q+attention.k",
    "qv": "attention.q+attention.v",
    "qkvo": "attention.q+attention.k+attention.v+attention.o",
    "gate": "mlp.gate",
    "up": "mlp.up",
    "down": "mlp.down",
    "gate_up": "mlp.gate_up",
}
"""Text by name. Together they say the sets that the literature compares: ``qv``, ``o+down``, ``v+o+down``.

In a comma list every word is a name, as PEFT reads it: ``q,v`` are T5's modules, ``q+v`` are roles.
"""
