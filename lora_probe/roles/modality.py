"""What a model is about as a whole: the tower of everything that stands outside of every named tower."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lora_probe.roles.tree import Node

__all__ = ["EVIDENCE", "own_modality"]

_MODALITIES = ("text", "vision", "audio", "time_series", "action", "protein")
_WORDS = (
    ("time_series", r"Time[Ss](eries|Fm)|PatchTS"),
    ("audio", r"Audio|Speech|Voice|Wav|Codec|Hubert|Sound|A[Ss][Rr]|Whisper|Vocoder|Conformer|TTS"),
    ("vision", r"Vision|Image|Video|Vi[Tt]|Pix|Depth|Segm|Detr|Detect"),
    ("text", r"CausalLM|LMHead|Text|Bert|MaskedLM"),
)
"""Words of class names that name a modality, where the weights themselves leave it open."""
_COLORS = 3
_BYTES = 256
"""Rows of the smallest table for text: one for each byte."""


@dataclass(frozen=True, slots=True)
class _Facts:
    towers: frozenset[str]
    """Towers that the module tree names."""
    outside: Sequence[Node]
    """Leaves that belong to none of them, in the model's order."""
    names: str
    """Model type, architecture and class of the root."""


def own_modality(root: Node, *, names: str) -> tuple[str, str]:
    """Return the tower of what stands outside of every tower, and the name of the evidence that decided."""
    leaves = [node for node in root.walk() if node.place is not None]
    facts = _Facts(
        towers=frozenset(node.tower for node in leaves),
        outside=[node for node in leaves if not node.tower],
        names=f"{names} {root.class_name}",
    )
    for name, look in _LOOKS.items():
        if tower := look(facts):
            return tower, name
    return "model", "no-evidence"


def _beside_encoder_and_decoder(facts: _Facts) -> str:
    return "decoder" if "decoder" in facts.towers and "text" not in facts.towers else ""


def _reads_actions(facts: _Facts) -> str:
    return "action" if "action" in facts.towers and "text" not in facts.towers else ""


def _named_for_images(facts: _Facts) -> str:
    """Tell an image model that reads its pixels as tokens."""
    named = "Image" in facts.names and "Text" not in facts.names
    return "vision" if named and "text" not in facts.towers else ""


def _reads_tokens(facts: _Facts) -> str:
    reads = any("tokens" in node.senses for node in facts.outside)
    return "text" if reads or "text" in facts.towers else ""


def _only_modality(facts: _Facts) -> str:
    known = [tower for tower in _MODALITIES if tower in facts.towers]
    return known[0] if len(known) == 1 else ""


def _first_weights(facts: _Facts) -> str:
    return next(filter(None, map(_reads, facts.outside)), "")


def _named_for_input(facts: _Facts) -> str:
    return next((tower for tower, pattern in _WORDS if re.search(pattern, facts.names)), "")


def _one_channel(facts: _Facts) -> str:
    """Tell a model of spectrograms by its first convolution, once nothing says that it reads grey images."""
    first = next((node.place for node in facts.outside if node.kind == "conv"), None)
    return "audio" if first is not None and _is_square_kernel(first.in_features, channels=1) else ""


_LOOKS: Mapping[str, Callable[[_Facts], str]] = {
    "beside-encoder-and-decoder": _beside_encoder_and_decoder,
    "reads-actions": _reads_actions,
    "named-for-images": _named_for_images,
    "reads-tokens": _reads_tokens,
    "only-modality": _only_modality,
    "first-weights": _first_weights,
    "named-for-its-input": _named_for_input,
    "one-channel": _one_channel,
}
"""In the order in which they are tried."""

EVIDENCE: Mapping[str, str] = {
    "beside-encoder-and-decoder": "outside of an encoder and a decoder, weights serve the decoder",
    "reads-actions": "the model embeds or predicts actions",
    "named-for-images": "the model is named for images, which it reads as tokens",
    "reads-tokens": "a table of tokens, or a text tower",
    "only-modality": "all named towers are of one modality",
    "first-weights": "the first weights read: a large table, or a convolution over colours or time",
    "named-for-its-input": "the names of the classes",
    "one-channel": "the first convolution reads one channel, as of a spectrogram",
    "no-evidence": "nothing tells what the model reads",
}
"""Why each piece of evidence that an explanation names proves a modality."""


def _reads(leaf: Node) -> str:
    """Return what a weight reads, if it is one that stands at a model's input; else nothing.

    A table of many rows is for tokens, unless for positions. A convolution over three channels of a square
    kernel reads an image; along one dimension, sound. A matrix may cut patches, too.
    """
    place = leaf.place
    if place is None:
        return ""
    if leaf.kind == "embedding" and "pos" not in leaf.name and place.in_features >= _BYTES:
        return "text"
    if leaf.kind != "conv" and "patch" not in f"{leaf.name} {leaf.parent_name}":
        return ""
    class_name = place.classes[-1]
    if "1d" in class_name:
        return "audio"
    images = "3d" in class_name or _is_square_kernel(place.in_features, channels=_COLORS)
    return "vision" if images else ""


def _is_square_kernel(in_features: int, *, channels: int) -> bool:
    side = isqrt(in_features // channels)
    return side > 1 and in_features == channels * side * side
