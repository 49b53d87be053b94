"""mlx-lm: the LoRA part of its YAML.

Source: `linear_to_lora_layers` in `mlx_lm/tuner/utils.py` and `CONFIG_DEFAULTS` in `mlx_lm/lora.py` of
mlx-lm 0.32. A key is a path within a block, taken exactly, in the last `num_layers` blocks, or one from the
top of the model. `scale` is what multiplies the update: alpha / r, for rsLoRA alpha / sqrt(r). Its models
are written anew; the ones listed here have the same layers under the same names, experts apart, which its
own adapters treat separately where PEFT's adapt gate and up as one.
"""

from __future__ import annotations

from collections import defaultdict
from math import sqrt
from typing import TYPE_CHECKING, Any

from lora_probe.exporting.by_role import check_one_rank
from lora_probe.exporting.documents import yaml_text
from lora_probe.graph import Kind

if TYPE_CHECKING:
    from lora_probe.exporting.plan import Plan
    from lora_probe.graph import Site

__all__ = ["MODEL_TYPES", "write"]

MODEL_TYPES = frozenset(
    {
        "afmoe", "cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "falcon_h1", "falcon_mamba", "gemma",
        "gemma2", "gemma3_text", "gemma4_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox", "gpt_oss",
        "gptj",
        "granite", "granitemoe", "helium", "jamba", "llama", "mamba", "mellum", "ministral3",
        "mistral", "mixtral", "nemotron_h", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "phi", "phi3",
        "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "recurrent_gemma", "seed_oss", "smollm3",
        "stablelm", "starcoder2",
    }
)  # fmt: skip
"""Types whose linear layers within blocks bear the same names in mlx-lm, in the same blocks."""
_LINEAR = frozenset({Kind.LINEAR, Kind.CONV1D})


def write(plan: Plan) -> str:
    """Return the fields to put into a training configuration.

    Raises:
        NotExportable: mlx-lm has no such option, names the model's layers otherwise, or has no way to choose
            these.

    """
    plan.allow_only("use_dora", "use_rslora", "task_type")
    plan.allow_tasks("CAUSAL_LM")
    if plan.graph.model_type not in MODEL_TYPES:
        raise plan.refusal(f"its names are not known for models of type {plan.graph.model_type}")
    check_one_rank(plan)
    if other := [site.path for site in plan.sites if site.kind not in _LINEAR]:
        raise plan.refusal("only its linear layers are the same as PEFT's", other)
    head, keys, blocks = _chosen(plan)
    settings = plan.settings
    scale = settings.alpha / (sqrt(settings.rank) if settings.use_rslora else settings.rank)
    fields: dict[str, Any] = {
        "fine_tune_type": "dora" if settings.use_dora else "lora",
        "num_layers": blocks,
        "lora_parameters": {
            "keys": [*keys, *head],
            "rank": settings.rank,
            "scale": scale,
            "dropout": settings.dropout,
        },
    }
    return yaml_text(plan.header(), fields)


def _chosen(plan: Plan) -> tuple[list[str], list[str], int]:
    """Return the path of the output if it is wanted, the keys within blocks, and how many last blocks."""
    wanted = {site.path for site in plan.sites}
    blocks = _blocks(plan)
    inside = {path for paths in blocks.values() for path in paths.values()}
    outside = sorted(wanted - inside)
    output = [path for path in outside if path == plan.graph.output_embedding == "lm_head"]
    tied = any(site.tied_to for site in plan.sites if site.path in output)
    if len(output) < len(outside) or tied:
        raise plan.refusal("it adapts layers of blocks and an output of its own", outside)
    first = min(
        (index for index, paths in blocks.items() if not wanted.isdisjoint(paths.values())), default=0
    )
    last = [(key, path) for index in sorted(blocks) if index >= first for key, path in blocks[index].items()]
    keys = list(dict.fromkeys(key for key, path in last if path in wanted))
    if extra := [path for key, path in last if key in keys and path not in wanted]:
        raise plan.refusal("it adapts the same layers in all of the last blocks, with no exception", extra)
    return output, keys, -1 if first == min(blocks) else max(blocks) + 1 - first


def _blocks(plan: Plan) -> dict[int, dict[str, str]]:
    """Return the paths of the linear layers of each block, by their key within it."""
    found: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for site in plan.graph.sites:
        if site.layer is not None and site.kind in _LINEAR:
            found[site.layer][_key(site)] = site.path
    return dict(found)


def _key(site: Site) -> str:
    return site.path.partition(f".{site.layer}.")[2]
