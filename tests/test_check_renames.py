"""Old names and their new ones: the table is current, and what it suggests matches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
import transformers

from lora_probe.checks import check
from lora_probe.checks.renames import new_names, rewritten_pattern
from lora_probe.scanner import scan
from tests.check_cases import GEMMA_3, LLAMA, graph_of
from tests.check_renames import DATA, document

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph


def built(name: str, model: str = "Model", **config: object) -> ModuleGraph:
    """Return the graph of a transformers model with its usual sizes, on the meta device."""
    with torch.device("meta"):
        return scan(getattr(transformers, f"{name}{model}")(getattr(transformers, f"{name}Config")(**config)))


def test_the_table_is_that_of_the_installed_transformers() -> None:
    """The data file is what ``python -m tests.check_renames`` writes now."""
    assert DATA.read_text(encoding="utf-8") == document()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ViT", "query", ("q_proj",)),
        ("ViT", "dense", ("o_proj", "fc1", "fc2")),
        ("DeiT", "value", ("v_proj",)),
        ("Dinov2", "key", ("k_proj",)),
        ("Segformer", "query", ("q_proj",)),
        ("Segformer", "dense1", ("fc1",)),
        ("Swin", "intermediate.dense", ("fc1",)),
        ("Detr", "out_proj", ("o_proj",)),
        ("ConditionalDetr", "self_attn.out_proj", ("self_attn.o_proj",)),
    ],
)
def test_a_published_name_gets_its_new_one(name: str, old: str, new: tuple[str, ...]) -> None:
    """Names that lists of transformers 4 use lead to names that this model has."""
    if name in {"Detr", "ConditionalDetr"}:
        graph = built(name, use_timm_backbone=False, backbone_config=transformers.ResNetConfig())
    else:
        graph = built(name)
    assert new_names(graph, old) == new
    assert check(graph, list(new)).matched > 0


def test_a_head_gets_its_new_name() -> None:
    """GPT-NeoX's embed_out is lm_head now."""
    assert new_names(graph_of("EleutherAI/pythia-1b"), "embed_out") == ("lm_head",)


@pytest.mark.parametrize("old", ["q_proj", "query", "dense", "nonsense", ""])
def test_a_model_that_was_not_renamed_offers_nothing(old: str) -> None:
    """Llama has no renames, whatever is asked."""
    assert new_names(graph_of(LLAMA), old) == ()


@pytest.mark.parametrize(
    "old",
    [
        r"language_model\.model\.layers\.\d+\.self_attn\.(q|v)_proj",
        r"language_model.model.layers.\d+.self_attn.(q_proj|v_proj)",
        r"vision_tower\..*\.q_proj",
    ],
)
def test_an_expression_is_rewritten_as_a_whole(old: str) -> None:
    """An expression over old paths becomes one that matches, dots escaped as they were."""
    graph = graph_of(GEMMA_3)
    new = rewritten_pattern(graph, old)
    assert new is not None
    assert ("\\." in new) == ("\\." in old)
    assert any(re.fullmatch(new, site.path) for site in graph.sites)
    assert not any(re.fullmatch(old, site.path) for site in graph.sites)


def test_the_choices_of_an_expression_are_rewritten_one_by_one() -> None:
    """What is renamed to different names inside one choice keeps both."""
    graph = built("ViT")
    assert (
        rewritten_pattern(graph, r".*\.attention\.attention\.(query|value)")
        == r".*\.attention\.(q_proj|v_proj)"
    )
    assert rewritten_pattern(graph, r".*attention\.(query|value)") == r".*(q_proj|v_proj)"


@pytest.mark.parametrize("old", [r".*\.(gate|up)", "(", r"[", "a{,99999999999}", ".*\\.nonsense"])
def test_an_expression_that_no_rename_helps_stays_alone(old: str) -> None:
    """Nothing is offered for what is no expression, or for other names."""
    assert rewritten_pattern(graph_of(GEMMA_3), old) is None
