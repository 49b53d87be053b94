"""The folder of a pilot: whose it is, who works in it, its plan, and what a failed start leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting.errors import (
    ChangedUnderneath,
    DamagedLog,
    FolderInUse,
    ForeignFolder,
    NoPilot,
    PlanDiffers,
    UnwritableFolder,
    UnwritableRun,
)
from lora_probe.piloting.folder import (
    PLAN,
    adapter_name,
    agree_on_plan,
    differences,
    discarded_unless_begun,
    prepared_folder,
    read_plan,
)
from lora_probe.piloting.lock import is_held, locked
from lora_probe.piloting.log import Log, Wave
from lora_probe.piloting.records import Split, Trial, Unit
from lora_probe.piloting.shards import ALONE, Shard, claimed
from tests.pilot_fakes import small_plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIAL = Trial(candidate="mlp", learning_rate=1e-4, seed=0)
WAVE = Wave(
    id="0001",
    round=0,
    unit=Unit(trials=(TRIAL,), start=0, stop=3, splits=(Split.TUNING,)),
    trials=(TRIAL,),
    engine="fake",
)


_HOLD = """
import sys, time
from pathlib import Path
from lora_probe.piloting.shards import claimed, read_shard
with claimed(Path(sys.argv[1]), read_shard(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def _holder(folder: Path, shard: str = "1/1") -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the folder."""
    command = [sys.executable, "-c", _HOLD, str(folder), shard]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_are_refused(tmp_path: Path) -> None:
    """The second is told who works there; killed, the first leaves nothing that is in the way."""
    with _holder(tmp_path) as first:
        with (
            pytest.raises(FolderInUse, match=rf"process {first.pid} on \S+ works on it"),
            claimed(tmp_path, ALONE),
        ):
            pass
        first.kill()
        first.wait()
        with claimed(tmp_path, ALONE):
            pass


def test_shards_of_one_number_go_together(tmp_path: Path) -> None:
    """1/2 and 2/2 share a folder; 1/2 twice, 1/3 beside it, and a process that does all do not."""
    with _holder(tmp_path, "1/2"):
        with claimed(tmp_path, Shard(index=2, count=2)):
            pass
        for shard in (Shard(index=1, count=2), Shard(index=2, count=3), ALONE):
            with pytest.raises(FolderInUse), claimed(tmp_path, shard):
                pass
        agree_on_plan(tmp_path, small_plan())
        with pytest.raises(FolderInUse), claimed(tmp_path, Shard(index=2, count=3)):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock-1-of-2", PLAN]


@pytest.mark.parametrize("names", [["notes.txt"], ["results.jsonl"], ["checkpoints", "lock"]])
def test_a_folder_of_something_else_is_refused(names: list[str], tmp_path: Path) -> None:
    """Nothing is written into a folder that no pilot made; the sentence says what is in it."""
    for name in names:
        (tmp_path / name).touch()
    with (
        pytest.raises(ForeignFolder, match=f"it holds something else \\({names[0]}"),
        prepared_folder(tmp_path),
    ):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """An output that is a file is refused."""
    (tmp_path / "file").touch()
    with pytest.raises(ForeignFolder, match="it is a file"), prepared_folder(tmp_path / "file"):
        pass


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path: Path) -> None:
    """It is called what it is, and nothing is made at its end."""
    for name, end in (("away", "gone"), ("round", "round")):
        (tmp_path / name).symlink_to(tmp_path / end)
        with pytest.raises(ForeignFolder, match="leads nowhere"), prepared_folder(tmp_path / name):
            pass
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "garbage", '{"format": "terraform"}', "[" * 100_000])
def test_a_plan_of_another_program_is_refused(text: str, tmp_path: Path) -> None:
    """A ``plan.json`` that is not ours makes the folder somebody else's."""
    (tmp_path / PLAN).write_text(text)
    with (
        pytest.raises(ForeignFolder, match=r"its plan\.json is no plan of this version"),
        prepared_folder(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("training", "steps", 0),
        ("training", "betas", [0.9, "nan"]),
        ("protocol", "seeds", []),
        ("protocol", "grid", []),
        ("protocol", "extensions", -1),
        ("protocol", "resamples", 10**18),
        ("protocol", "equal", "size"),
        ("candidates", "name", "base"),
        ("candidates", "rank", -8),
        ("candidates", "arm", "base"),
        ("candidates", "alpha", "inf"),
        ("candidates", "trainable_parameters", -1),
        ("candidates", "arm", "half"),
    ],
)
def test_a_plan_that_was_edited_is_not_believed(part: str, field: str, value: Any, tmp_path: Path) -> None:
    """What no pilot can be run with is a sentence that names the file, never a traceback later on."""
    agree_on_plan(tmp_path, small_plan())
    document = json.loads((tmp_path / PLAN).read_text())
    found = document["plan"][part]
    (found[-1] if part == "candidates" else found)[field] = value
    (tmp_path / PLAN).write_text(json.dumps(document))
    with pytest.raises(DamagedLog, match=r"plan\.json: this is none of lora-probe's own"):
        read_plan(tmp_path)


def test_what_a_killed_start_leaves_is_no_obstacle(tmp_path: Path) -> None:
    """Locks and half a plan are ours."""
    for name in ("lock", "lock-1-of-2", "plan.json.77.half"):
        (tmp_path / name).touch()
    with prepared_folder(tmp_path):
        pass


def _broken_off(folder: Path, *, logs: bool = False, is_shared: bool = False) -> None:
    """Begin as a pilot does, and break off once the plan is written, or something is logged."""
    with (
        prepared_folder(folder),
        claimed(folder, ALONE),
        discarded_unless_begun(folder, is_shared=lambda: is_shared),
    ):
        agree_on_plan(folder, small_plan())
        if logs:
            Log(folder / "results.jsonl").append([("0001", WAVE)])
        raise KeyboardInterrupt


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Folders that were made go again, with plan and lock; one that was there stays, empty as it was."""
    there = tmp_path / "there"
    there.mkdir()
    for folder in (tmp_path / "made" / "for" / "it", there):
        with pytest.raises(KeyboardInterrupt):
            _broken_off(folder)
    assert list(tmp_path.rglob("*")) == [there]


@pytest.mark.parametrize("keeps", ["a log", "a sibling", "an earlier call"])
def test_a_plan_that_somebody_goes_by_is_kept(keeps: str, tmp_path: Path) -> None:
    """Once anything was logged, or while another shard works, or where it was there before, a plan stays."""
    if keeps == "an earlier call":
        agree_on_plan(tmp_path, small_plan())
    with pytest.raises(KeyboardInterrupt):
        _broken_off(tmp_path, logs=keeps == "a log", is_shared=keeps == "a sibling")
    assert read_plan(tmp_path) == small_plan()


def test_a_share_without_work_keeps_the_plan(tmp_path: Path) -> None:
    """A shard that has nothing to do yet logs nothing, and its plan is the pilot's all the same."""
    with (
        prepared_folder(tmp_path / "out"),
        claimed(tmp_path / "out", Shard(index=9, count=9)),
        discarded_unless_begun(tmp_path / "out", is_shared=lambda: False),
    ):
        agree_on_plan(tmp_path / "out", small_plan())
    assert read_plan(tmp_path / "out") == small_plan()


def test_a_refused_process_does_not_take_the_lock_away(tmp_path: Path) -> None:
    """While the first one still reads its data there is no plan yet: its lock holds all the same."""
    with _holder(tmp_path):
        for _ in range(2):
            with pytest.raises(FolderInUse), prepared_folder(tmp_path), claimed(tmp_path, ALONE):
                pass
    (tmp_path / "lock").unlink()
    with _holder(tmp_path, "1/2"), claimed(tmp_path, Shard(index=2, count=2)):
        pass  # this one's lock goes, the other's stays
    assert [path.name for path in tmp_path.iterdir()] == ["lock-1-of-2"]


def test_a_lock_that_was_removed_locks_nobody_out(tmp_path: Path) -> None:
    """Two processes that opened the old file and the new one do not both hold the lock."""
    path = tmp_path / "lock"
    with locked(path) as first:
        path.unlink()
        with locked(path) as second:
            assert first
            assert second
            assert is_held(path)
    assert not is_held(path)
    assert not is_held(tmp_path / "none")


@pytest.mark.parametrize("name", ["/proc/lora-probe/out", "/proc/lora-probe", "a\0b", "x" * 300])
def test_a_place_where_nothing_can_be_written(name: str, tmp_path: Path) -> None:
    """The sentence says which place, why, and what to do; that a disk is full is another one."""
    folder = tmp_path / name
    with pytest.raises(UnwritableFolder, match="may make and write to") as error, prepared_folder(folder):
        pass
    assert str(error.value).startswith(f"--out {folder} cannot be written (".replace("\0", r"\x00"))
    assert "make room" not in str(error.value)


def test_a_log_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    """Of a full disk, room is the remedy; of anything else it is not."""
    log = Log(tmp_path / "gone" / "results.jsonl")
    with pytest.raises(UnwritableRun, match="let this process write there and run the same command again"):
        log.append([("0001", WAVE)])


def test_a_folder_without_a_pilot(tmp_path: Path) -> None:
    """What should be analysed must be there."""
    with pytest.raises(NoPilot, match="it holds no pilot"):
        read_plan(tmp_path)
    with pytest.raises(NoPilot, match="there is no such folder"):
        read_plan(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NoPilot, match="it is a file; give the --out folder"):
        read_plan(tmp_path / "file")
    (tmp_path / PLAN).mkdir()
    with pytest.raises(NoPilot, match=r"its plan\.json cannot be read \(Is a directory\)"):
        read_plan(tmp_path)


def test_a_plan_that_differs_says_how(tmp_path: Path) -> None:
    """Field by field, in a sentence, with both values; arms by their names."""
    plan = small_plan("qv", "mlp")
    assert agree_on_plan(tmp_path, plan) == plan
    assert agree_on_plan(tmp_path, plan) == plan
    other = replace(small_plan("qv", "o"), training=replace(plan.training, steps=99))
    with pytest.raises(PlanDiffers) as error:
        agree_on_plan(tmp_path, other)
    assert error.value.differences == (
        "candidates.mlp is only there",
        "candidates.o is only here",
        "training.steps is 12 there and 99 here",
    )
    assert "run it as it was, or give another folder" in str(error.value)


def test_other_versions_waves_and_words_are_no_other_plan() -> None:
    """What bears on speed or on the last digits only does not keep a pilot from going on."""
    plan = small_plan()
    assert differences(plan, replace(plan, wave=3, versions={"torch": "9"}, command=("x",))) == ()


@pytest.mark.parametrize("part", ["model", "data"])
def test_what_changed_underneath_is_found(part: str, tmp_path: Path) -> None:
    """Another fingerprint is another model or other data, whatever the name; another path alone is not."""
    plan = small_plan()
    facts = getattr(plan, part)
    plan = replace(plan, **{part: replace(facts, fingerprint="1")})
    agree_on_plan(tmp_path, plan)
    name = "model" if part == "model" else "source"
    moved = replace(plan, **{part: replace(getattr(plan, part), **{name: "elsewhere"})})
    assert agree_on_plan(tmp_path, moved) == plan
    with pytest.raises(ChangedUnderneath, match=f"the {part} {getattr(facts, name)} is not what the pilot"):
        agree_on_plan(tmp_path, replace(plan, **{part: replace(facts, fingerprint="2")}))


def test_names_of_adapters_are_harmless() -> None:
    """A candidate may be called anything; the names of the folders stay apart and stay inside."""
    plan = small_plan("../../etc", "re:.*\\.(q|v)_proj", "..", "a" * 500, "a" * 501)
    names = [
        adapter_name(plan, Trial(candidate=each.name, learning_rate=1e-4, seed=0)) for each in plan.candidates
    ]
    assert len(set(names)) == len(names)
    assert all(name == os.path.basename(name) and len(name) < 120 for name in names)  # noqa: PTH119
