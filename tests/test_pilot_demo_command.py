"""``lora-probe demo``: every command of the way, offline, and again without doing it again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from lora_probe.cli import run
from lora_probe.cli.pilot import INTERRUPTED
from lora_probe.piloting.demo import model_folder, set_up
from lora_probe.piloting.errors import ForeignFolder, UnwritableFolder
from lora_probe.text import printable

if TYPE_CHECKING:
    from pathlib import Path

TINY = (
    "--rank 1 --steps 2 --seeds 1 --grid 1 --rungs none --no-rerun --batch-size 2 --max-length 32 "
    "--tuning-items 8 --test-items 8 --max-examples 80 -c attention -c mlp --resamples 100"
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo's pilot take a second."""
    module = sys.modules["lora_probe.cli.demo"]  # as an attribute the name is the command
    monkeypatch.setattr(module, "SETTINGS", TINY)


@pytest.mark.usefixtures("tiny")
def test_the_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scan, budget, check, pilot and export are shown as typed; the last line is where the report lies.

    The folder's name turns a terminal's writing round, which no line does.
    """
    folder = tmp_path / "my \u202edemo"
    assert run(["demo", "--out", str(folder)]) == 0
    told = capsys.readouterr()
    typed = [line.split()[2] for line in told.out.splitlines() if line.startswith("$ lora-probe ")]
    assert typed == ["scan", "budget", "check", "pilot", "export"]
    report = folder / "pilot" / "report.html"
    assert told.out.rstrip().endswith(printable(str(report)))
    assert f"wrote {printable(str(report))}\n" in told.err
    assert "\u202e" not in told.out + told.err
    assert "LoRA pilot" in report.read_text(encoding="utf-8")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"]
    assert f"'{printable(str(folder))}/model'" in told.out, "a path with a blank is quoted"
    assert "held-out loss after step 2" in told.err

    log = (folder / "pilot" / "results.jsonl").read_bytes()
    assert run(["demo", "--out", str(folder), "--quiet"]) == 0
    again = capsys.readouterr()
    assert (folder / "pilot" / "results.jsonl").read_bytes() == log, "nothing is trained twice"
    assert "held-out loss after" not in again.err


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_demo_ends_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the pilot ends the demo, too, and nothing is exported."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_probe.piloting.run.pilot", interrupted)
    assert run(["demo", "--out", str(tmp_path / "demo")]) == INTERRUPTED
    assert "The report" not in capsys.readouterr().out
    assert not (tmp_path / "demo" / "adapter_config.json").exists()


def test_another_model_is_not_overwritten(tmp_path: Path) -> None:
    """A folder that holds a model of its own keeps it, and the demo says so."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("mine")
    with pytest.raises(ForeignFolder, match=r"its model/config\.json is not the demo's"):
        set_up(tmp_path)
    assert (tmp_path / "model" / "config.json").read_text() == "mine"


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    """Where a file has the folder's name, or a folder's place, nothing is written."""
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(ForeignFolder, match="it is a file"):
        set_up(tmp_path / "demo")
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UnwritableFolder):
        set_up(tmp_path)


def test_the_demo_can_be_set_up_twice(tmp_path: Path) -> None:
    """The second time everything is there; the copy is the shipped model to the byte."""
    assert set_up(tmp_path) == set_up(tmp_path)
    for shipped in model_folder().iterdir():
        assert (tmp_path / "model" / shipped.name).read_bytes() == shipped.read_bytes()
