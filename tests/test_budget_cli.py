"""``lora-probe budget``, from words to files and exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lora_probe import budget, scan
from lora_probe.cli import run
from lora_probe.cli.lora_words import read_rank_pattern, read_tokens
from lora_probe.errors import BadQuantity, BadRank

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return the path of a small Llama's config.json."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def test_a_first_look_needs_only_a_model(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without options the common sets are shown at three ranks, with what PEFT is told."""
    assert run(["budget", config]) == 0
    shown = capsys.readouterr().out
    assert "LoRA costs from" in shown
    for row in budget(scan(config)).rows:
        assert f"{row.trainable_parameters:,}" in shown
    assert "target_modules q_proj, k_proj, v_proj, o_proj" in shown


def test_every_option_reaches_the_library(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON of the command is that of the library asked for the same."""
    words = (
        "budget MODEL -t attention -t all-linear -r 4,16 --by role-layer --dora --rslora --bias lora_only "
        "--modules-to-save lm_head --trainable-tokens 0,5-7 --rank-pattern layers.0.self_attn.q_proj=2 "
        "--task-type CAUSAL_LM --dtype bfloat16 --json"
    ).replace("MODEL", config)
    assert run(words.split()) == 0
    expected = budget(
        scan(config),
        ["attention", "all-linear"],
        [4, 16],
        by="role-layer",
        use_dora=True,
        use_rslora=True,
        bias="lora_only",
        modules_to_save=("lm_head",),
        trainable_token_indices=(0, 5, 6, 7),
        rank_pattern={"layers.0.self_attn.q_proj": 2},
        task_type="CAUSAL_LM",
        dtype="bfloat16",
    )
    assert json.loads(capsys.readouterr().out) == json.loads(expected.to_json())


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--max-parameters", "20K"], "max_parameters", 20_000),
        (["--max-adapter-size", "100KiB"], "max_adapter_size", 102_400),
        (["--equal-to", "mlp:r=2"], "equal_to", "mlp:r=2"),
    ],
)
def test_each_limit_reaches_the_library(
    words: list[str], name: str, value: int | str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the command line is that of the library, and one row a set remains."""
    assert run(["budget", config, "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = budget(scan(config), **{name: value})  # type: ignore[arg-type]
    assert found["rows"] == expected.to_dict()["rows"]
    assert len(found["rows"]) + len(found["unfit"]) == len(found["sets"])


def test_files_are_written_and_standard_output_stays_empty(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each format goes to its file; what was written is told on standard error."""
    names = {form: str(tmp_path / f"budget.{form}") for form in ("csv", "html", "markdown")}
    words = [word for form, name in names.items() for word in (f"--{form}", name)]
    assert run(["budget", config, "-t", "mlp", "-r", "8", *words]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("wrote ") == 3
    lines = (tmp_path / "budget.csv").read_text(encoding="utf-8").splitlines()
    assert [row["rank"] for row in csv.DictReader(lines)] == ["8"]
    page = (tmp_path / "budget.html").read_text(encoding="utf-8")
    assert "Where mlp at r=8 puts its" in page
    assert (tmp_path / "budget.markdown").read_text(encoding="utf-8").startswith("## LoRA budget")


def test_two_documents_do_not_share_standard_output(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that reads standard output gets one document."""
    assert run(["budget", config, "--json", "--csv", "-"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("-r 0", "rank must be at least 1"),
        ("-r 8,,16", "rank must be a whole number"),
        ("-r 1e3", "rank must be a whole number"),
        ("-r 99999999999999999999", "at most 1048576, the width of no matrix"),
        ("-r -4", "rank must be at least 1, got -4, in --ranks"),
        ("-r 2000000", "at most 1048576"),
        ("-t attention.qq", "attention.qq"),
        ("-t q_proj,nowhere", "nowhere"),
        ("-t (", "targets"),
        ("--max-parameters 18X", "unknown unit 'X'"),
        ("--max-parameters -5", "is not a number of parameters"),
        ("--max-adapter-size 50", "has no unit"),
        ("--max-adapter-size 50mb", "unknown unit 'mb'"),
        ("--max-adapter-size ..", "is not a size"),
        ("--max-parameters 5 --equal-to mlp:r=8", "only one of them"),
        ("--equal-to mlp", "--equal-to: 'mlp' names no set and rank"),
        ("--equal-to mlp:r=0", "rank must be at least 1"),
        ("--rank-pattern mlp", "names no pattern and rank"),
        ("--rank-pattern ([=4", "regular expression"),
        ("--trainable-tokens 7-3", "holds no token index"),
        ("--trainable-tokens 0-99999999", "too many tokens"),
        ("--trainable-tokens nowhere=1", "nowhere"),
        ("--trainable-tokens 499,500", "token 500 is beyond the 500 rows"),
        ("--trainable-tokens lm_head=9999", "token 9999 is beyond the 500 rows"),
        ("--rank-pattern mlp=0", "rank must be at least 1, got 0, in --rank-pattern"),
        ("--rank-pattern mlp=2.5", "rank must be a whole number"),
        ("--task-type causal", "task_type must be one of"),
        ("--lora-bias --dora", "exclude each other"),
        ("--html /nowhere/at/all.html", "cannot write"),
        ("--html ../../../../../nowhere/x.html", "cannot write"),
    ],
)
def test_bad_input_is_one_sentence(
    words: str, problem: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a user gets wrong ends in one sentence on standard error and exit code 2."""
    assert run(["budget", config, *words.split()]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("Error: ")
    assert problem in output.err
    assert "Traceback" not in output.err


def test_an_unwritable_place_leaves_nothing_behind(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a report cannot be written, no half of it is left, and what stood there stays."""
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    assert run(["budget", config, "--markdown", str(folder)]) == 2
    assert [path.name for path in folder.iterdir()] == ["kept.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "taken"]
    capsys.readouterr()


def test_a_rank_of_a_pattern_follows_the_last_equals_sign() -> None:
    """A pattern may hold equals signs itself."""
    assert read_rank_pattern(["(?=a).*=4", "b=2"], option="--rank-pattern") == {"(?=a).*": 4, "b": 2}
    with pytest.raises(BadRank):
        read_rank_pattern(["b=x"], option="--rank-pattern")


def test_tokens_come_with_or_without_a_module() -> None:
    """Indices and ranges add up; those of a module stand behind its name, and the two ways do not mix."""
    assert read_tokens([], option="--trainable-tokens") is None
    assert read_tokens(["1,3-5", "9"], option="--trainable-tokens") == (1, 3, 4, 5, 9)
    assert read_tokens(["a=1", "b=2-3", "a=4"], option="--trainable-tokens") == {"a": (1, 4), "b": (2, 3)}
    with pytest.raises(BadQuantity):
        read_tokens(["1", "a=2"], option="--trainable-tokens")


def test_a_repeated_budget_loads_no_torch(config: str) -> None:
    """Once a model was scanned, its budgets are counted without torch, transformers or PEFT."""
    code = (
        "import sys\nfrom lora_probe.cli import run\n"
        f"assert run(['budget', {config!r}, '--html', '-']) == 0\n"
        "print([each for each in ('torch', 'transformers', 'peft') if each in sys.modules], file=sys.stderr)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
