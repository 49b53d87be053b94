"""``lora-probe check`` from arguments to exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lora_probe import cli
from lora_probe.checks import rules
from tests.check_adapters import save_adapter
from tests.check_cases import GEMMA_3, LLAMA, QWEN_MOE

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str) -> int:
    """Run ``lora-probe check`` on a catalogue model."""
    return cli.run(["check", "--source", "catalogue", *arguments])


def test_findings_come_with_their_fixes(capsys: pytest.CaptureFixture[str]) -> None:
    """The worst stands first, with the places collapsed and a line that says what to do."""
    assert run(QWEN_MOE, "--targets", "q_proj,k_prj,gate_proj,up_proj,down_proj", "-r", "16") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{QWEN_MOE}\ntargets: q_proj,k_prj,gate_proj,up_proj,down_proj · rank 16\n")
    assert "PEFT makes 144 adapters: 986,185,728 trainable parameters, 3.23% of the model." in out
    assert out.index("error: unmatched-name") < out.index("info: doubled-rank")
    assert 'fix: close names here: "k_proj"' in out
    assert "model.layers.{0…47}.mlp.experts.gate_up_proj" in out
    assert out.endswith("1 error, 1 info.\n")


def test_nothing_to_object_to_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A clean set ends in one sentence, also under --strict."""
    assert run(LLAMA, "--targets", "attention+mlp", "--strict") == 0
    assert capsys.readouterr().out.endswith("\nNothing to object to.\n")


def test_strict_turns_errors_into_an_exit_code() -> None:
    """With --strict an error is exit code 1; a warning is not."""
    assert run(LLAMA, "--targets", "q_proj,k_prj", "--strict") == 1
    assert run(LLAMA, "--targets", "q_proj,k_prj") == 0
    assert run(GEMMA_3, "--targets", "q_proj,v_proj", "--strict") == 0


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """--json writes the findings and, where it was asked for, the dry run; nothing else."""
    assert run(LLAMA, "--targets", "q_proj,k_prj", "--json", "--dry-run-peft", "--strict") == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["matched"] == 22
    assert document["trainable_parameters"] == document["dry_run"]["trainable_parameters"]
    assert [finding["rule"] for finding in document["findings"]] == ["unmatched-name"]
    assert document["dry_run"]["dropped"] == ["k_prj"]


def test_the_dry_run_stands_beside(capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run-peft adds a table of requested, matched and dropped."""
    assert run(LLAMA, "--targets", "q_proj,k_prj", "--dry-run-peft") == 0
    table = capsys.readouterr().out.partition("on the meta device")[2]
    assert "requested" in table
    assert "model.layers.{0…21}.self_attn.q_proj" in table
    assert "dropped" in table


def test_options_reach_peft(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the command line changes the settings that are checked."""
    arguments = [
        *("--targets", "q_proj", "--alpha", "32", "--dropout", "0.1", "--dora", "--rslora", "--bias", "all"),
        *("--modules-to-save", "lm_head, embed_tokens", "--exclude-modules", r".*\.0\..*"),
        *("--task-type", "CAUSAL_LM", "--serve", "vllm,llama.cpp", "--json"),
    ]
    assert run(LLAMA, *arguments) == 0
    found = {finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"vllm-dora", "vllm-bias", "vllm-modules-to-save", "llama-cpp-scale", "full-copy"} <= found


def test_an_adapter_brings_its_own_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--adapter without --targets checks what the adapter's config says, and its file."""
    save_adapter(tmp_path)
    assert run(LLAMA, "--adapter", str(tmp_path), "--json", "--strict") == 1
    found = {finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"adapter-tensors", "adapter-shape", "adapter-base-model"} <= found


def test_the_fixes_can_be_written_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What fixes name, such as tied weights and patterns, are options of the command."""
    assert run("Qwen/Qwen3-4B", "--targets", "q_proj,lm_head", "--strict", "--json") == 0
    assert '"tied-weights", "severity": "warning"' in " ".join(capsys.readouterr().out.split())
    tied = ["--tie-weights", "--rank-pattern", "q_proj=4", "--trainable-tokens", "5-9"]
    assert run("Qwen/Qwen3-4B", "--targets", "q_proj,lm_head", *tied[:3], "--json") == 0
    assert '"tied-weights", "severity": "info"' in " ".join(capsys.readouterr().out.split())
    assert run(LLAMA, "--targets", "q_proj", *tied[3:], "--serve", "vllm", "--alpha", "0", "--json") == 0
    found = {finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"vllm-tokens", "dead-adapter"} <= found


@pytest.mark.parametrize(
    "options", [["-r", "8"], ["--dora"], ["--alpha", "0"], ["--rank-pattern", "q_proj=4"]]
)
def test_options_beside_an_adapter_alone_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the adapter's config decides is not silently overlooked."""
    assert run(LLAMA, "--adapter", str(save_adapter(tmp_path)), *options) == 2
    assert "its own config says how it was trained" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(rules()))
def test_explain_prints_every_rule(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--explain needs no model."""
    assert cli.run(["check", "--explain", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name} (")


def test_all_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """--rules prints one line a rule."""
    assert cli.run(["check", "--rules"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(rules())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([LLAMA, "--targets", "q_proj", "-r", "0"], "rank must be >= 1, got 0"),
        ([LLAMA, "--targets", "q_proj", "-r", "99999999"], "rank must be <= 1048576"),
        ([LLAMA, "--targets", "attention.q++"], "expected a role, a name"),
        ([LLAMA, "--targets", "q_proj", "--serve", "ollama"], "no rules for the serving engine 'ollama'"),
        ([LLAMA, "--adapter", "nowhere"], "there is no such folder"),
        ([LLAMA], "give --targets, or --adapter"),
        ([], "Missing argument 'MODEL'"),
        (["--explain", "nonsense"], "there is no rule 'nonsense'"),
        ([LLAMA, "--targets", "q_proj", "--bias", "some"], "'some' is not one of"),
    ],
    ids=str,
)
def test_bad_input_ends_in_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be read is said on standard error, with exit code 2 and no traceback."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_hostile_names_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in targets and in an adapter's config are shown as escapes."""
    save_adapter(tmp_path, target_modules=["q_proj"])
    config = tmp_path / "adapter_config.json"
    document = json.loads(config.read_text())
    document |= {"base_model_name_or_path": "evil\x1b[2J", "rank_pattern": {"\x1b]0;x\x07": 2}}
    config.write_text(json.dumps(document))
    assert run(LLAMA, "--adapter", str(tmp_path)) == 0
    assert run(LLAMA, "--targets", '["q_proj", "\\u001b[31m"]') == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J" in out
