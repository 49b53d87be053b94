"""The trainers' own code reads what is exported for them (`make trainers` installs them, without a GPU).

PEFT reads its file in tests/test_export_peft.py, with every run of the tests. TRL (`HfArgumentParser` and
`get_peft_config`), Axolotl (its schema), LLaMA-Factory (its arguments and `patch_target_modules`), NeMo
Automodel (`PeftConfig`, `ModuleMatcher`) and mlx-lm (on MLX for CPUs) read the text here; those that need a
process of their own, in tests/test_export_trainers_apart.py.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import lora_probe
from lora_probe.checks.peft_config import settings_from_config
from lora_probe.exporting import mlx_lm, nemo_automodel
from lora_probe.exporting.composite_models import COMPOSITE_MODELS, Towers
from lora_probe.exporting.nemo_automodel import matched
from lora_probe.graph import Kind
from lora_probe.peft_rules import LoraSettings, predict
from tests.trainer_exports import GEMMA, LLAMA, QWEN_MOE, SETS, exported, folder_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lora_probe.graph import ModuleGraph

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]


def check_config(graph: ModuleGraph, targets: str, config: Any, options: Mapping[str, Any]) -> None:
    """Assert that a `LoraConfig` that a trainer made means the exported set and options."""
    settings = settings_from_config(config.to_dict(), where="config")
    # An empty list of names is None in the dictionary of a config, which would mean PEFT's default.
    settings = replace(settings, target_modules=settings.target_modules or ())
    assert settings.rank == 4
    assert settings.alpha == options.get("alpha", 4)
    for name in ("dropout", "use_dora", "use_rslora", "modules_to_save"):
        assert getattr(settings, name) == options.get(name, getattr(LoraSettings(), name))
    found = {site.parameter for site in predict(graph, settings).sites}
    assert found == {site.parameter for site in lora_probe.resolve(graph, targets)}


@pytest.mark.parametrize(("model", "targets", "options"), [*SETS, (QWEN_MOE, "experts", {})])
def test_trl_makes_the_config_that_is_meant(model: str, targets: str, options: dict[str, Any]) -> None:
    """`HfArgumentParser` reads the YAML into `ModelConfig`, and `get_peft_config` makes the `LoraConfig`."""
    folder_of("trl")
    model_config = import_module("trl.trainer.model_config").ModelConfig
    get_peft_config = import_module("trl.trainer.utils").get_peft_config
    from transformers import HfArgumentParser

    graph, text = exported(model, targets, "trl", options)
    (arguments,) = HfArgumentParser(model_config).parse_dict(yaml.safe_load(text))
    check_config(graph, targets, get_peft_config(arguments), options)


@pytest.mark.parametrize(("model", "targets", "options"), SETS)
def test_axolotl_takes_every_field(model: str, targets: str, options: dict[str, Any]) -> None:
    """Axolotl's own schema validates the fields, and knows each of them."""
    folder_of("axolotl")
    schema = import_module("axolotl.utils.schemas.peft").LoraConfig
    graph, text = exported(model, targets, "axolotl", options)
    fields = yaml.safe_load(text)
    read = schema.model_validate(dict(fields))
    assert {name: getattr(read, name) for name in fields} == fields
    loader = tree_of("axolotl", "loaders/adapter.py")
    handed_over = {each.attr for each in ast.walk(loader) if isinstance(each, ast.Attribute)}
    assert set(fields) - {"adapter"} <= handed_over
    assert graph.sites


def test_axolotl_drops_exclusions() -> None:
    """`lora_exclude_modules` is no field of the schema, which is why it is never written."""
    folder_of("axolotl")
    schema = import_module("axolotl.utils.schemas.peft").LoraConfig
    assert "lora_exclude_modules" not in schema.model_fields


@pytest.fixture
def llama_factory() -> Iterator[ModuleType]:
    """Yield the module of LLaMA-Factory that knows composite models, without the packages around it."""
    folder = folder_of("llamafactory")
    packages = ("", ".extras", ".model", ".model.model_utils", ".hparams")
    names = [f"llamafactory{name}" for name in packages]
    before = set(sys.modules)
    for name in names:
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    try:
        yield import_module("llamafactory.model.model_utils.visual")
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_the_composite_models_are_those_of_llama_factory(llama_factory: ModuleType) -> None:
    """The table of towers is what LLaMA-Factory registers."""
    theirs = {
        name: Towers(
            vision=tuple(model.vision_model_keys),
            projector=tuple(model.projector_keys),
            language=tuple(model.language_model_keys),
            conflicts=tuple(model.lora_conflict_keys),
        )
        for name, model in llama_factory.COMPOSITE_MODELS.items()
    }
    assert theirs == COMPOSITE_MODELS


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        (GEMMA, "text:attention"), (GEMMA, "vision:attention.q"), (GEMMA, "text:mlp@3"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "connector"), (LLAMA, "attention.q"),
    ],
)  # fmt: skip
def test_llama_factory_takes_exactly_the_modules(model: str, targets: str, llama_factory: ModuleType) -> None:
    """Its own `FinetuningArguments` and `patch_target_modules` lead PEFT to the resolved weights."""
    from torch import nn

    arguments = import_module("llamafactory.hparams.finetuning_args").FinetuningArguments
    graph, text = exported(model, targets, "llama-factory", {})
    read = arguments(**yaml.safe_load(text))

    class Stub(nn.Module):
        def named_modules(self) -> Iterator[tuple[str, None]]:  # type: ignore[override]
            return ((module.path, None) for module in graph.modules)

    stub = Stub()
    stub.config = type("Config", (), {"model_type": graph.model_type})()
    names = llama_factory.patch_target_modules(stub, read, read.lora_target)
    settings = settings_from_config({"r": 4, "target_modules": names}, where="names")
    found = {site.parameter for site in predict(graph, settings).sites}
    assert found == {site.parameter for site in lora_probe.resolve(graph, targets)}


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        (LLAMA, "attention.q@3"), (LLAMA, "attention@last:8"), (LLAMA, "head.lm_head"),
        (GEMMA, "text:attention"), ("Qwen/Qwen2.5-VL-7B-Instruct", "vision:mlp+connector"),
    ],
)  # fmt: skip
def test_nemo_matches_exactly_the_layers(model: str, targets: str) -> None:
    """Its own `ModuleMatcher` takes the resolved layers, and what is said here of its patterns holds."""
    folder_of("nemo_automodel")
    from torch import nn

    matcher = import_module("nemo_automodel.components._peft.module_matcher").ModuleMatcher
    graph, text = exported(model, targets, "nemo-automodel", {"dropout": 0.1})
    section = yaml.safe_load(text)["peft"]
    config = import_module(section.pop("_target_").rpartition(".")[0]).PeftConfig(**section)
    assert (config.dim, config.alpha, config.dropout, config.dropout_position) == (4, 4, 0.1, "pre")
    theirs, linear = matcher(target_modules=config.target_modules), nn.Linear(1, 1)
    paths = [site.path for site in graph.sites if site.kind is Kind.LINEAR]
    found = [path for path in paths if theirs.match(linear, path)]
    assert found == [site.path for site in lora_probe.resolve(graph, targets)]
    assert found == matched(config.target_modules, paths)


@pytest.mark.parametrize("model_type", sorted(nemo_automodel.EXPERT_TYPES))
def test_nemo_keeps_the_names_of_these_attentions(model_type: str) -> None:
    """Its own classes for these models with experts set linear layers of the same names."""
    from transformers import AutoConfig

    folder = folder_of("nemo_automodel") / "components/models" / model_type
    if not folder.is_dir():
        folder = folder.with_name(model_type.removesuffix("_moe"))
    theirs = {
        each.attr
        for path in folder.glob("*.py")
        for each in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
    }
    graph = lora_probe.scan(AutoConfig.for_model(model_type))
    ours = {site.name for site in graph.sites if site.block == "attention"}
    assert ours
    assert ours <= theirs


SUPPLEMENT: Mapping[str, Any] = {
    "rope_theta": 10000.0, "n_ctx": 1024, "partial_rotary_factor": 0.25, "rotary_emb_base": 10000,
    "rotary_pct": 0.25, "num_experts": 8, "rope_scaling": None, "tie_word_embeddings": False,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid",
}  # fmt: skip
"""What mlx-lm asks for and default configs of transformers leave out; no name depends on it."""


def mlx_model(config: Any) -> Any:
    """Return mlx-lm's model for a config; nothing is computed for it."""
    remapped = import_module("mlx_lm.utils").MODEL_REMAPPING
    facts = config.to_dict()
    facts.update({name: value for name, value in SUPPLEMENT.items() if facts.get(name) is None})
    facts.setdefault("head_dim", None)
    if facts["head_dim"] is None and facts.get("num_attention_heads"):
        facts["head_dim"] = facts["hidden_size"] // facts["num_attention_heads"]
    room = import_module(f"mlx_lm.models.{remapped.get(config.model_type, config.model_type)}")
    return room.Model(room.ModelArgs.from_dict(facts))


@pytest.mark.parametrize("model_type", sorted(mlx_lm.MODEL_TYPES))
def test_mlx_has_the_same_layers_under_the_same_names(model_type: str) -> None:
    """Every linear layer of a block is one in mlx-lm's model, in the same blocks and in no other."""
    folder_of("mlx_lm")
    from transformers import AutoConfig

    nn = import_module("mlx.nn")
    config = AutoConfig.for_model(model_type)
    model = mlx_model(config)
    theirs = [
        {key for key, layer in block.named_modules() if isinstance(layer, nn.Linear)}
        for block in model.layers
    ]
    graph = lora_probe.scan(config)
    ours: list[set[str]] = [set() for _ in theirs]
    for site in graph.sites:
        if site.layer is not None and site.kind in {Kind.LINEAR, Kind.CONV1D}:
            ours[site.layer].add(site.path.partition(f".{site.layer}.")[2])
    keys = set().union(*ours)
    assert keys
    assert [block & keys for block in theirs] == ours


@pytest.mark.parametrize(
    ("targets", "options"),
    [("attention+mlp", {}), ("attention.q@last:2", {"use_rslora": True}), ("mlp.down+head.lm_head", {})],
)
def test_mlx_adapts_exactly_the_layers(targets: str, options: dict[str, Any]) -> None:
    """`linear_to_lora_layers` adapts the resolved layers, with the rank and scale that are meant."""
    folder_of("mlx_lm")
    from transformers import LlamaConfig

    linear_to_lora_layers = import_module("mlx_lm.tuner.utils").linear_to_lora_layers
    adapter = import_module("mlx_lm.tuner.lora").LoRALinear
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, vocab_size=30
    )
    graph = lora_probe.scan(config)
    text = lora_probe.export(graph, targets, to="mlx-lm", rank=4, alpha=8, **options)
    fields = yaml.safe_load(text)
    model = mlx_model(config)
    linear_to_lora_layers(model, fields["num_layers"], fields["lora_parameters"])
    found = {path: layer for path, layer in model.named_modules() if isinstance(layer, adapter)}
    assert set(found) == {site.path for site in lora_probe.resolve(graph, targets)}
    scale = 4.0 if options else 2.0
    assert {(layer.lora_a.shape[1], layer.scale) for layer in found.values()} == {(4, scale)}
