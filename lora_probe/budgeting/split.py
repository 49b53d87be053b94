"""The cost of one row, by role and layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.budgeting.count import Origin
from lora_probe.budgeting.records import By, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.budgeting.cost import SetCost, Share

__all__ = ["ROLELESS", "split"]

ROLELESS = {
    Origin.ADAPTER: "other",
    Origin.TOKENS: "token rows",
    Origin.COPY: "copies",
    Origin.BIAS: "biases",
}
"""What takes the place of a role where no site is adapted: why the elements are trained."""


def split(cost: SetCost, targets: str, rank: int, by: By) -> Iterator[Part]:
    """Yield the parts of one row, in the order of the model; they add up to its trainable parameters."""
    elements: dict[tuple[str | None, int | None], int] = {}
    sites: dict[tuple[str | None, int | None], int] = {}
    for share in cost.shares:
        key = _key(share, by)
        elements[key] = elements.get(key, 0) + cost.elements(share, rank)
        sites[key] = sites.get(key, 0) + (share.site is not None)
    for (role, layer), count in elements.items():
        yield Part(
            targets=targets,
            rank=rank,
            role=role,
            layer=layer,
            sites=sites[role, layer],
            trainable_parameters=count,
        )


def _key(share: Share, by: By) -> tuple[str | None, int | None]:
    role = share.site.role if share.site else ROLELESS[share.origin]
    layer = share.site.layer if share.site else None
    return (None if by is By.LAYER else role), (None if by is By.ROLE else layer)
