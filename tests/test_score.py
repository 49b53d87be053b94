"""Scores from end to end: a model in a folder, data in a file, and what Python and the shell get."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.console import Console

import lora_probe
from lora_probe.cli import run
from lora_probe.errors import LoraProbeError, UnknownChoice
from lora_probe.piloting.errors import BadPilotOption, UnfitModel
from lora_probe.piloting.folder import read_plan
from lora_probe.report.score_csv import score_csv
from lora_probe.report.score_html import score_page
from lora_probe.report.score_markdown import score_markdown
from lora_probe.report.score_plots import draw_heat_map, heat_map
from lora_probe.report.score_table import ScoreTable
from lora_probe.report.score_wording import score_facts
from lora_probe.scoring import ProposedSet, Signal, Skipped
from tests.pilot_runs import make_data, make_model

if TYPE_CHECKING:
    from pathlib import Path

    from lora_probe.scoring import Scores

_QUICK = {"batches": 3, "batch_size": 2, "max_length": 16, "rank": 2, "device": "cpu"}
_WORDS = ["--batches", "3", "--batch-size", "2", "--max-length", "16", "--rank", "2", "--device", "cpu"]
PILOT = (
    "--steps 2 --batch-size 2 --max-length 16 --rank 2 --rungs none --seeds 1 --grid 1 --extensions 0 "
    "--evaluations 1 --tuning-items 8 --test-items 8 --no-rerun --device cpu --engine stacked"
)
_ROLES = {f"text:{name}" for name in (
    "attention.q", "attention.k", "attention.v", "attention.o", "mlp.gate", "mlp.up", "mlp.down",
)}  # fmt: skip


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forbid the network, and start with nothing cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data."""
    folder = tmp_path_factory.mktemp("score")
    make_model(folder / "model")
    make_data(folder / "data.jsonl")
    return folder


@pytest.fixture(scope="module")
def scores(place: Path) -> Scores:
    """Return the scores of the model."""
    return lora_probe.score(place / "model", str(place / "data.jsonl"), **_QUICK)  # type: ignore[arg-type]


def test_every_module_and_role_is_scored(scores: Scores) -> None:
    """All linear layers but the output embedding have three signals and a cost; roles add up to them."""
    assert {role.role for role in scores.roles} == _ROLES
    assert len(scores.sites) == 14
    for site in scores.sites:
        assert site.nfn is not None
        assert site.padding_masked
        assert site.energy > 0
        assert 0 <= (site.consistent_energy or 0) <= site.energy
        assert site.added_parameters == 2 * (site.in_features + site.out_features)
    assert sum(role.added_parameters for role in scores.roles) == sum(
        site.added_parameters for site in scores.sites
    )
    assert (scores.rank, scores.batches, scores.targets, scores.skipped) == (2, 3, "all-linear", ())
    assert "an SNR of about 0.5 is what 3 batches of pure noise give" in scores.notes


def test_scores_are_the_same_again(scores: Scores, place: Path) -> None:
    """The same model, data and options give the same numbers; another seed gives other energies only."""
    data = str(place / "data.jsonl")
    again = lora_probe.score(place / "model", data, **_QUICK)  # type: ignore[arg-type]
    assert again == scores
    other = lora_probe.score(place / "model", data, **_QUICK, seed=1)  # type: ignore[arg-type]
    assert [site.nfn for site in other.sites] == [site.nfn for site in scores.sites]
    assert [site.energy for site in other.sites] != [site.energy for site in scores.sites]


def test_frames_hold_roles_or_modules(scores: Scores) -> None:
    """One line a role with its places, one a module with its layer."""
    roles, modules = scores.to_frame(), scores.to_frame(by="module")
    assert set(roles["role"]) == _ROLES
    assert sorted(roles["nfn_place"]) == list(range(1, 8))
    assert list(modules["path"]) == [site.path for site in scores.sites]
    assert str(modules["layer"].dtype) == "Int64"
    with pytest.raises(UnknownChoice, match="by"):
        scores.to_frame(by="layer")


def test_scores_say_that_they_are_no_verdict(scores: Scores) -> None:
    """In JSON, in a notebook and in a prompt they name what they are."""
    document = json.loads(scores.to_json())
    assert "not a verdict" in document["caution"]
    assert len(document["sites"]) == len(scores.sites)
    assert "not a verdict" in scores._repr_html_()
    assert repr(scores) == f"<Scores {scores.model.model}: 7 roles, 14 modules>"


def test_a_heat_map_is_drawn_on_the_axes_it_is_given(scores: Scores) -> None:
    """Roles stand on the left, and the axes come back."""
    ax = Figure().subplots()
    assert draw_heat_map(heat_map(scores, Signal.NFN), ax) is ax
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["attention.q", "attention.k"]
    drawn = ax.images[0].get_array()
    assert drawn is not None
    assert drawn.shape == (7, 2)


def test_the_page_is_well_formed_and_escapes(scores: Scores) -> None:
    """Every element that is opened is closed, and hostile names stay text on it and in every other form."""
    bad = "<script>alert(1)</script>|`x`\x1b[31m\u202e"
    hostile = replace(
        scores,
        model=replace(scores.model, model=bad, architecture=bad),
        targets=bad,
        roles=tuple(replace(role, role=f"text:{bad}", targets=bad, contested=True) for role in scores.roles),
        sites=tuple(replace(site, role=f"{bad}:{bad}") for site in scores.sites),
        skipped=(Skipped(reason=bad, parameters=(bad,)),),
        notes=(bad,),
        versions={bad: bad},
    )
    proposed = (ProposedSet(targets=bad, reason="so"),)
    page = score_page(hostile, proposed)
    assert "<script" not in page
    assert "to try in a pilot" in page.lower()
    _Balanced().feed(page)
    markdown = score_markdown(hostile, proposed)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    inline = [child.type for token in tokens for child in token.children or []]
    assert "html_inline" not in inline
    assert [token.type for token in tokens].count("tr_open") == 1 + len(scores.roles)
    console = Console(width=200, record=True, file=StringIO())
    console.print(ScoreTable(hostile, proposed))
    for text in (page, markdown, console.export_text(), score_csv(hostile)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_layers_are_equally_wide_on_the_page(scores: Scores) -> None:
    """Each map has a strip a role and a cell a module, one unit a layer; unknown values leave a gap."""
    page = score_page(scores)
    assert page.count('viewBox="0 0 2 1"') == 3 * 7
    assert page.count('width="1" height="1"') == 3 * 14
    gap = replace(
        scores, sites=tuple(replace(site, nfn=None) for site in scores.sites[:1]) + scores.sites[1:]
    )
    assert score_page(gap).count('width="1" height="1"') == 3 * 14 - 1


class _Balanced(HTMLParser):
    """Fails where a tag closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Remember what is open."""
        del attrs
        if tag not in {"meta", "br", "wbr"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        assert self._open.pop() == tag


def test_only_what_is_asked_for_is_scored(place: Path) -> None:
    """A target set in the usual language chooses the modules; one micro-batch has no consistency."""
    options = {**_QUICK, "batches": 1, "targets": "attention.q+mlp.down@last:1"}
    found = lora_probe.score(place / "model", str(place / "data.jsonl"), **options)  # type: ignore[arg-type]
    assert [site.path for site in found.sites] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]
    assert all(site.snr is None and site.consistent_energy is None for site in found.sites)
    assert any("one micro-batch" in note for note in found.notes)


def test_experts_are_left_out_with_a_note(tmp_path: Path) -> None:
    """A mixture's experts are bare parameters: the rest is scored, and they are named as skipped."""
    make_model(
        tmp_path / "moe", "Qwen3Moe", num_experts=4, moe_intermediate_size=12, num_experts_per_tok=2,
        head_dim=8, num_key_value_heads=1,
    )  # fmt: skip
    make_data(tmp_path / "data.jsonl")
    options = {**_QUICK, "targets": "attention+experts"}
    found = lora_probe.score(tmp_path / "moe", str(tmp_path / "data.jsonl"), **options)  # type: ignore[arg-type]
    assert {site.block for site in found.sites} == {"attention"}
    (skipped,) = found.skipped
    assert "bare parameters" in skipped.reason
    assert all("experts" in name for name in skipped.parameters)
    with pytest.raises(UnfitModel, match="nothing of experts can be scored"):
        lora_probe.score(
            tmp_path / "moe",
            str(tmp_path / "data.jsonl"),
            **{**options, "targets": "experts"},  # type: ignore[arg-type]
        )


def test_what_peft_refuses_is_left_out(tmp_path: Path) -> None:
    """Of Mamba, PEFT refuses one layer and the model reads another's weight: both are named."""
    make_model(tmp_path / "mamba", "Mamba", state_size=4)
    make_data(tmp_path / "data.jsonl")
    found = lora_probe.score(tmp_path / "mamba", str(tmp_path / "data.jsonl"), **_QUICK)  # type: ignore[arg-type]
    names = {site.path.rpartition(".")[2] for site in found.sites}
    assert names == {"in_proj", "x_proj"}
    left = {name.split(".")[-2]: each.reason for each in found.skipped for name in each.parameters}
    assert set(left) == {"out_proj", "dt_proj"}
    assert "PEFT refuses" in left["out_proj"]
    assert "never called" in left["dt_proj"]


def test_a_new_head_is_named_and_not_scored(tmp_path: Path) -> None:
    """A classification head that starts from chance is trained in full: a note says what that does."""
    make_model(tmp_path / "bert", "Bert", "Model")
    make_data(tmp_path / "data.jsonl", labels=True)
    found = lora_probe.score(
        tmp_path / "bert",
        str(tmp_path / "data.jsonl"),
        task="sequence-classification",
        **_QUICK,  # type: ignore[arg-type]
    )
    assert not any(site.path == "classifier" for site in found.sites)
    assert {site.block for site in found.sites} >= {"attention", "mlp"}
    assert any("new head" in note for note in found.notes)
    assert "3 micro-batches of 2, 6 labelled examples" in score_facts(found)
    assert score_facts(found)[-1].endswith(" nats per example")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batches": 0}, "batches must be a whole number"),
        ({"batches": True}, "batches must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"rank": 0}, "rank"),
        ({"alpha_over_rank": 0}, "alpha_over_rank must be greater than 0"),
        ({"steps": 5}, "steps"),
        ({"targets": "attention.nothing"}, "attention.nothing"),
        ({"targets": 5}, "targets must be a text, got 5"),
        ({"targets": "attention:r=4"}, "attention:r=4"),
    ],
)
def test_bad_options_are_one_sentence(place: Path, options: dict[str, object], problem: str) -> None:
    """Numbers out of range, unknown options and targets that match nothing are refused with the reason."""
    with pytest.raises(LoraProbeError, match=problem):
        lora_probe.score(place / "model", str(place / "data.jsonl"), **{**_QUICK, **options})  # type: ignore[arg-type]


def _command(place: Path, *more: str) -> list[str]:
    return ["score", str(place / "model"), "--data", str(place / "data.jsonl"), *_WORDS, *more]


def test_the_command_shows_roles_and_proposals(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the roles, what to try, and that nothing is decided."""
    assert run(_command(place)) == 0
    output = capsys.readouterr().out
    assert "to try in a pilot:" in output
    assert "not a verdict" in output
    assert all(role.partition(":")[2] in output for role in _ROLES)


def test_the_command_writes_every_form(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON alone on standard output; CSV, page, Markdown and the heat maps as files."""
    files = {form: tmp_path / f"scores.{form}" for form in ("csv", "html", "markdown", "heatmap")}
    options = [word for form, path in files.items() for word in (f"--{form}", str(path))]
    assert run(_command(place, "--json", "--propose", "2", *options)) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["proposals"]) == 2
    assert document["batches"] == 3
    rows = list(csv.DictReader(StringIO(files["csv"].read_text())))
    assert [float(row["energy"]) for row in rows] == [site["energy"] for site in document["sites"]]
    assert files["html"].read_text().startswith("<!doctype html>")
    assert "| role | sites |" in files["markdown"].read_text()
    assert files["heatmap"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "more",
    [
        ("--batches", "0"),
        ("--propose", "0"),
        ("--targets", "attention.nothing"),
        ("--data", "nowhere.jsonl"),
        ("--column", "text"),
        ("--html", "same", "--csv", "same"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    place: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong is said on standard error, without a traceback."""
    assert run(_command(place, *more)) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("Error: ") == 1
    assert "Traceback" not in errors


def test_what_does_not_fit_into_memory_says_what_a_score_can_lower(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no waves of trials in a score, and its advice names options that it has."""

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr("lora_probe.scoring.signals.measuring.item_losses", full)
    assert run(_command(place)) == 2
    errors = capsys.readouterr().err
    assert "one batch does not fit into the memory of cpu; lower --batch-size or --max-length" in errors


def test_a_pilot_tries_what_scores_propose(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--propose`` adds sets beside the candidates, says why, and the pilot can go on with them."""
    words = [*PILOT.split(), "--candidate", "all-linear", "--propose", "2"]
    out = tmp_path / "out"
    command = ["pilot", str(place / "model"), "-d", str(place / "data.jsonl"), "-o", str(out), *words]
    assert run(command) == 0
    errors = capsys.readouterr().err
    names = [candidate.name for candidate in read_plan(out).candidates]
    assert names[:2] == ["base", "all-linear"]
    assert len(names) == 4
    for name in names[2:]:
        assert f"{name} is proposed by scores: " in errors
    assert run(command) == 0


def test_a_proposal_that_is_there_already_is_no_second_arm(place: Path) -> None:
    """A set of the same weights as a candidate, or that PEFT refuses, is left out."""
    from lora_probe.piloting.candidates import propose_candidates

    graph = lora_probe.scan(place / "model")
    found = propose_candidates(
        graph,
        ["attention.q+attention.v"],
        proposed=["attention.v+attention.q", "mlp.up", "mlp.up", "nothing"],
    )
    assert [candidate.name for candidate in found.candidates] == ["base", "attention.q+attention.v", "mlp.up"]


def test_the_number_of_proposals_of_a_pilot_is_checked() -> None:
    """A negative number is refused before anything is loaded."""
    with pytest.raises(BadPilotOption, match="propose must be a whole number"):
        lora_probe.pilot("model", "data", out="out", propose=-1)
