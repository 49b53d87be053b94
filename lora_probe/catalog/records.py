"""What the catalogue says of one model, and how a line of its data files is read and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Entry", "Evidence", "Provenance", "PublishedTotal", "Scope"]


class Evidence(str, Enum):
    """What kind of public file a config was taken from, strongest first."""

    FILE = "file"
    """The model's own config.json, as a public repository holds it."""
    RECONSTRUCTED = "reconstructed"
    """Text rebuilt from known figures, accepted only because its SHA-256 equals that of the hub's file."""
    PRESET = "preset"
    """Dimensions from another program's table of models, in the words of a config; what the table does not
    say takes the default of the config class."""
    COUNT = "count"
    """Sizes in the config of a sibling, chosen so that the total equals an exact published count; what a
    count cannot fix, as the number of heads, follows the sibling."""
    DERIVATIVE = "derivative"
    """The config of a relative with the same dimensions: fine-tune, conversion, quantized or plain copy."""


class Scope(str, Enum):
    """What a published figure counts."""

    MODEL = "model"
    """Every distinct parameter once: comparable with ``total_parameters``."""
    CHECKPOINT = "checkpoint"
    """The tensors of a checkpoint: tied weights twice, buffers included, where the checkpoint stores them."""
    BACKBONE = "backbone"
    """The model without its head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where the figures of an entry come from."""

    evidence: Evidence
    repository: str
    """``owner/name`` of the public repository."""
    path: str
    """File in that repository, for a table with the name of the row."""
    commit: str
    """Commit that held the file, or name and version of the released package that did."""
    hash_proven: bool
    """Whether the file's SHA-256 was seen to equal that of the file on the hub."""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTotal:
    """A parameter count that somebody else published for the same model, exact to the last parameter."""

    parameters: int
    scope: Scope
    source: str
    """File that states the count, the size in bytes, or the total behind a LoRA count."""
    difference: int = 0
    """`parameters` minus what the built model has in the same scope."""
    reason: str = ""
    """Why there is a difference; empty where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One published model: its config as published, and where it comes from."""

    model_id: str
    """Id on the hub, ``owner/name``, in the hub's own spelling."""
    aliases: tuple[str, ...]
    """Other ids that the hub redirects to this one."""
    family: str
    """One of text, experts, hybrid, encoder, encoder-decoder, vision, audio, multimodal."""
    total_parameters: int | None
    """Distinct parameters (tied weights once) of the class named by the config, as the transformers release
    :data:`lora_probe.catalog.check.RECORDED_WITH` builds it; None where that release has no such class."""
    provenance: Provenance
    published: PublishedTotal | None
    config: dict[str, Any] = field(hash=False)
    """The config.json, parsed afresh for each look-up: the caller may change it."""

    @property
    def model_type(self) -> str | None:
        """``model_type`` of the config, None where the file has none."""
        return _text(self.config.get("model_type"))

    @property
    def architecture(self) -> str | None:
        """First of the config's ``architectures``, None where the file names none."""
        named = self.config.get("architectures")
        return _text(named[0]) if isinstance(named, list) and named else None

    @property
    def remote_code(self) -> bool:
        """Whether the config points at Python code in its own repository (``auto_map``)."""
        return bool(self.config.get("auto_map"))

    def to_line(self) -> str:
        """Return the entry as a line of a data file, the inverse of :meth:`from_line`."""
        document = {"id": self.model_id} | asdict(self)
        del document["model_id"]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """Read what :meth:`to_line` wrote."""
        document = json.loads(line)
        where, published = document.pop("provenance"), document.pop("published")
        return cls(
            model_id=document.pop("id"),
            aliases=tuple(document.pop("aliases")),
            provenance=Provenance(evidence=Evidence(where.pop("evidence")), **where),
            published=published and PublishedTotal(scope=Scope(published.pop("scope")), **published),
            **document,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
