"""What reading ends with: rows, where each stands, and what the columns know of classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Rows", "class_names", "without_media"]

_MEDIA = frozenset({"Audio", "Image", "Mesh", "Nifti", "Pdf", "Video"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows as dictionaries, before anything is known of what their columns mean."""

    rows: tuple[Mapping[str, Any], ...]
    places: tuple[str, ...]
    """Where each row stands, as a person finds it: ``train.jsonl, line 3``."""
    more: bool = False
    """Whether there is more than was to be read."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the classes, of columns that carry them."""


def class_names(features: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that a dataset's features hold, also of columns of lists of classes."""
    found = {}
    for column, feature in (features or {}).items():
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            found[column] = tuple(names)
    return found


def without_media(dataset: Any) -> Any:
    """Return the dataset without columns of images, sound and the like, which would be decoded in vain."""
    features = (dataset.features or {}).items()
    media = [column for column, feature in features if type(feature).__name__ in _MEDIA]
    return dataset.remove_columns(media) if media else dataset
