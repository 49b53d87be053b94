"""Exports: the text for each trainer, what is refused and why, and what is checked before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import lora_probe
from lora_probe import cli
from lora_probe.cli.export import NAMES
from lora_probe.errors import (
    BadQuantity,
    BadRank,
    LoraProbeError,
    NotExportable,
    PeftRefusal,
    UnknownChoice,
    UnmatchedTarget,
)
from lora_probe.exporting import TRAINERS
from tests.golden import check_golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lora_probe.graph import ModuleGraph

LLAMA, GEMMA, QWEN_MOE = "meta-llama/Llama-3.1-8B", "google/gemma-3-4b-it", "Qwen/Qwen3-30B-A3B"
GPT2, PHI, VISION, GPT_OSS = (
    "openai-community/gpt2", "microsoft/phi-4", "Qwen/Qwen2.5-VL-7B-Instruct", "openai/gpt-oss-20b",
)  # fmt: skip
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (LLAMA, "attention+mlp", {"alpha": 32}),
    (LLAMA, "attention.q", {"dropout": 0.05}),
    (LLAMA, "attention@last:8", {"rank": 8}),
    (LLAMA, "attention.q+attention.v@0-3", {}),
    (LLAMA, "qv", {"use_dora": True}),
    (LLAMA, "attention", {"use_rslora": True, "alpha": 8}),
    (LLAMA, "qv", {"modules_to_save": ("lm_head",), "task_type": "CAUSAL_LM"}),
    (LLAMA, "qv", {"rank_pattern": {"v_proj": 4}}),
    (LLAMA, "qv", {"bias": "all"}),
    (LLAMA, "qv", {"alpha": 0.5}),
    (LLAMA, "attention+head.lm_head", {}),
    (GEMMA, "text:attention", {}),
    (GEMMA, "vision:attention.q", {}),
    (VISION, "connector", {}),
    (QWEN_MOE, "attention+experts", {}),
    (QWEN_MOE, "q_proj,gate_proj,up_proj,down_proj", {}),
    (GPT_OSS, "experts", {}),
    (GPT2, "all-linear", {}),
    (GPT2, "attention", {}),
    (PHI, "attention", {}),
)


def graph_of(model: str) -> ModuleGraph:
    """Return a model of the catalogue; kept by the cache of this run."""
    return lora_probe.scan(model)


def said(graph: ModuleGraph, targets: str, *, to: str, **options: Any) -> str:
    """Return what is exported, or the sentence that says why nothing is."""
    try:
        return lora_probe.export(graph, targets, to=to, **options)
    except LoraProbeError as error:
        return f"{type(error).__name__}: {error}\n"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_each_trainer_gets_the_text_that_was_looked_at(trainer: str) -> None:
    """Twenty sets on seven models are written, or refused with the reason, as the golden file has it."""
    parts = []
    for model, targets, options in CASES:
        stated = "".join(f" {name}={value}" for name, value in options.items())
        parts.append(
            f"=== {model} {targets}{stated}\n{said(graph_of(model), targets, to=trainer, **options)}"
        )
    check_golden(f"export/{trainer}.txt", "\n".join(parts))


def test_a_single_name_survives_trl() -> None:
    """TRL makes a text of a list with one element, so that the name is written as an expression."""
    fields = yaml.safe_load(lora_probe.export(graph_of(LLAMA), "attention.q", to="trl"))
    assert fields["lora_target_modules"] == [r"(.*\.)?q_proj"]


def test_substrings_of_llama_factory_are_followed() -> None:
    """On a multimodal model the list is narrowed by switches, and refused where no switch can narrow it."""
    fields = yaml.safe_load(lora_probe.export(graph_of(GEMMA), "vision:attention.q", to="llama-factory"))
    assert (fields["lora_target"], fields["freeze_vision_tower"], fields["freeze_language_model"]) == (
        "q_proj", False, True,
    )  # fmt: skip
    inside = yaml.safe_load(lora_probe.export(graph_of(VISION), "text:attention.q@3", to="llama-factory"))
    assert inside["lora_target"] == ".3.self_attn.q_proj"  # without the dot, 13 and 23 would be in
    with pytest.raises(NotExportable, match="takes every path that contains one"):
        lora_probe.export(graph_of(VISION), "name:patch_embed.proj", to="llama-factory")


def test_doubled_ranks_are_not_lost() -> None:
    """Old expert names double the rank of gate_up_proj; a trainer that cannot lead PEFT to that refuses."""
    targets = "gate_proj,up_proj,down_proj"
    with pytest.raises(NotExportable, match=r"rank|parameter"):
        lora_probe.export(graph_of(QWEN_MOE), targets, to="nemo-automodel")
    names = yaml.safe_load(lora_probe.export(graph_of(QWEN_MOE), targets, to="axolotl"))
    assert names["lora_target_modules"] == targets.split(",")


def test_a_dot_of_nemo_is_any_character() -> None:
    """``*.3.self_attn`` would take layer 13, too, so that the dots are escaped where that happens."""
    text = lora_probe.export(graph_of(LLAMA), "attention.q@3", to="nemo-automodel")
    assert yaml.safe_load(text)["peft"]["target_modules"] == [r"*\.3\.self_attn\.q_proj"]


def test_nemo_is_refused_where_its_own_classes_have_other_names() -> None:
    """DeepSeek-V4's q_a_proj is wq_a there, so that a pattern for it would silently take nothing."""
    with pytest.raises(NotExportable, match="name these layers otherwise"):
        lora_probe.export(graph_of("deepseek-ai/DeepSeek-V4-Pro"), "attention", to="nemo-automodel")
    text = lora_probe.export(graph_of(QWEN_MOE), "attention", to="nemo-automodel")
    assert yaml.safe_load(text)["peft"]["target_modules"] == ["*.q_proj", "*.k_proj", "*.v_proj", "*.o_proj"]


@pytest.mark.parametrize("trainer", ["torchtune", "megatron-bridge"])
def test_part_of_the_layers_is_refused_where_all_are_meant(trainer: str) -> None:
    """Trainers that choose roles for all layers at once do not get a set of some layers."""
    with pytest.raises(NotExportable, match="in all layers or in none") as caught:
        lora_probe.export(graph_of(LLAMA), "attention@0-3", to=trainer)
    assert caught.value.trainer == trainer
    assert caught.value.paths[0] == "model.layers.4.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    "trainer", ["llama-factory", "axolotl", "ms-swift", "unsloth", "trl", "nemo-automodel"]
)
@pytest.mark.parametrize("model", ["google-bert/bert-base-uncased", "openai/whisper-tiny"])
def test_trainers_of_language_models_get_no_other_model(model: str, trainer: str) -> None:
    """PEFT's class for language models, which these trainers make, raises on a model that is none."""
    with pytest.raises(NotExportable, match="its task is"):
        lora_probe.export(graph_of(model), "attention", to=trainer)


def test_trl_is_told_the_task_of_the_model() -> None:
    """T5 gets the class for sequences, BERT the task that is asked for."""
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("google-t5/t5-small", {}, "SEQ_2_SEQ_LM"),
        ("google-bert/bert-base-uncased", {"task_type": "FEATURE_EXTRACTION"}, "FEATURE_EXTRACTION"),
    )
    for model, options, task in cases:
        fields = yaml.safe_load(lora_probe.export(graph_of(model), "attention", to="trl", **options))
        assert fields["lora_task_type"] == task


def test_the_scale_of_mlx_is_alpha_over_rank() -> None:
    """mlx-lm multiplies by `scale`; for rsLoRA that is alpha over the root of the rank."""
    for options, scale in (({}, 4.0), ({"use_rslora": True}, 16.0)):
        text = lora_probe.export(graph_of(LLAMA), "attention", to="mlx-lm", rank=16, alpha=64, **options)
        assert yaml.safe_load(text)["lora_parameters"]["scale"] == scale


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"to": "pefft"}, UnknownChoice),
        ({"rank": 0}, BadRank),
        ({"rank": 2**40}, BadRank),
        ({"alpha": -1}, BadQuantity),
        ({"alpha": float("nan")}, BadQuantity),
        ({"alpha": 1e300}, BadQuantity),
        ({"task_type": "causal"}, PeftRefusal),
        ({"modules_to_save": ("wtee",)}, UnmatchedTarget),
        ({"rank_pattern": {"c_fc": 2}}, UnmatchedTarget),
        ({"alpha_pattern": {"c_fc": 2}}, UnmatchedTarget),
        ({"dropout": 1.0}, BadQuantity),
        ({"targets": "attention.qq"}, UnmatchedTarget),
        ({"use_lora": True}, UnknownChoice),
        ({"bias": "some"}, PeftRefusal),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], error: type[LoraProbeError]) -> None:
    """What cannot be exported at all ends in an error of its own sort."""
    given: dict[str, Any] = {"targets": "attention", "to": "peft", **arguments}
    with pytest.raises(error):
        lora_probe.export(graph_of(GPT2), given.pop("targets"), **given)


def test_names_of_a_model_cannot_break_out_of_a_comment() -> None:
    """A line break in the name of a model stays within the comment."""
    graph = lora_probe.ModuleGraph.from_json(graph_of(GPT2).to_json().replace(GPT2, r"evil\nlora_r: 999"))
    fields = yaml.safe_load(lora_probe.export(graph, "attention", to="axolotl", rank=4))
    assert fields["lora_r"] == 4


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(
    "leaf", ["a,b", "a b", "a\nb", "$(id)", "--lora_rank", "\x1b[31m", "\u2028", "x: y", "['", "*", "#c"]
)
def test_hostile_names_of_layers_are_written_nowhere_but_in_json(leaf: str, trainer: str) -> None:
    """A name that a shell, YAML, a list with commas or a terminal could read otherwise is refused."""
    text = graph_of("openai-community/gpt2").to_json().replace("c_attn", json.dumps(leaf)[1:-1])
    graph = lora_probe.ModuleGraph.from_json(text)
    if trainer == "peft":
        document = json.loads(lora_probe.export(graph, "attention.qkv", to=trainer))
        assert document["target_modules"] == [leaf]
    else:
        with pytest.raises(NotExportable) as caught:
            lora_probe.export(graph, "attention.qkv", to=trainer)
        assert str(caught.value).isprintable()


def test_the_command_knows_every_trainer() -> None:
    """The names that the command offers are those that there are."""
    assert tuple(TRAINERS) == NAMES


def test_the_command_writes_a_whole_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text goes to standard output, or to a file that appears whole; a refusal leaves no file."""
    arguments = ["export", GPT2, "--targets", "c_attn", "-r", "4", "--alpha", "8", "--to"]
    assert cli.run([*arguments, "peft"]) == 0
    assert json.loads(capsys.readouterr().out)["r"] == 4
    path = tmp_path / "adapter_config.json"
    assert cli.run([*arguments, "peft", "-o", str(path)]) == 0
    assert json.loads(path.read_text())["lora_alpha"] == 8
    capsys.readouterr()
    refused = tmp_path / "refused.yaml"
    assert cli.run([*arguments, "torchtune", "-o", str(refused)]) == 2
    assert capsys.readouterr().err.startswith("Error: torchtune cannot say this: ")
    assert not refused.exists()


def test_places_that_cannot_be_written_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing folder, a loop of links, a full disk: exit code 2, one line, and nothing is left behind."""
    (tmp_path / "loop").symlink_to(tmp_path / "pool")
    (tmp_path / "pool").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.iterdir())
    for place in (tmp_path / "none" / "x.json", tmp_path / "loop", "/dev/full"):
        assert cli.run(["export", GPT2, "-t", "c_attn", "--to", "peft", "-o", str(place)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"Error: cannot write {place}: ")
        assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_options_of_the_command_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of the command is an option of `export`, under the name of PEFT."""
    seen: dict[str, Any] = {}
    real: Callable[..., str] = lora_probe.exporting.export

    def recorded(graph: ModuleGraph, **arguments: Any) -> str:
        seen.update(arguments)
        return real(graph, arguments.pop("targets"), to="peft", rank=arguments.pop("rank"))

    monkeypatch.setattr("lora_probe.exporting.export", recorded)
    options = (
        "--dora --rslora --bias all --lora-bias --modules-to-save wte,wpe --trainable-tokens 1-3 "
        "--rank-pattern c_attn=2 --alpha-pattern c_attn=0.5 --tie-weights --task-type CAUSAL_LM "
        "--dropout 0.1 --alpha 3"
    )
    assert cli.run(["export", GPT2, "-t", "attention", "--to", "peft", *options.split()]) == 0
    assert seen == {
        "targets": "attention", "to": "peft", "rank": 16, "alpha": 3.0, "dropout": 0.1, "use_dora": True,
        "use_rslora": True, "bias": "all", "lora_bias": True, "modules_to_save": ("wte", "wpe"),
        "trainable_token_indices": (1, 2, 3), "rank_pattern": {"c_attn": 2}, "alpha_pattern": {"c_attn": 0.5},
        "ensure_weight_tying": True, "task_type": "CAUSAL_LM",
    }  # fmt: skip
