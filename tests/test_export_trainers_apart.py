"""Trainers that read what is exported in processes of their own (`make trainers` installs them; no GPU).

- Unsloth patches transformers and PEFT as soon as it is imported; it trains on a CPU, too;
- ms-swift, with modelscope and the client of its hub, sets up folders and logging;
- Megatron-Bridge imports Transformer Engine, which is compiled with CUDA, so that stand-ins take the place
  of three of its classes (`No module named 'transformer_engine'`); the adapter's classes are its own;
- torchtune lies in a folder of its own, with a torchao of its own year.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lora_probe
from lora_probe.exporting.torchtune import MODEL_TYPES as TORCHTUNE_TYPES
from tests.trainer_exports import definition, folder_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]

SMALL: Mapping[str, Any] = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "head_dim": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
EXPERTS: Mapping[str, Any] = {"num_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
SETS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("llama", "attention.q", {}),
    ("llama", "attention+mlp", {"use_rslora": True, "alpha": 32}),
    ("llama", "attention@last:2", {"dropout": 0.05}),
    ("llama", "attention.q", {"modules_to_save": ("lm_head",)}),
    ("mistral", "mlp.down@0+attention.q@1", {}),
    ("qwen3", "mlp@1", {"use_dora": True}),
    ("qwen3_moe", "attention", {}),
    ("qwen3_moe", "attention+experts", {}),
    ("qwen3_moe", "experts", {}),
)


def save_model(folder: Path, model_type: str) -> Path:
    """Write a small random model with a tokenizer, and return its folder."""
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    split = Tokenizer(models.WordLevel(words, "<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=split, **marks).save_pretrained(folder / model_type)
    config = AutoConfig.for_model(model_type, **SMALL, **(EXPERTS if "moe" in model_type else {}))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / model_type)
    return folder / model_type


def read_by(trainer: str, cases: Sequence[Mapping[str, object]], folder: Path) -> Any:
    """Return what the reader of a trainer answers, run without network and GPU beside that trainer."""
    packages = {"ms_swift": "swift", "megatron_bridge": "megatron"}
    beside = folder_of(packages.get(trainer, trainer)).parent
    root = Path(__file__).parent.parent
    asked, answered = folder / "cases.json", folder / "answers.json"
    asked.write_text(json.dumps(cases), "utf-8")
    command = [sys.executable, "-m", f"tests.trainer_readers.{trainer}_reader", str(asked), str(answered)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), str(beside.resolve())]),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "MODELSCOPE_CACHE": str(folder / "modelscope"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(answered.read_text("utf-8"))


def check_training(trainer: str, to: str, sets: Any, folder: Path) -> list[dict[str, Any]]:
    """Assert that what a trainer adapts of small models is the set, with its ranks and factors."""
    folders = {model_type: save_model(folder, model_type) for model_type in {each[0] for each in sets}}
    graphs = {model_type: lora_probe.scan(path) for model_type, path in folders.items()}
    cases = [
        {
            "folder": str(folders[model_type]),
            "model_type": model_type,
            "text": lora_probe.export(graphs[model_type], targets, to=to, rank=4, **options),
        }
        for model_type, targets, options in sets
    ]
    answers: list[dict[str, Any]] = read_by(trainer, cases, folder)
    for answer, (model_type, targets, options) in zip(answers, sets, strict=True):
        wanted = {}
        for site in lora_probe.resolve(graphs[model_type], targets):
            rank = options.get("rank_pattern", {}).get(site.name, 4)
            root = math.sqrt(rank) if options.get("use_rslora") else rank
            wanted[site.parameter] = [rank, options.get("alpha", 4) / root]
        assert answer["adapted"] == wanted
        kept = options.get("modules_to_save", ())
        saved = [f"base_model.model.{name}.modules_to_save.default.weight" for name in kept]
        assert answer["trained"] == saved
    return answers


def test_unsloth_adapts_exactly_the_set(tmp_path: Path) -> None:
    """Its own `get_peft_model`, as exported, adapts the resolved weights with these ranks and factors."""
    ranks = ("llama", "attention", {"rank_pattern": {"q_proj": 2}})
    check_training("unsloth", "unsloth", [*SETS, ranks, ("gemma2", "attention", {})], tmp_path)


def test_ms_swift_adapts_exactly_the_set(tmp_path: Path) -> None:
    """Its own parser and `SftArguments` know every argument, and its tuner adapts the resolved weights."""
    answers = check_training("ms_swift", "ms-swift", SETS, tmp_path)
    assert [answer["unknown"] for answer in answers] == [[]] * len(SETS)


def test_unsloth_still_changes_what_is_refused() -> None:
    """The redirection of embeddings, because of which they are refused, is still there."""
    utils = tree_of("unsloth", "models/_utils.py")
    assert definition(utils, "_redirect_embedding_targets")
    assert definition(utils, "get_moe_target_modules")


LAYERS: Mapping[str, str] = {
    "self_attn.q_proj": "attn.q_proj", "self_attn.k_proj": "attn.k_proj", "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.output_proj", "mlp.gate_proj": "mlp.w1", "mlp.down_proj": "mlp.w2",
    "mlp.up_proj": "mlp.w3",
}  # fmt: skip
"""Names of layers in torchtune; those below each value do the same as those of the key in transformers."""
BUILDERS = (
    ("meta-llama/Llama-3.1-8B", "llama3_1.lora_llama3_1_8b"),
    ("mistralai/Mistral-7B-v0.1", "mistral.lora_mistral_7b"),
    ("Qwen/Qwen2.5-7B", "qwen2_5.lora_qwen2_5_7b_base"),
)


def test_torchtune_builds_exactly_the_adapters(tmp_path: Path) -> None:
    """Its own `instantiate` gives adapters to the resolved layers of each model, by their names there."""
    cases, wanted = [], []
    for model, builder in BUILDERS:
        for targets, options in (
            ("attention.q+attention.o", {}),
            ("attention+mlp", {"alpha": 32}),
            ("attention.v", {"use_dora": True}),
        ):
            graph = lora_probe.scan(model)
            text = lora_probe.export(graph, targets, to="torchtune", rank=4, **options)
            cases.append({"text": text, "builder": f"torchtune.models.{builder}"})
            kind = "DoRALinear" if options.get("use_dora") else "LoRALinear"
            found = [site.path.split(".", 3) for site in lora_probe.resolve(graph, targets)]
            adapter = [kind, 4, options.get("alpha", 4) / 4]
            wanted.append({f"layers.{layer}.{LAYERS[name]}": adapter for _, _, layer, name in found})
    assert read_by("torchtune", cases, tmp_path) == wanted


def test_every_builder_of_torchtune_takes_the_arguments(tmp_path: Path) -> None:
    """Each builder with LoRA of each family that is written for adapts the same kinds of layers."""
    families = {
        "gemma": ("gemma",), "gemma2": ("gemma2",), "llama": ("llama2", "llama3", "llama3_1", "llama3_2"),
        "mistral": ("mistral",), "phi3": ("phi3", "phi4"), "qwen2": ("qwen2", "qwen2_5"),
    }  # fmt: skip
    assert set(families) == TORCHTUNE_TYPES
    graph = lora_probe.scan("meta-llama/Llama-3.1-8B")
    text = lora_probe.export(graph, "attention+mlp", to="torchtune", rank=4)
    builders = [
        f"torchtune.models.{name}.{each.name}"
        for names in families.values()
        for name in names
        for each in tree_of("torchtune", f"models/{name}/_model_builders.py").body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("lora_")
    ]
    answers = read_by("torchtune", [{"text": text, "builder": each} for each in builders], tmp_path)
    for builder, answer in zip(builders, answers, strict=True):
        kinds = {re.sub(r"^layers\.\d+\.(sa_)?", "", path) for path in answer}
        assert kinds == set(LAYERS.values()), builder


def test_megatron_bridge_matches_exactly_the_layers(tmp_path: Path) -> None:
    """Its own classes take every keyword, and match the resolved roles in each layer and no others."""
    parts = {
        "q_proj": "self_attention.linear_q", "k_proj": "self_attention.linear_k",
        "v_proj": "self_attention.linear_v", "o_proj": "self_attention.linear_proj",
        "gate_proj": "mlp.linear_fc1_gate", "up_proj": "mlp.linear_fc1_up", "down_proj": "mlp.linear_fc2",
    }  # fmt: skip
    fused = ("self_attention.linear_qkv", "self_attention.linear_proj", "mlp.linear_fc1", "mlp.linear_fc2")
    graph = lora_probe.scan("meta-llama/Llama-3.1-8B")
    paths = [f"decoder.layers.{layer}.{name}" for layer in range(32) for name in fused]
    cases, wanted = [], []
    for kind, targets, options in (
        ("CanonicalLoRA", "attention+mlp", {"alpha": 32}),
        ("CanonicalLoRA", "attention.q+attention.k+attention.v", {}),
        ("LoRA", "attention.o", {"dropout": 0.1}),
        ("DoRA", "attention.o+mlp.down", {"use_dora": True}),
    ):
        text = lora_probe.export(graph, targets, to="megatron-bridge", rank=4, **options)
        cases.append({"text": text, "paths": [*paths, "output_layer"]})
        found = {
            f"decoder.layers.{site.layer}.{parts[site.name]}" for site in lora_probe.resolve(graph, targets)
        }
        wanted.append((found, [kind, 4, options.get("alpha", 4), options.get("dropout", 0.0), "pre"]))
    answers = read_by("megatron_bridge", cases, tmp_path)
    assert [(set(each["adapted"]), each["fields"]) for each in answers] == wanted
