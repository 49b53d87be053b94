"""Which side of a bare matrix meets the input: the scan against the module's own forward pass."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from torch import nn

from lora_probe import Kind, scan
from tests.forward_sides import Tiny, sides_in_forward

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS, HEADS = 6, 5
NOT_STACKED = {"AriaSharedExpertsMLP", "DbrxExperts", "NllbMoeExperts", "SwitchTransformersExperts"}
"""Classes of that name that hold modules, or reshape one matrix for all experts (Dbrx)."""
OTHER_FORWARD = {"InklingSharedExperts", "JetMoeParallelExperts", "Llama4TextExperts"}
"""Classes that are called in a way of their own; each has its own test here."""


def scanned(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Return (in_features, out_features) of the matrices that `module` holds itself, as scanned."""
    graph = scan(nn.ModuleDict({"held": module}))
    return {
        site.parameter.removeprefix("held."): (site.in_features, site.out_features)
        for site in graph
        if site.path == "held"
    }


def routed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return hidden states of a few tokens, and two experts with weights for each."""
    chosen = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2], [1, 3]])
    return torch.randn(TOKENS, Tiny.HIDDEN), chosen, torch.rand(TOKENS, Tiny.CHOSEN)


def model_class(path: str) -> type[nn.Module]:
    """Return a class of transformers by ``module.Class`` below its models."""
    module, _, name = path.rpartition(".")
    found: type[nn.Module] = getattr(import_module(f"transformers.models.{module}"), name)
    return found


def test_batched_experts_of_llama4() -> None:
    """Experts that take all tokens at once in a batched product store (in, out)."""
    experts = model_class("llama4.modeling_llama4.Llama4TextExperts")(Tiny())
    states = torch.randn(Tiny.EXPERTS * TOKENS, Tiny.HIDDEN)
    assert scanned(experts) == sides_in_forward(experts, states)
    assert scanned(experts)["down_proj"] == (Tiny.INTERMEDIATE, Tiny.HIDDEN)


def test_parallel_experts_of_jetmoe() -> None:
    """A stack of matrices under the name of a plain weight is one of experts."""
    experts = model_class("jetmoe.modeling_jetmoe.JetMoeParallelExperts")(3, 8, 20)
    nn.init.normal_(experts.weight)
    assert scanned(experts) == sides_in_forward(experts, torch.randn(6, 8), [2, 2, 2])
    (site,) = scan(nn.ModuleDict({"held": experts}))
    assert (site.kind, site.experts) == (Kind.EXPERT_PARAMETER, 3)


def test_shared_experts_of_inkling() -> None:
    """Shared experts are stacked and transposed while they run."""
    experts = model_class("inkling.modeling_inkling.InklingSharedExperts")(Tiny())
    gammas = torch.rand(TOKENS, Tiny.CHOSEN)
    assert scanned(experts) == sides_in_forward(experts, torch.randn(TOKENS, Tiny.HIDDEN), gammas)


def test_codebook_heads_of_csm() -> None:
    """A head for each codebook is a stack, read through one local name and a transposition."""
    heads = model_class("csm.modeling_csm.CsmCodebooksHead")(8, 4, 20)
    nn.init.normal_(heads.weight)
    positions = torch.arange(1, 4)
    assert scanned(heads) == sides_in_forward(heads, torch.randn(1, 3, 8), positions)


def test_gates_of_recurrent_gemma() -> None:
    """Block-diagonal gates are one matrix a head, added to a bias of as many vectors."""
    config = transformers.RecurrentGemmaConfig(lru_width=20, num_attention_heads=HEADS)
    unit = model_class("recurrent_gemma.modeling_recurrent_gemma.RecurrentGemmaRglru")(config)
    for parameter in unit.parameters():
        nn.init.normal_(parameter)
    sides = sides_in_forward(unit, torch.randn(1, 3, 20), torch.arange(3)[None])
    assert scanned(unit) == sides
    graph = scan(nn.ModuleDict({"held": unit}))
    assert {site.bias_parameters for site in graph} == {20}
    assert [item.parameter for item in graph.uncovered] == ["held.recurrent_param"]


def test_projections_to_heads_of_xlnet() -> None:
    """A matrix of (hidden, heads, width) is one projection to all heads, which PEFT cannot read so."""
    config = transformers.XLNetConfig(d_model=20, n_head=HEADS, d_inner=30, n_layer=1, vocab_size=10)
    attention = model_class("xlnet.modeling_xlnet.XLNetRelativeAttention")(config)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    states, positions = torch.randn(4, 1, 20), torch.randn(8, 1, 20)
    sides = sides_in_forward(attention, states, None, None, None, positions, None)
    matrices = {name: sides[name] for name in "qkvor"}
    assert scanned(attention) == matrices == dict.fromkeys("qkvor", (20, 20))
    graph = scan(nn.ModuleDict({"held": attention}))
    assert {site.adaptable for site in graph if site.path == "held"} == {None}


def test_projector_of_gemma3() -> None:
    """A bare projection that multiplies from the right stores (in, out)."""
    config = transformers.Gemma3Config(mm_tokens_per_image=4)
    config.text_config.hidden_size, config.vision_config.hidden_size = 20, 8
    config.vision_config.image_size, config.vision_config.patch_size = 28, 7
    projector = model_class("gemma3.modeling_gemma3.Gemma3MultiModalProjector")(config)
    nn.init.normal_(projector.mm_input_projection_weight)
    sides = sides_in_forward(projector, torch.randn(1, 16, 8))
    assert scanned(projector) == sides == {"mm_input_projection_weight": (8, 20)}


def expert_classes() -> Iterator[tuple[str, type[nn.Module]]]:
    """Yield every experts class of the installed transformers, by name."""
    models = Path(inspect.getfile(transformers)).parent / "models"
    for path in sorted(models.glob("*/modeling_*.py")):
        if "Experts(" not in path.read_text(encoding="utf-8"):
            continue
        module = import_module(f"transformers.models.{path.parent.name}.{path.stem}")
        for name, value in vars(module).items():
            if name.startswith("_") or "Experts" not in name or not inspect.isclass(value):
                continue
            if issubclass(value, nn.Module) and value.__module__ == module.__name__:
                yield name, value


def test_every_experts_class_has_the_sides_of_its_forward_pass() -> None:
    """No experts class of the installed transformers is read the wrong way round."""
    different, checked = {}, 0
    for name, experts_class in expert_classes():
        if name in NOT_STACKED | OTHER_FORWARD:
            continue
        experts = experts_class(Tiny())
        sides = sides_in_forward(experts, *routed())
        checked += 1
        if scanned(experts) != sides:
            different[name] = sides
    assert not different
    assert checked >= 65


def test_experts_of_dbrx_that_others_read() -> None:
    """Experts stacked in one matrix, which code around their module slices, are sites without an adapter.

    PEFT would wrap the module, and the code around it would no longer find the other matrices.
    """
    hidden, intermediate, count = 8, 20, 3
    config = transformers.DbrxConfig(
        d_model=hidden, ffn_config={"ffn_hidden_size": intermediate, "moe_num_experts": count}
    )
    experts = model_class("dbrx.modeling_dbrx.DbrxExperts")(config.ffn_config)
    graph = scan(nn.ModuleDict({"held": experts}))
    assert {site.parameter: (site.in_features, site.out_features) for site in graph} == {
        "held.mlp.w1": (hidden, count * intermediate),
        "held.mlp.v1": (hidden, count * intermediate),
        "held.mlp.w2": (count * intermediate, hidden),
    }
    assert {(site.kind, site.adaptable) for site in graph} == {(Kind.MATRIX_PARAMETER, None)}
