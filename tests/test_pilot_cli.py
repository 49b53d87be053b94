"""``lora-probe pilot`` and ``compare``: one document out, one sentence for bad input, Ctrl-C and going on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

import lora_probe
from lora_probe.cli import run
from lora_probe.cli.pilot import _without_secret
from lora_probe.piloting.candidates import propose_candidates
from lora_probe.piloting.data import DataOptions
from lora_probe.piloting.errors import DifferentPilots
from lora_probe.piloting.folder import read_plan
from lora_probe.piloting.records import Protocol, Training
from tests.pilot_runs import make_data, make_model

if TYPE_CHECKING:
    from pathlib import Path

QUICK = (
    *("--candidate", "attention", "--candidate", "mlp:r=3", "--rank", "2", "--engine", "stacked"),
    *(
        "--steps",
        "4",
        "--batch-size",
        "2",
        "--max-length",
        "16",
        "--learning-rate",
        "0.005",
        "--device",
        "cpu",
    ),
    *("--rungs", "none", "--seeds", "1", "--grid", "1", "--extensions", "0", "--no-rerun"),
    *("--evaluations", "2", "--tuning-items", "8", "--test-items", "8"),
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forbid the network, and start with nothing cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data."""
    folder = tmp_path_factory.mktemp("pilot")
    make_model(folder / "model")
    make_data(folder / "data.jsonl")
    return folder


def _words(place: Path, out: Path, *more: str) -> list[str]:
    return [
        "pilot",
        str(place / "model"),
        "--data",
        str(place / "data.jsonl"),
        "--out",
        str(out),
        *QUICK,
        *more,
    ]


def test_a_pilot_from_end_to_end(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document on standard output, a report in the folder, and `compare` says the same again."""
    out = tmp_path / "out"
    assert run(_words(place, out, "--json", "--verify", "--save-adapters", "--token", "hf_secret")) == 0
    output, errors = capsys.readouterr()
    document = json.loads(output)
    assert {row["candidate"] for row in document["leaderboard"]} == {"base", "attention", "mlp:r=3"}
    assert document["complete"]
    assert "verified against PEFT: over 3 steps of 2 trials" in errors
    assert "<!doctype html>" in (out / "report.html").read_text().lower()
    assert len(list((out / "adapters").iterdir())) == 2
    assert "hf_secret" not in "".join(path.read_text() for path in out.glob("*.json*"))
    assert read_plan(out).command[:2] == ("lora-probe", "pilot")
    assert run(["compare", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["verdict"] == document["verdict"]
    assert again["leaderboard"] == document["leaderboard"]
    for form in ("csv", "markdown", "html"):
        assert run(["compare", str(out), f"--{form}", "-"]) == 0
        assert "mlp:r=3" in capsys.readouterr().out
    assert run(_words(place, out)) == 0
    assert "attention" in capsys.readouterr().out


def test_the_same_from_python(place: Path, tmp_path: Path) -> None:
    """`lora_probe.pilot` returns a report with a table, a document and a page; `compare` finds it again."""
    report = lora_probe.pilot(
        place / "model",
        str(place / "data.jsonl"),
        out=tmp_path / "out",
        candidates=["attention", "mlp"],
        steps=4, batch_size=2, max_length=16, rank=2, rungs=(), seeds=(0,), grid=(1.0,), extensions=0,
        evaluations=2, tuning_items=8, test_items=8, rerun=False, device="cpu", engine="reference",
    )  # fmt: skip
    assert isinstance(report, lora_probe.PilotReport)
    assert report.complete
    assert list(report.to_frame()["candidate"]) == [row.candidate for row in report.analysis.leaderboard]
    assert json.loads(report.to_json())["plan"]["engine"] == "reference"
    assert "attention" in report._repr_html_()
    assert lora_probe.compare(tmp_path / "out").analysis == report.analysis


def test_data_may_move(place: Path, tmp_path: Path) -> None:
    """A pilot goes on, and folders are merged, where the same data lie elsewhere."""
    moved = tmp_path / "moved.jsonl"
    shutil.copy(place / "data.jsonl", moved)
    words = _words(place, tmp_path / "out", "-q")
    elsewhere = [str(moved) if word == str(place / "data.jsonl") else word for word in words]
    assert run(words) == 0
    assert run(elsewhere) == 0
    assert read_plan(tmp_path / "out").data.sources == (str(place / "data.jsonl"),)
    elsewhere[elsewhere.index(str(tmp_path / "out"))] = str(tmp_path / "other")
    assert run(elsewhere) == 0
    assert lora_probe.compare(tmp_path / "out", tmp_path / "other").complete


def test_folders_of_two_machines_are_merged(place: Path, tmp_path: Path) -> None:
    """Copies of one pilot are one; another plan is refused with what is different, a log as output, too."""
    out = tmp_path / "out"
    assert run(_words(place, out, "-q")) == 0
    shutil.copytree(out, tmp_path / "copy")
    whole = lora_probe.compare(out)
    assert lora_probe.compare(out, tmp_path / "copy").analysis.leaderboard == whole.analysis.leaderboard
    assert run(_words(place, tmp_path / "other", "-q", "--clip", "2")) == 0
    with pytest.raises(lora_probe.LoraProbeError, match=r"clip is 1\.0 in \S+out and 2\.0 in \S+other; comp"):
        lora_probe.compare(out, tmp_path / "other")
    document = json.loads((tmp_path / "copy" / "plan.json").read_text())
    log = tmp_path / "copy" / "results.jsonl"
    before = log.read_bytes()
    assert run(["compare", str(out), str(tmp_path / "copy"), "--csv", str(log)]) == 2
    assert log.read_bytes() == before
    for part, words in (("model", "weights of their models differ"), ("data", "their data differ")):
        document["plan"][part]["fingerprint"] = "0"
        (tmp_path / "copy" / "plan.json").write_text(json.dumps(document))
        with pytest.raises(DifferentPilots, match=words):
            lora_probe.compare(out, tmp_path / "copy")


def test_an_encoder_learns_to_classify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new head is trained alike in every arm, through PEFT, and said so."""
    make_model(tmp_path / "model", "Bert", "ForMaskedLM")
    make_data(tmp_path / "data.jsonl", labels=True)
    engine = QUICK.index("--engine")
    words = [*QUICK[:engine], "--task", "sequence-classification", "--full", "--json"]
    data = str(tmp_path / "data.jsonl")
    code = run(["pilot", str(tmp_path / "model"), "--data", data, "--out", str(tmp_path / "out"), *words])
    output, errors = capsys.readouterr()
    assert code == 0, errors
    document = json.loads(output)
    assert {row["arm"] for row in document["leaderboard"]} == {"base", "lora", "full"}
    assert not document["failures"]
    for candidate in document["plan"]["candidates"]:
        if candidate["arm"] == "lora":
            assert candidate["lora"]["task_type"] == "SEQ_CLS"
            assert "classifier" in candidate["lora"]["modules_to_save"]
    assert "PEFT itself" in errors


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("model meta-llama/Llama-3.1-8B", "hf download meta-llama/Llama-3.1-8B"),
        ("model ./nowhere", "no such file or folder"),
        ("--data nowhere.jsonl", "nowhere.jsonl"),
        ("--data EMPTY", "EMPTY"),
        ("--data TINY", "TINY"),
        ("--data COLUMNS", "text"),
        ("--column text=body", "body"),
        ("--candidate attention.z", "attention.z"),
        ("--candidate name:", "expected"),
        ("--candidate mlp:r=0", "rank must be at least 1"),
        ("--max-parameters 3", "must be at least"),
        ("--steps 0", "steps must be a whole number from 1"),
        ("--learning-rate -1", "learning_rate must be from 1e-12 to 10"),
        ("--learning-rate nan", "learning_rate must be from 1e-12 to 10"),
        ("--grid 1,x", "--grid must be numbers"),
        ("--grid 1,1", "grid must hold each once"),
        ("--grid 1,1.00000001", "grid must differ in six digits"),
        ("--grid 1e300", "grid must be factors from 1e-06"),
        ("--alpha-over-rank inf", "alpha_over_rank must be greater than 0, and a finite number"),
        ("--extensions 21", "extensions must be a whole number from 0 to 20"),
        ("--data-seed -1", "data_seed must be a whole number from 0"),
        ("--margin 1e9", "margin must be from 0 to 100"),
        ("--rungs 2", "rungs must be shares above 0 and below 1"),
        ("--seeds 0", "--seeds must be from 1"),
        ("--seeds 1,1", "seeds must hold each once"),
        ("--shard 3/2", "--shard must be i/n"),
        ("--device tpu", "devices are auto, cpu"),
        ("--dtype int3", "--dtype must be one of"),
        ("--quantization 4bit", "needs CUDA"),
        ("--task seq2seq", "--task causal-lm"),
        ("--max-length 2", "below 4 tokens"),
        ("--modules-to-save lm_head", "take --engine reference"),
        ("--data LONG --max-length 4096", "32"),
        ("--data LABELS --task token-classification", "tokens"),
    ],
)
def test_bad_input(
    more: str, words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2, nothing on standard output, and no folder left behind."""
    _bad_data(tmp_path)
    given = more.split()
    options = dict(zip(given[::2], given[1::2], strict=True))
    model = options.pop("model", str(place / "model"))
    data = options.pop("--data", str(place / "data.jsonl"))
    data = str(tmp_path / f"{data}.jsonl") if data.isupper() else data
    others = [word for pair in options.items() for word in pair]
    out = tmp_path / "out"
    assert run(["pilot", model, "--data", data, "--out", str(out), *QUICK, "-q", *others]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("Error: ")
    assert words in errors
    assert "Traceback" not in errors
    assert not out.exists()


def _bad_data(folder: Path) -> None:
    """Write files that no pilot can use, each for another reason."""
    (folder / "EMPTY.jsonl").touch()
    make_data(folder / "TINY.jsonl", rows=9)
    (folder / "LONG.jsonl").write_text(json.dumps({"text": "cat dog " * 30}) + "\n")
    make_data(folder / "LABELS.jsonl", labels=True)
    (folder / "COLUMNS.jsonl").write_text('{"a": 1, "b": 2}\n' * 50)


@pytest.mark.parametrize(
    ("name", "words"), [(".", "it holds something else"), ("thesis.tex", "it is a file")]
)
def test_an_output_of_somebody_else(
    name: str, words: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, or a folder that no pilot made, is left alone."""
    (tmp_path / "thesis.tex").write_text("done")
    assert run(_words(place, tmp_path / name)) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "done"


def test_a_folder_without_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare` says what is missing."""
    assert run(["compare", str(tmp_path)]) == 2
    assert "it holds no pilot" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(place: Path, tmp_path: Path) -> None:
    """Interrupted in the middle, the program ends with 130 and a sentence, and the next call finishes."""
    out = tmp_path / "out"
    words = _words(place, out, "--steps", "4000", "--evaluations", "400")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_probe", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _has(out / "results.jsonl", '"kind": "saved"'):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert not lora_probe.compare(out).complete


def _has(path: Path, words: str) -> bool:
    return path.exists() and words in path.read_text()


def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    """Dozens of options are listed by what they are about."""
    assert run(["pilot", "--help"]) == 0
    output = capsys.readouterr().out
    titles = ["Result:", "Data:", "Candidates:", "Training:", "Protocol:", "Machine:"]
    places = [output.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--token", "hf_x", "-o", "y"], ["-o", "y"]),
        (["--token=hf_x", "-o", "y"], ["-o", "y"]),
        (["-o", "--token"], ["-o"]),
    ],
)
def test_a_token_is_never_kept(given: list[str], kept: list[str]) -> None:
    """The words of the command line go into a file: without the secret."""
    assert _without_secret(given) == kept


def test_options_of_the_library_are_known_to_the_command_line() -> None:
    """Whatever `pilot` takes, the command line can say."""
    from lora_probe.cli.pilot import pilot as command
    from lora_probe.piloting.options import PilotOptions

    said = {parameter.name for parameter in command.params}
    words: dict[str, Any] = {
        "use_dora": "dora", "use_rslora": "rslora", "rerun": "no_rerun", "columns": "column",
        "lora": "modules_to_save",
    }  # fmt: skip
    left_out = {"betas", "epsilon"}
    for name in PilotOptions.__annotations__.keys() - left_out:
        assert words.get(name, name) in said, name


def test_help_names_the_defaults_of_the_records() -> None:
    """Whatever the help calls a default is what the library takes where nothing is said."""
    from lora_probe.cli.pilot import pilot as command

    values = {
        **{item.name: item.default for record in (Training, Protocol) for item in fields(record)},
        **{name: each.default for name, each in signature(propose_candidates).parameters.items()},
        "max_examples": DataOptions().max_examples,
    }
    checked = []
    for parameter in command.params:
        said = re.search(r"\[default: ([^\]]+)\]", getattr(parameter, "help", None) or "")
        value = values.get(str(parameter.name))
        if said is None or value is None or isinstance(value, bool):  # flags have no words for it
            continue
        words = (
            said[1].removesuffix(", or the model's limit").replace(",", "" if isinstance(value, int) else ",")
        )
        if parameter.name == "seeds":
            value = len(value)
        if isinstance(value, tuple):
            assert words == ",".join(f"{each:g}" for each in value), parameter.name
        else:
            assert type(value)(words) == value, parameter.name
        checked.append(parameter.name)
    assert len(checked) > 25
