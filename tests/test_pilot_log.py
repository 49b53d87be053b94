"""The folder of a pilot: what is written is read back equal, and nothing that happens to a disk loses it."""

from __future__ import annotations

import json
import math
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.encoding import encoded
from lora_probe.piloting.checkpoint import read_checkpoint, write_checkpoint
from lora_probe.piloting.encoding import NotARecord, decoded
from lora_probe.piloting.errors import (
    DamagedLog,
    UnwritableRun,
)
from lora_probe.piloting.log import Log, Reader, Saved, Wave, read_history
from lora_probe.piloting.records import (
    Evaluated,
    Failed,
    Failure,
    Plan,
    Split,
    Trained,
    Trial,
    Unit,
)
from tests.pilot_fakes import small_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIAL = Trial(candidate="a|b/ü\n", learning_rate=1 / 3, seed=7)
UNIT = Unit(trials=(TRIAL,), start=0, stop=4, splits=(Split.TUNING, Split.TEST))
NLL = (0.1, 1e-300, math.pi)
ENTRIES = (
    Wave(id="0001", round=0, unit=UNIT, trials=(TRIAL,), engine="stacked"),
    Trained(
        trial=TRIAL, start=0, losses=(1.5, math.inf), gradient_norms=(0.25, 1.0), dead=("x.y",), tokens=9
    ),
    Evaluated(trial=TRIAL, step=4, split=Split.TEST, nll=NLL, tokens=(1, 2, 3), correct=(0, 1, 3)),
    Failed(trial=TRIAL, step=4, failure=Failure.DIVERGED, reason="it grew"),
    Saved(wave="0001", trials=(TRIAL,), step=4, file="0001-4.safetensors"),
)
numbers = st.floats(allow_nan=False)


@given(
    losses=st.lists(numbers).map(tuple),
    candidate=st.text(),
    rate=numbers,
    seconds=numbers,
    dead=st.lists(st.text()).map(tuple),
)
def test_records_come_back_equal(
    losses: tuple[float, ...], candidate: str, rate: float, seconds: float, dead: tuple[str, ...]
) -> None:
    """Through JSON text and back, a record is equal to the bit, infinities included."""
    trial = Trial(candidate=candidate, learning_rate=rate, seed=1)
    record = Trained(trial=trial, start=3, losses=losses, gradient_norms=losses, seconds=seconds, dead=dead)
    text = json.dumps(encoded(record), allow_nan=False)
    assert decoded(Trained, json.loads(text)) == record


def test_a_plan_comes_back_equal() -> None:
    """With all that a plan nests: enums, mappings, tuples of records."""
    plan = replace(small_plan(), versions={"torch": "2"}, command=("lora-probe", "pilot"))
    assert decoded(Plan, json.loads(json.dumps(encoded(plan)))) == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": "9"}, "training.steps is '9', no int"),
        ({"steps": True}, "training.steps is True, no int"),
        ({"colour": 1}, "training has an unknown field 'colour'"),
        ({"betas": [0.9]}, "training.betas has 1 items, not 2"),
        ({"betas": "0.9"}, "training.betas is no list"),
        ({"clip": "much"}, "training.clip is 'much', no float"),
    ],
)
def test_a_field_that_holds_something_else(change: dict[str, Any], words: str) -> None:
    """What is wrong is said with its place."""
    document = encoded(small_plan())
    document["training"] |= change
    with pytest.raises(NotARecord) as error:
        decoded(Plan, document)
    assert str(error.value) == words


def test_the_log_holds_every_sort_of_entry(tmp_path: Path) -> None:
    """Waves, checkpoints and results come back in order, each with its wave."""
    Log(tmp_path / "results.jsonl").append([("0001", entry) for entry in ENTRIES])
    history = read_history(tmp_path)
    assert history.entries == tuple(("0001", entry) for entry in ENTRIES)
    assert history.results() == ENTRIES[1:4]
    assert history.results(before_round=0) == ()


def test_of_a_repeated_measurement_the_last_counts(tmp_path: Path) -> None:
    """A stretch that was trained again after a crash replaces the first one."""
    log, first = Log(tmp_path / "results.jsonl"), ENTRIES[1]
    assert isinstance(first, Trained)
    again = replace(first, tokens=10)
    log.append([("0001", ENTRIES[0]), ("0001", first), ("0001", again)])
    assert read_history(tmp_path).results() == (again,)


def test_a_torn_line_was_never_written(tmp_path: Path) -> None:
    """Cut off at any byte of its last line, a log holds what came before, and is appended to as if whole."""
    path = tmp_path / "results.jsonl"
    Log(path).append([("0001", entry) for entry in ENTRIES[:2]])
    whole = path.read_bytes()
    Log(path).append([("0001", ENTRIES[2])])
    for length in range(len(whole), path.stat().st_size):
        cut = tmp_path / "cut"
        cut.mkdir(exist_ok=True)
        torn = cut / "results.jsonl"
        torn.write_bytes(path.read_bytes()[:length])
        assert len(read_history(cut).entries) == 2
        Log(torn).append([("0001", ENTRIES[3])])
        assert [entry for _, entry in read_history(cut).entries] == [*ENTRIES[:2], ENTRIES[3]]


@pytest.mark.parametrize("tail", [b"\0" * 512, b'{"kind": \0\0\0\n', b"\0\n", b"}\n"])
def test_what_a_loss_of_power_leaves_is_cut_off(tail: bytes, tmp_path: Path) -> None:
    """A file may have its new length but not its new bytes."""
    path = tmp_path / "results.jsonl"
    Log(path).append([("0001", ENTRIES[0])])
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert len(read_history(tmp_path).entries) == 1
    Log(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"[]", b'{"kind": "evaluated", "of": "1"}', b'{"of": "1"}', b'{"kind": "x", "of": "1"}'],
)
def test_a_damaged_line_in_the_middle_is_an_error(line: bytes, tmp_path: Path) -> None:
    """Nothing is guessed: the sentence names file and line."""
    path = tmp_path / "results.jsonl"
    Log(path).append([("0001", ENTRIES[0])])
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(DamagedLog, match=r"results\.jsonl, line 2: ") as error:
        read_history(tmp_path)
    assert error.value.line == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"of": "0099"}, "there is no wave 0099"),
        ({"kind": ["evaluated"]}, "names no kind"),
        ({"tokens": [1]}, "line 3: .* losses of 1 items"),
    ],
)
def test_an_entry_that_was_edited_is_not_believed(change: Any, words: str, tmp_path: Path) -> None:
    """What contradicts itself, or the rest of the log, is an error that names the file, and no traceback."""
    path = tmp_path / "results.jsonl"
    Log(path).append([("0001", entry) for entry in ENTRIES])
    lines = path.read_text().splitlines()
    assert json.loads(lines[2])["kind"] == "evaluated"
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DamagedLog, match=words):
        read_history(tmp_path)


def test_a_reader_reads_each_line_once(tmp_path: Path) -> None:
    """What is appended later, and by other processes, is there at the next look."""
    reader, log = Reader(tmp_path), Log(tmp_path / "results-1-of-2.jsonl")
    assert reader.read().entries == ()
    log.append([("0001", ENTRIES[0])])
    assert len(reader.read().entries) == 1
    Log(tmp_path / "results-2-of-2.jsonl").append([("0001", ENTRIES[3])])
    log.append([("0001", ENTRIES[1])])
    assert [entry for _, entry in reader.read().entries] == [ENTRIES[0], ENTRIES[1], ENTRIES[3]]


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`: to a program, that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The batch that does not fit is taken back whole, the sentence says what to do, and a later one fits."""
    path = tmp_path / "results.jsonl"
    log = Log(path)
    log.append([("0001", ENTRIES[0])])
    whole = path.read_bytes()
    with (
        _largest_file(len(whole) + 100),
        pytest.raises(UnwritableRun, match="nothing that was measured") as error,
    ):
        log.append([("0001", entry) for entry in ENTRIES])
    assert "make room and run the same command again" in str(error.value)
    assert path.read_bytes() == whole
    log.append([("0001", ENTRIES[3])])
    assert len(read_history(tmp_path).entries) == 2


def test_a_full_device_is_a_sentence() -> None:
    """The device that is always full says so, too."""
    log = Log(Path("/dev/null"))
    log.path = Path("/dev/full")
    with pytest.raises(UnwritableRun, match="No space left on device"):
        log.append([("0001", ENTRIES[0])])


def test_a_checkpoint_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """On a full disk the old one stays, and no half of the new one is left."""
    path, tensors = tmp_path / "checkpoints" / "a.safetensors", {"trial/ü": torch.arange(5.0)}
    write_checkpoint(path, tensors)
    with _largest_file(64), pytest.raises(UnwritableRun):
        write_checkpoint(path, {"x": torch.zeros(1000)})
    found = read_checkpoint(path)
    assert found is not None
    assert torch.equal(found["trial/ü"], tensors["trial/ü"])
    assert [each.name for each in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda _: b"\xff" * 64, None])
def test_a_damaged_checkpoint_is_none(damage: Any, tmp_path: Path) -> None:
    """What cannot be read back whole is as good as gone."""
    path = tmp_path / "a.safetensors"
    if damage is not None:
        write_checkpoint(path, {"x": torch.zeros(3)})
        path.write_bytes(damage(path.read_bytes()))
    assert read_checkpoint(path) is None
