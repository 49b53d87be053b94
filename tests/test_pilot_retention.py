"""The retention text: measured at the end, beside the verdict, and hashed with the data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.data import DataOptions, load_data, with_retention
from lora_probe.piloting.errors import BadDataOption, ChangedUnderneath, MissingColumn, PlanDiffers
from lora_probe.piloting.log import read_history
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.outcome import Answer, Confidence, Relation
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.records import DataFacts, Evaluated, Failed, Split, Task
from lora_probe.piloting.run import compare, pilot
from lora_probe.report.pilot_csv import pilot_csv
from lora_probe.report.pilot_html import pilot_page
from lora_probe.report.pilot_markdown import pilot_markdown
from tests.pilot_runs import OPTIONS, make_data, make_model
from tests.pilot_tokenizers import byte_tokenizer
from tests.pilot_worlds import World, make_plan, run_pilot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lora_probe.piloting.outcome import Analysis
    from lora_probe.piloting.records import Plan, Result

FINALISTS = {"qv": 2.0, "mlp": 2.001}
"""Equally good within the margin; `qv` is recommended, as the first of equally cheap ones."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Return a plan with a retention text."""
    facts = DataFacts(source="data.jsonl", train_tokens=1500, retention="old.txt", retention_examples=2)
    return make_plan(*FINALISTS, data=facts)


def _analysed(plan: Plan, forgotten: Mapping[str, float]) -> Analysis:
    """Return the analysis of a world in which every arm loses so much on the retention text."""
    world = World(losses=FINALISTS, run_noise=1e-4, item_noise=1e-4, seed_noise=1e-5)
    results: list[Result] = []
    for each in run_pilot(plan, world):
        if isinstance(each, Evaluated) and each.split is Split.RETENTION:
            nats = 2.5 + forgotten.get(each.trial.candidate, 0.0)
            results.append(replace(each, nll=(10 * nats, 30 * nats), tokens=(10, 30), correct=None))
        else:
            results.append(each)
    return analyse(plan, results)


def test_only_what_came_to_the_end_is_measured_on_it(plan: Plan) -> None:
    """The base and every seed of the finalists are evaluated on the retention text, once and at the end."""
    losses = {"qv": 2.0, "mlp": 2.1, "attention": 2.9, "o+down": 2.8}
    results = run_pilot(make_plan(*losses, data=plan.data), World(losses=losses))
    seen = [each for each in results if isinstance(each, Evaluated) and each.split is Split.RETENTION]
    assert {(each.trial.candidate, each.step, each.trial.seed) for each in seen} == {
        ("base", 0, 0),
        *((name, plan.training.steps, seed) for name in ("qv", "mlp") for seed in plan.protocol.seeds),
    }
    assert len(seen) == 7
    without = replace(plan, data=replace(plan.data, retention="", retention_examples=0))
    assert not any(Split.RETENTION in unit.splits for unit in next_units(without, []))


def test_rows_say_what_is_forgotten(plan: Plan) -> None:
    """An arm's forgetting is its loss on that text less the base's, the mean over seeds."""
    rows = {row.candidate: row for row in _analysed(plan, {"qv": 0.03, "mlp": -0.01}).leaderboard}
    assert rows["qv"].retention_loss == pytest.approx(2.53)
    assert rows["qv"].forgotten == pytest.approx(0.03)
    assert rows["mlp"].forgotten == pytest.approx(-0.01)
    assert rows["base"].forgotten == 0


def test_forgetting_is_a_caveat_and_no_reason(plan: Plan) -> None:
    """Where the recommended arm forgets more than the margin beyond another, that is said; no more."""
    even, worse = _analysed(plan, {}), _analysed(plan, {"qv": 0.03, "mlp": 0.01})
    assert even.verdict.recommended == "qv"
    assert even.verdict.answer is Answer.EQUIVALENT
    assert not any(note.code == "forgets-more" for note in even.warnings)
    (note,) = (each for each in worse.warnings if each.code == "forgets-more")
    assert note.message.startswith("qv forgets more than mlp: ")
    assert "+0.0300" in note.message
    assert worse.verdict == replace(even.verdict, caveats=(*even.verdict.caveats, note.message))
    assert worse.verdict.confidence is even.verdict.confidence is not Confidence.LOW
    assert worse.comparisons == even.comparisons
    assert worse.comparisons[0].relation is Relation.EQUIVALENT


def test_within_the_margin_nothing_is_said(plan: Plan) -> None:
    """Forgetting that differs by less than the margin is shown in the rows only."""
    almost = _analysed(plan, {"qv": 0.0095, "mlp": 0.0})
    assert not any(note.code == "forgets-more" for note in almost.warnings)
    other = _analysed(plan, {"mlp": 0.5})
    assert not any(note.code == "forgets-more" for note in other.warnings)


def test_an_endless_loss_on_it_fails_no_trial(plan: Plan) -> None:
    """A retention loss that is infinite is forgetting without bounds, and the arm keeps its result."""
    found = _analysed(plan, {"qv": float("inf")})
    row = next(row for row in found.leaderboard if row.candidate == "qv")
    assert row.seeds == plan.protocol.seeds
    assert row.forgotten == float("inf")
    assert not any(isinstance(each, Failed) for each in found.failures)
    assert "forgets-more" in {note.code for note in found.warnings}
    assert found.to_frame()["forgotten"].dtype == float
    assert '"forgotten": "inf"' in found.to_json()


def test_every_form_of_a_report_shows_it(plan: Plan) -> None:
    """Table columns, CSV, JSON, frame, Markdown and page hold the forgetting, where it was asked for."""
    found = _analysed(plan, {"qv": 0.03, "mlp": 0.01})
    assert "forgotten" in pilot_csv(found).splitlines()[0]
    assert json.loads(found.to_json())["leaderboard"][0]["forgotten"] == pytest.approx(0.03)
    assert found.to_frame()["forgotten"].iloc[1] == pytest.approx(0.01)
    for text in (pilot_markdown(found), pilot_page(found)):
        assert "forgotten" in text
        assert "+0.0300" in text
        assert "old.txt" in text
        assert "qv forgets more than mlp" in text
    without = replace(plan, data=replace(plan.data, retention="", retention_examples=0))
    assert "forgotten" not in pilot_markdown(_analysed(without, {}))


def _load(path: Path, source: str, *, packing: bool = False, **options: Any) -> Any:
    told: dict[str, Any] = {"tokenizer": byte_tokenizer(pad="<pad>"), "max_length": 64}
    asked = DataOptions(tuning_items=50, test_items=50, **options)
    data = load_data(str(path / "data.jsonl"), task=Task.CAUSAL_LM, packing=packing, options=asked, **told)
    return data, with_retention(data, source, options=asked, **told)


@pytest.mark.parametrize("packing", [False, True])
def test_what_is_in_the_data_is_no_retention_text(tmp_path: Path, packing: bool) -> None:
    """Examples of the data, packed or not, are left out; the others are what a text without them gives."""
    make_data(tmp_path / "data.jsonl", rows=120)
    make_data(tmp_path / "other.jsonl", rows=30, seed=7)
    both = tmp_path / "both.jsonl"
    both.write_text((tmp_path / "data.jsonl").read_text() + (tmp_path / "other.jsonl").read_text())
    data, found = _load(tmp_path, str(both), packing=packing)
    _, alone = _load(tmp_path, str(tmp_path / "other.jsonl"), packing=packing)
    assert len(found.retention) == found.facts.retention_examples == 30
    keys = {each.key for each in found.retention}
    train_tuning_test = {
        each.key for split in (Split.TRAIN, Split.TUNING, Split.TEST) for each in found.part(split)
    }
    assert not keys & train_tuning_test
    assert found.train == data.train
    assert any("of the retention text that the data hold, too, were left out" in note for note in found.notes)
    assert keys == {each.key for each in alone.retention}
    assert found.facts.fingerprint == alone.facts.fingerprint != data.facts.fingerprint


def test_it_may_be_of_another_form_than_the_data(tmp_path: Path) -> None:
    """Plain text beside rows with a mapped column; too little of it is refused in one sentence."""
    rows = [json.loads(line) for line in make_data(tmp_path / "rows.jsonl").read_text().splitlines()]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"body": row["text"]}) + "\n" for row in rows))
    (tmp_path / "old.txt").write_text("\n\n".join(f"once there were {number} cats" for number in range(9)))
    _, found = _load(tmp_path, str(tmp_path / "old.txt"), columns={"text": "body"})
    assert len(found.retention) == 9
    (tmp_path / "few.txt").write_text("one paragraph alone")
    with pytest.raises(BadDataOption, match="holds 1 examples that are not in the data, too: give 8 or more"):
        _load(tmp_path, str(tmp_path / "few.txt"), columns={"text": "body"})


def test_a_retention_text_without_its_column_is_named(tmp_path: Path) -> None:
    """It is that file, and not the data, of which the sentence says that a column lacks."""
    make_data(tmp_path / "data.jsonl", rows=120)
    (tmp_path / "old.jsonl").write_text('{"body": "the cat"}\n' * 20)
    with pytest.raises(MissingColumn, match=r"^\S+old\.jsonl has no column .*: the columns are body;"):
        _load(tmp_path, str(tmp_path / "old.jsonl"))


class _Interrupting(Observer):
    """Stops a pilot as Ctrl-C does, once the first trained arm was measured on the retention text."""

    def evaluated(self, result: Evaluated) -> None:
        if result.split is Split.RETENTION and result.step:
            raise KeyboardInterrupt


def test_a_pilot_with_a_retention_text_goes_on(tmp_path: Path) -> None:
    """Interrupted while measuring it, a pilot ends with the same losses; another text is another plan."""
    model, data = str(make_model(tmp_path / "model")), str(make_data(tmp_path / "data.jsonl"))
    old = make_data(tmp_path / "old.jsonl", rows=40, seed=5)
    told = {**OPTIONS, "retention": str(old), "engine": "stacked", "wave": 1, "seeds": (0,)}
    with pytest.raises(KeyboardInterrupt):
        pilot(model, data, out=tmp_path / "cut", observer=_Interrupting(), **told)
    report = pilot(model, data, out=tmp_path / "cut", **told)
    whole = pilot(model, data, out=tmp_path / "whole", **told)
    assert [row.forgotten for row in report.analysis.leaderboard] == [
        row.forgotten for row in whole.analysis.leaderboard
    ]
    assert all(row.forgotten is not None for row in report.analysis.leaderboard if row.place)
    assert compare(tmp_path / "cut").analysis.leaderboard == report.analysis.leaderboard
    measured = [
        (each.trial, each.split)
        for each in read_history(tmp_path / "cut").results()
        if isinstance(each, Evaluated) and each.split is Split.RETENTION
    ]
    assert len(measured) == len(set(measured))
    (tmp_path / "copy.jsonl").write_text(old.read_text())
    assert pilot(
        model, data, out=tmp_path / "cut", **{**told, "retention": str(tmp_path / "copy.jsonl")}
    ).complete
    with pytest.raises(PlanDiffers, match=r"data\.retention is"):
        pilot(model, data, out=tmp_path / "cut", **{**told, "retention": None})
    make_data(old, rows=40, seed=6)
    with pytest.raises(ChangedUnderneath, match=r"with .*old\.jsonl as retention text"):
        pilot(model, data, out=tmp_path / "cut", **told)
