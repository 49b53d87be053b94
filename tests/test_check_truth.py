"""What the lints claim, held against PEFT and torch: the dead get no gradient, the dropped no adapter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from lora_probe.checks import check
from lora_probe.checks.dry_run import dry_run
from lora_probe.errors import BadTargets
from lora_probe.peft_rules import LoraSettings
from lora_probe.scanner import scan
from lora_probe.source import locate
from lora_probe.source.build import build
from tests.check_cases import CASES, DEEPSEEK, GPT_OSS, LLAMA, QWEN_MOE, graph_of
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from collections.abc import Callable


class Attends(nn.Module):
    """A module of one's own around torch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.output = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend to `x`, (T, B, 8), and project."""
        out: torch.Tensor = self.output(self.attention(x, x, x)[0])
        return out


def _mamba() -> nn.Module:
    config = transformers.MambaConfig(hidden_size=8, state_size=4, num_hidden_layers=2, vocab_size=10)
    return transformers.MambaForCausalLM(config)


def _wavlm() -> nn.Module:
    config = transformers.WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8,),
        conv_stride=(4,), conv_kernel=(4,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        layerdrop=0.0, mask_time_prob=0.0,
    )  # fmt: skip
    return transformers.WavLMModel(config)


def _tokens(model: nn.Module) -> Any:
    return model(torch.arange(6).view(1, 6)).logits


def _sound(model: nn.Module) -> Any:
    return model(torch.randn(1, 400)).last_hidden_state


def _states(model: nn.Module) -> Any:
    return model(torch.randn(3, 1, 8))


@pytest.mark.parametrize(
    ("make", "run", "targets", "dead"),
    [
        (_mamba, _tokens, ["in_proj", "x_proj", "dt_proj"], {"dt_proj"}),
        (
            _wavlm,
            _sound,
            ["q_proj", "k_proj", "v_proj", "intermediate_dense"],
            {"q_proj", "k_proj", "v_proj"},
        ),
        (Attends, _states, ["out_proj", "output"], {"out_proj"}),
        (lambda: build_tiny("llama"), _tokens, ["q_proj", "down_proj"], set()),
    ],
    ids=["mamba", "wavlm", "multihead attention", "llama"],
)
def test_a_dead_adapter_gets_no_gradient(
    make: Callable[[], nn.Module], run: Callable[[nn.Module], Any], targets: list[str], dead: set[str]
) -> None:
    """After a real backward pass, exactly the adapters that the lint calls dead have no gradient."""
    torch.manual_seed(0)
    model = make().train()
    found = check(scan(model), targets)
    errors = [finding for finding in found.of("dead-adapter") if finding.severity == "error"]
    reported = {path for finding in errors for path in finding.paths}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    run(tuned.base_model.model).square().mean().backward()
    still = {
        name.partition(".lora_B")[0].removeprefix("base_model.model.")
        for name, parameter in tuned.named_parameters()
        if "lora_B" in name and (parameter.grad is None or not parameter.grad.abs().sum())
    }
    assert reported == still
    assert {path.rpartition(".")[2] for path in reported} == dead


@pytest.mark.parametrize(
    ("model", "targets", "options"),
    [
        (QWEN_MOE, "q_proj,k_prj,gate_proj,up_proj,down_proj", {}),
        (QWEN_MOE, CASES["pattern-widened"][0].targets, {}),
        (GPT_OSS, "all-linear", {"target_parameters": ("experts.down_proj",)}),
        (
            DEEPSEEK,
            "all-linear",
            {"target_parameters": CASES["dense-rewritten"][1].options["target_parameters"]},
        ),
        (LLAMA, "q_proj,lm_head", {"modules_to_save": ("embed_tokens",)}),
        (LLAMA, "self_attn,q_proj", {}),
    ],
)
def test_a_dry_run_agrees_with_the_check(model: str, targets: str, options: dict[str, Any]) -> None:
    """PEFT itself makes as many adapters and trains as many parameters as the check says, or refuses, too."""
    found = check(graph_of(model), targets, rank=4, **options)
    run = dry_run(build(locate(model, source="catalogue")).module, found.settings)
    assert run.trainable_parameters == found.trainable_parameters
    targeted = {name for each in run.requested for name in each.matched} | set(run.unrequested)
    assert len(targeted) == found.matched
    assert (run.refusal is None) == bool(found.matched)


def test_a_dry_run_shows_what_was_dropped() -> None:
    """Requested, matched and dropped stand side by side, expert names beside what PEFT translates them to."""
    settings = LoraSettings(rank=4, alpha=4, target_modules=("q_proj", "k_prj", "gate_proj", "up_proj"))
    run = dry_run(build(locate(QWEN_MOE, source="catalogue")).module, settings)
    assert {each.text: len(each.matched) for each in run.requested} == {
        "q_proj": 48, "k_prj": 0, "gate_proj": 48, "up_proj": 48,
    }  # fmt: skip
    assert run.dropped == ("k_prj",)
    assert not run.unrequested
    assert all(name.endswith(".experts.gate_up_proj") for name in run.requested[2].matched)
    assert any("rank_pattern" in warning for warning in run.warnings)
    assert run.to_dict()["dropped"] == list(run.dropped)


def test_a_dry_run_tells_apart_what_nobody_asked_for() -> None:
    """What PEFT adds to an expression that it cuts down is no match of the expression."""
    settings = LoraSettings(rank=4, alpha=4, target_modules=CASES["pattern-widened"][0].targets)
    run = dry_run(build(locate(QWEN_MOE, source="catalogue")).module, settings)
    assert len(run.requested[0].matched) == 8
    assert len(run.unrequested) == 2 * 48 - 8


def test_a_dry_run_needs_a_module() -> None:
    """A name instead of a model is refused in one sentence."""
    with pytest.raises(BadTargets, match=r"is no nn\.Module"):
        dry_run("llama", LoraSettings(target_modules=("q_proj",)))


RAISES = (
    "container-hit", "wrapper-layer", "unsupported-module", "gate-without-up", "nothing-matched",
    "string-for-list", "renamed-module", "peft-refuses",
)  # fmt: skip


@pytest.mark.parametrize("name", RAISES)
def test_where_a_lint_says_that_peft_raises_it_does(name: str) -> None:
    """Each pain that ends in an exception does so in PEFT itself, and no longer with the fix."""
    for example, refused in zip(CASES[name], (True, False), strict=True):
        graph = graph_of(example.model)
        found = check(graph, example.targets, **example.options)
        if example.model == "ViT with a classifier":
            config = transformers.ViTConfig(num_hidden_layers=2, num_labels=1000)
            with torch.device("meta"):
                module: nn.Module = transformers.ViTForImageClassification(config)
        else:
            module = build(locate(example.model, source="catalogue")).module
        assert (dry_run(module, found.settings).refusal is not None) is refused
