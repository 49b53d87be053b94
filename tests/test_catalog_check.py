"""The proof of the catalogue: sources complete, totals rebuilt, published figures met or explained."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lora_probe import scan
from lora_probe.catalog import Entry, Evidence, Provenance, PublishedTotal, Scope, check, entries
from lora_probe.catalog.check import Measured, disagreements, flaws, measure

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = sorted({entry.family for entry in entries()})
REMOTE_ONLY = 47
"""Entries that transformers 5.23 cannot build: own code, other libraries' types, a missing vision library."""

tiny = Entry(
    model_id="owner/tiny",
    aliases=(),
    family="text",
    total_parameters=None,
    provenance=Provenance(
        evidence=Evidence.FILE, repository="some/copy", path="config.json", commit="0" * 40, hash_proven=False
    ),
    published=None,
    config={
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
        "n_positions": 16, "vocab_size": 32,
    },
)  # fmt: skip
TINY_TOTAL = 32 * 8 + 16 * 8 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8) + 3 * 16


def test_no_record_is_flawed() -> None:
    """Ids are unique whatever their case, and every entry says where it comes from."""
    assert list(flaws(entries())) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(tiny, model_id="tiny"), "not owner/name"),
        (replace(tiny, aliases=("b", "a")), "aliases are not sorted"),
        (replace(tiny, aliases=("a b",)), "is no id"),
        (replace(tiny, aliases=("OWNER/Tiny2", "gpt2")), "gpt2 is also a name of openai-community/gpt2"),
        (replace(tiny, config={}), "names neither"),
        (replace(tiny, config=tiny.config | {"id2label": {str(i): "x" for i in range(99)}}), "num_labels"),
        (replace(tiny, provenance=replace(tiny.provenance, repository="elsewhere")), "not a path in"),
        (replace(tiny, provenance=replace(tiny.provenance, commit="yesterday")), "neither a commit nor"),
        (
            replace(tiny, published=PublishedTotal(parameters=1, scope=Scope.MODEL, source="x", reason="y")),
            "needs a reason",
        ),
    ],
)
def test_each_flaw_is_named(wrong: Entry, says: str) -> None:
    """A record that leaves something out, repeats a name or points nowhere is reported by id and reason."""
    assert any(wrong.model_id in flaw and says in flaw for flaw in flaws([*entries(), wrong]))


def test_published_figures_are_met_or_explained() -> None:
    """Most published totals are met to the last parameter; each of the others says why it is not."""
    published = [entry.published for entry in entries() if entry.published and entry.total_parameters]
    exact = sum(not each.difference for each in published)
    reasons = Counter(each.reason for each in published if each.difference)
    assert exact >= 130
    assert "" not in reasons
    assert exact / len(published) > 0.7


def test_few_entries_have_no_total() -> None:
    """A total is missing only where the installed transformers has no class for the config."""
    assert sum(entry.total_parameters is None for entry in entries()) == REMOTE_ONLY


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smallest_of_each_family_has_its_total(family: str) -> None:
    """Building the smallest model of each family counts what is recorded."""
    built = [entry for entry in entries() if entry.family == family and entry.total_parameters]
    entry = min(built, key=lambda each: each.total_parameters or 0)
    assert list(disagreements(entry, measure(entry))) == []


@pytest.mark.census
@pytest.mark.parametrize("family", FAMILIES)
def test_every_total_is_rebuilt(family: str) -> None:
    """Each entry, built on the meta device, holds the recorded total and is as far from publications."""
    members = [entry for entry in entries() if entry.family == family]
    assert [line for entry in members for line in disagreements(entry, measure(entry))] == []


@pytest.mark.census
@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_scans_to_its_total(family: str) -> None:
    """A scan from the catalogue accounts for exactly the recorded parameters of each entry."""
    members = [entry for entry in entries() if entry.family == family and entry.total_parameters]
    found = {
        entry.model_id: scan(entry.model_id, source="catalogue", cache=False).total_parameters
        for entry in members
    }
    assert found == {entry.model_id: entry.total_parameters for entry in members}


def test_a_wrong_total_is_reported() -> None:
    """A recorded figure that the built model contradicts is named, and so is a wrong published difference."""
    published = PublishedTotal(parameters=TINY_TOTAL + 5, scope=Scope.BACKBONE, source="some/list")
    wrong = replace(tiny, total_parameters=1, published=published)
    assert list(disagreements(wrong, measure(wrong))) == [
        f"owner/tiny: recorded 1, built {TINY_TOTAL}",
        "owner/tiny: a published figure differs by 5, recorded 0",
    ]


def test_scopes_count_what_they_say() -> None:
    """Tied weights count once in the model and twice in its checkpoint."""
    assert measure(tiny) == Measured(
        parameters=TINY_TOTAL, checkpoint=TINY_TOTAL + 32 * 8, backbone=TINY_TOTAL
    )


def test_what_cannot_be_built_has_no_measure() -> None:
    """A type that transformers does not know is no error of the catalogue."""
    assert measure(replace(tiny, config={"model_type": "no-such-type"})) is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the check at a catalogue of one unmeasured and unsorted family."""
    lines = [replace(tiny, model_id="owner/zwei").to_line(), tiny.to_line()]
    (tmp_path / "text.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.setattr(check, "data_files", lambda: tuple(sorted(tmp_path.glob("*.jsonl"))))
    return tmp_path


def test_the_command_reports_and_then_records(folder: Path) -> None:
    """Without --write the check names what is wrong and changes nothing; with it, the next check passes."""
    before = (folder / "text.jsonl").read_text("utf-8")
    report = CliRunner().invoke(check.main, [])
    assert report.exit_code == 1
    assert "text.jsonl is not as --write leaves it" in report.output
    assert f"owner/tiny: recorded None, built {TINY_TOTAL}" in report.output
    assert (folder / "text.jsonl").read_text("utf-8") == before
    assert CliRunner().invoke(check.main, ["--write"]).exit_code == 0
    passed = CliRunner().invoke(check.main, [])
    assert (passed.exit_code, passed.stdout.splitlines()[-1]) == (0, "2 entries, 0 problems")


def test_a_family_lives_in_its_own_file(folder: Path) -> None:
    """An entry in the file of another family is reported."""
    (folder / "audio.jsonl").write_text(replace(tiny, model_id="owner/loud").to_line() + "\n", "utf-8")
    assert "audio: owner/loud is of family text" in CliRunner().invoke(check.main, []).output
