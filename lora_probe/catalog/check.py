"""Prove the catalogue: ``python -m lora_probe.catalog.check``.

To add a model, append a line as :meth:`Entry.to_line` writes it, with ``total_parameters`` null, to the file
of its family and run the check with ``--write``: it sorts the files, builds every model on the meta device
and records what it counts. Nothing heavy is imported before something is built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from lora_probe.catalog.lookup import data_files
from lora_probe.catalog.records import Entry, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["RECORDED_WITH", "Measured", "disagreements", "flaws", "main", "measure"]

RECORDED_WITH = "5.23.0"
"""Release of transformers that built the recorded totals."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_ALIAS = re.compile(r"([\w.-]+/)?[\w.-]+", re.ASCII)
_RELEASE = re.compile(r"[0-9a-f]{40}|main|[\w.-]+ \d[\w.]*", re.ASCII)
_MOST_LABELS = 50
"""Longer label maps are written as ``num_labels``, which is all that they mean to the shapes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a built model holds, in elements, for each scope that a published figure may have."""

    parameters: int
    """Distinct parameters: tied weights once."""
    checkpoint: int
    """Every tensor of the state dict: tied weights as often as they are named, persistent buffers too."""
    backbone: int
    """Distinct parameters of the base model."""

    def within(self, scope: Scope) -> int:
        """Return the figure that `scope` asks for."""
        figures = {
            Scope.MODEL: self.parameters, Scope.CHECKPOINT: self.checkpoint, Scope.BACKBONE: self.backbone,
        }  # fmt: skip
        return figures[scope]


def measure(entry: Entry) -> Measured | None:
    """Build the entry's config on the meta device and count; None where transformers has no class for it."""
    from lora_probe.errors import LoraProbeError
    from lora_probe.source.build import build

    try:
        module = build(entry.config).module
    except LoraProbeError:
        return None
    return Measured(
        parameters=sum(each.numel() for each in module.parameters()),
        checkpoint=sum(each.numel() for each in module.state_dict().values()),
        backbone=sum(each.numel() for each in getattr(module, "base_model", module).parameters()),
    )


def disagreements(entry: Entry, measured: Measured | None) -> Iterator[str]:
    """Yield what a rebuilt model contradicts: the recorded total, or its distance from a published figure."""
    total = measured.parameters if measured else None
    if total != entry.total_parameters:
        yield f"{entry.model_id}: recorded {entry.total_parameters}, built {total}"
    if measured and entry.published:
        recorded = entry.published.difference
        difference = entry.published.parameters - measured.within(entry.published.scope)
        if difference != recorded:
            yield f"{entry.model_id}: a published figure differs by {difference}, recorded {recorded}"


def flaws(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what is wrong with the records themselves, without building anything."""
    owners: dict[str, str] = {}
    for entry in entries:
        for name in (entry.model_id, *entry.aliases):
            if (owner := owners.setdefault(name.casefold(), entry.model_id)) != entry.model_id:
                yield f"{entry.model_id}: {name} is also a name of {owner}"
        yield from (f"{entry.model_id}: {flaw}" for flaw in _flaws(entry))


def _flaws(entry: Entry) -> Iterator[str]:
    where, published = entry.provenance, entry.published
    if not _HUB_ID.fullmatch(entry.model_id):
        yield "the id is not owner/name"
    yield from (f"alias {name!r} is no id" for name in entry.aliases if not _ALIAS.fullmatch(name))
    if list(entry.aliases) != sorted(set(entry.aliases)):
        yield "aliases are not sorted, or repeat"
    if not _HUB_ID.fullmatch(where.repository) or not where.path:
        yield "the source is not a path in owner/name"
    if not _RELEASE.fullmatch(where.commit):
        yield f"{where.commit!r} is neither a commit nor a release"
    if not (entry.model_type or entry.architecture or where.hash_proven):
        yield "the config names neither model_type nor architectures"
    if max((len(value) for value in _label_maps(entry.config)), default=0) > _MOST_LABELS:
        yield "a label map this long is written as num_labels"
    if published and bool(published.difference) != bool(published.reason):
        yield "a difference from a published figure needs a reason, and a reason a difference"


def _label_maps(config: object) -> Iterator[dict[str, object]]:
    if isinstance(config, dict):
        for key, value in config.items():
            if key in {"id2label", "label2id"} and isinstance(value, dict):
                yield value
            yield from _label_maps(value)


def _recorded(entry: Entry, measured: Measured | None) -> Entry:
    """Return the entry with the figures of a rebuilt model."""
    published = entry.published
    if published and measured:
        published = replace(published, difference=published.parameters - measured.within(published.scope))
    return replace(entry, total_parameters=measured.parameters if measured else None, published=published)


def _canonical(entries: Iterable[Entry]) -> str:
    """Return the text of a data file."""
    return "".join(
        f"{entry.to_line()}\n" for entry in sorted(entries, key=lambda each: each.model_id.casefold())
    )


def _read(path: Path) -> list[Entry]:
    return [Entry.from_line(line) for line in path.read_text("utf-8").splitlines()]


@click.command()
@click.option("--write", is_flag=True, help="Record the totals that are counted, and sort the files.")
def main(*, write: bool) -> None:
    """Check every entry of the catalogue, and build it on the meta device."""
    import transformers

    if transformers.__version__ != RECORDED_WITH:
        click.echo(f"note: totals were recorded with transformers {RECORDED_WITH}", err=True)
    problems: list[str] = []
    everything: list[Entry] = []
    for path in data_files():
        entries = _read(path)
        measured = [measure(entry) for entry in entries]
        if write:
            entries = [_recorded(entry, found) for entry, found in zip(entries, measured, strict=True)]
            path.write_text(_canonical(entries), "utf-8")
        problems += [f"{path.stem}: {each.model_id} is of family {each.family}" for each in entries
                     if each.family != path.stem]  # fmt: skip
        if path.read_text("utf-8") != _canonical(entries):
            problems.append(f"{path.name} is not as --write leaves it")
        for entry, found in zip(entries, measured, strict=True):
            problems += disagreements(entry, found)
        everything += entries
    problems += flaws(everything)
    click.echo("\n".join([*problems, f"{len(everything)} entries, {len(problems)} problems"]))
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
