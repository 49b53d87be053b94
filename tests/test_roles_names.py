"""Roles where only names and shapes are known: a checkpoint's header, or another framework's model."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_probe import Kind
from lora_probe.roles import Place, assign_roles

TRUTH = Path(__file__).parent / "golden" / "roles_by_name.txt"


def families() -> dict[str, list[tuple[Place, str]]]:
    """Return the places of each family in the file, with their true roles."""
    found: dict[str, list[tuple[Place, str]]] = {}
    for line in TRUTH.read_text("utf-8").splitlines():
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            path, kind, shape, role = line.split()
            current.append((named_place(path, Kind(kind), *map(int, shape.split(">"))), role))
    return found


def named_place(path: str, kind: Kind, in_features: int, out_features: int) -> Place:
    """Return the place of a weight of which no class is known."""
    return Place(
        path=path,
        classes=("",) * (path.count(".") + 2),
        parameter="in_proj_weight" if kind is Kind.PACKED_ATTENTION else "weight",
        kind=kind,
        in_features=in_features,
        out_features=out_features,
    )


KNOWN = families()


@pytest.mark.parametrize("family", KNOWN)
def test_names_and_shapes_suffice(family: str) -> None:
    """Tower, block and part of every weight are those of the family's own code."""
    places, roles = zip(*KNOWN[family], strict=True)
    found = assign_roles(places, model_type="", architecture="")
    assert [f"{role.tower}:{role.block}.{role.part}" for role in found] == [*roles]
