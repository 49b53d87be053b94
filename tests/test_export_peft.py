"""PEFT itself reads what is exported, and adapts exactly the resolved weights on the meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper

import lora_probe
from lora_probe.source import locate
from lora_probe.source.build import build

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

# PEFT warns of patterns, fan_in_fan_out and the like; what it does is what counts here.
pytestmark = pytest.mark.filterwarnings("ignore")

PREFIX = "base_model.model."


def adapted_weights(model: nn.Module) -> set[str]:
    """Return the full names that the adapted weights have in the model before PEFT changed it."""
    found = set()
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            plain = ".".join(part for part in path.removeprefix(PREFIX).split(".") if part != "base_layer")
            name = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
            found.add(f"{plain}.{name}")
    return found


@pytest.mark.parametrize(
    ("model", "targets", "options"),
    [
        ("meta-llama/Llama-3.2-1B", "attention+mlp", {"use_rslora": True}),
        ("meta-llama/Llama-3.2-1B", "attention.q@0-3+mlp.down@last:2", {"bias": "lora_only"}),
        ("meta-llama/Llama-3.2-1B", "attention@odd", {"use_dora": True}),
        ("openai-community/gpt2", "attention.o+mlp.down", {"modules_to_save": ("wpe",)}),
        ("Qwen/Qwen3-30B-A3B", "attention+experts", {}),
        ("Qwen/Qwen3-30B-A3B", "attention.q+experts.down@0-3", {}),
        ("openai/gpt-oss-20b", "experts.gate_up@last:2", {}),
        ("google/gemma-3-4b-it", "text:attention", {}),
        ("google/gemma-3-4b-it", "vision:mlp+text:mlp.down", {"rank_pattern": {"down_proj": 3}}),
        ("google-t5/t5-small", "cross_attention", {}),
    ],
)
def test_peft_adapts_exactly_the_resolved_weights(
    model: str, targets: str, options: dict[str, object], tmp_path: Path
) -> None:
    """The file loads through `LoraConfig.from_pretrained` and leads PEFT to the same weights and ranks."""
    graph = lora_probe.scan(model)
    text = lora_probe.export(graph, targets, to="peft", rank=4, alpha=8, dropout=0.0, **options)  # type: ignore[arg-type]
    (tmp_path / "adapter_config.json").write_text(text)
    config = LoraConfig.from_pretrained(tmp_path)
    assert (config.r, config.lora_alpha, config.base_model_name_or_path) == (4, 8, model)
    base = build(locate(model)).module
    adapted = get_peft_model(base, config)
    assert adapted_weights(adapted) == {site.parameter for site in lora_probe.resolve(graph, targets)}
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    (row,) = lora_probe.budget(graph, [targets], 4, **options).rows  # type: ignore[arg-type]
    assert trained == row.trainable_parameters


@pytest.mark.parametrize(
    ("model", "targets", "task"),
    [
        ("meta-llama/Llama-3.2-1B", "attention", "CAUSAL_LM"),
        ("openai-community/gpt2", "attention", "CAUSAL_LM"),
        ("google/gemma-3-4b-it", "text:attention", "CAUSAL_LM"),
        ("google-t5/t5-small", "attention", "SEQ_2_SEQ_LM"),
        ("openai/whisper-tiny", "attention", None),
        ("google-bert/bert-base-uncased", "attention", None),
    ],
)
def test_the_task_is_the_model_s_where_it_writes_text(
    model: str, targets: str, task: str | None, tmp_path: Path
) -> None:
    """`get_peft_model` takes the task, makes its class of it, and trains the same as without."""
    graph = lora_probe.scan(model)
    (tmp_path / "adapter_config.json").write_text(lora_probe.export(graph, targets, to="peft", rank=4))
    config = LoraConfig.from_pretrained(tmp_path)
    assert config.task_type == task
    kind = {"CAUSAL_LM": "PeftModelForCausalLM", "SEQ_2_SEQ_LM": "PeftModelForSeq2SeqLM", None: "PeftModel"}
    adapted = get_peft_model(build(locate(model)).module, config)
    assert type(adapted).__name__ == kind[task]
    assert adapted_weights(adapted) == {site.parameter for site in lora_probe.resolve(graph, targets)}
