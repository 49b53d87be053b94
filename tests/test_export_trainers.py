"""The trainers' own code reads what is exported for them (`make trainers` installs them, without a GPU).

Where a trainer's parser can be imported, it reads the text; where importing it takes a GPU library, what
it declares as fields or arguments is read off its source:

- PEFT reads its file in tests/test_export_peft.py, with every run of the tests;
- TRL (`HfArgumentParser` and `get_peft_config`), Axolotl (its schema), LLaMA-Factory (its arguments and
  `patch_target_modules`), NeMo Automodel (`PeftConfig`, `ModuleMatcher`) and mlx-lm (on MLX for CPUs) read
  the text themselves;
- ms-swift imports modelscope, whose client fetches models, with the first of its arguments' classes;
- Unsloth imports unsloth_zoo, which asks for a GPU;
- Megatron-Bridge imports megatron-core, whose kernels are built for a GPU;
- torchtune imports torchao, which has to be of the same year as torch, and torchtune is of 2025.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shlex
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import lora_probe
from lora_probe.checks.peft_config import settings_from_config
from lora_probe.exporting import mlx_lm, nemo_automodel
from lora_probe.exporting.composite_models import COMPOSITE_MODELS, Towers
from lora_probe.exporting.nemo_automodel import matched
from lora_probe.exporting.torchtune import MODEL_TYPES as TORCHTUNE_TYPES
from lora_probe.graph import Kind
from lora_probe.peft_rules import LoraSettings, predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lora_probe.graph import ModuleGraph

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]

LLAMA, GEMMA, QWEN_MOE, GPT2 = (
    "meta-llama/Llama-3.1-8B", "google/gemma-3-4b-it", "Qwen/Qwen3-30B-A3B", "openai-community/gpt2",
)  # fmt: skip
SETS = (
    (LLAMA, "attention.q", {}),
    (LLAMA, "attention+mlp", {"use_rslora": True, "alpha": 32}),
    (LLAMA, "attention@last:8", {"dropout": 0.05}),
    (GEMMA, "text:attention", {"use_dora": True}),
    (QWEN_MOE, "attention+experts", {}),
    (GPT2, "attention", {"modules_to_save": ("wpe",)}),
)


def folder_of(package: str) -> Path:
    """Return where `package` is installed, without importing it; fails or skips where it is not."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        if os.environ.get("LORA_PROBE_TRAINERS") == "1":
            pytest.fail(f"{package} is not installed: run make trainers")
        pytest.skip(f"{package} is not installed: run make trainers")
    return Path(next(iter(spec.submodule_search_locations)))


def tree_of(package: str, path: str) -> ast.Module:
    """Return the source of a module of an installed package."""
    return ast.parse((folder_of(package) / path).read_text("utf-8"))


def definition(tree: ast.Module, name: str) -> Any:
    """Return the class or function `name`, on whatever level."""
    return next(each for each in ast.walk(tree) if getattr(each, "name", None) == name)


def fields_of(tree: ast.Module, name: str) -> set[str]:
    """Return the annotated fields of a dataclass."""
    return {
        each.target.id
        for each in definition(tree, name).body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }


def exported(model: str, targets: str, to: str, options: Mapping[str, Any]) -> tuple[ModuleGraph, str]:
    """Return the graph and the text."""
    graph = lora_probe.scan(model)
    return graph, lora_probe.export(graph, targets, to=to, rank=4, **options)


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
    stub.config = type("Config", (), {"model_type": graph.model_type})()  # type: ignore[assignment]
    names = llama_factory.patch_target_modules(stub, read, read.lora_target)
    settings = settings_from_config({"r": 4, "target_modules": names}, where="names")
    found = {site.parameter for site in predict(graph, settings).sites}
    assert found == {site.parameter for site in lora_probe.resolve(graph, targets)}


@pytest.mark.parametrize(("model", "targets", "options"), [*SETS, (QWEN_MOE, "experts", {})])
def test_ms_swift_has_every_argument(model: str, targets: str, options: dict[str, Any]) -> None:
    """Each argument is a field of its arguments' classes, and lists are given where it takes lists."""
    _, text = exported(model, targets, "ms-swift", options)
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    given = {word.removeprefix("--") for word in words if word.startswith("--")}
    tuner = tree_of("swift", "arguments/tuner_args.py")
    base = tree_of("swift", "arguments/base_args/base_args.py")
    known = fields_of(tuner, "TunerArguments") | fields_of(base, "BaseArguments")
    assert given <= known


def test_unsloth_has_every_argument() -> None:
    """Each keyword is one of `get_peft_model` or, passed on, of `LoraConfig`; text and vision alike."""
    from peft import LoraConfig

    for model, targets, options in SETS[:5]:
        _, text = exported(model, targets, "unsloth", {**options, "rank_pattern": {"q_proj": 2}})
        (statement,) = ast.parse(text).body
        call = statement.value  # type: ignore[attr-defined]
        assert isinstance(call, ast.Call)
        for file, owner in (("models/llama.py", "FastLlamaModel"), ("models/vision.py", "FastBaseModel")):
            function = definition(definition(tree_of("unsloth", file), owner), "get_peft_model")
            known = {each.arg for each in function.args.args}
            assert function.args.kwarg is not None
            passed_on = {word.arg for word in call.keywords} - known
            assert passed_on <= set(LoraConfig.__dataclass_fields__)


def test_unsloth_still_changes_what_is_refused() -> None:
    """The redirection of embeddings, because of which they are refused, is still there."""
    utils = tree_of("unsloth", "models/_utils.py")
    assert definition(utils, "_redirect_embedding_targets")
    assert definition(utils, "get_moe_target_modules")


def test_torchtune_has_every_argument() -> None:
    """Each argument is one of every builder of each family that is written for, apart from exceptions."""
    families = {
        "gemma": ("gemma",), "gemma2": ("gemma2",), "llama": ("llama2", "llama3", "llama3_1", "llama3_2"),
        "mistral": ("mistral",), "phi3": ("phi3", "phi4"), "qwen2": ("qwen2", "qwen2_5"),
    }  # fmt: skip
    assert set(families) == TORCHTUNE_TYPES
    fields = yaml.safe_load(exported(LLAMA, "attention+mlp", "torchtune", {})[1])["model"]
    for family in families.values():
        for name in family:
            tree = tree_of("torchtune", f"models/{name}/_model_builders.py")
            builders = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
            lora = [each for each in builders if each.name.startswith("lora_")]
            assert lora
            for builder in lora:
                assert set(fields) <= {each.arg for each in builder.args.args}


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


def test_megatron_bridge_has_every_argument() -> None:
    """Each keyword is a field of the class that is called, and each name one that it documents."""
    for targets, options in (("attention+mlp", {}), ("attention.o+mlp.down", {"use_dora": True})):
        _, text = exported(LLAMA, targets, "megatron-bridge", options)
        statement, assignment = ast.parse(text).body
        assert isinstance(statement, ast.ImportFrom)
        path = f"{'/'.join(str(statement.module).split('.')[1:])}.py"
        kind = definition(tree_of("megatron", path), statement.names[0].name)
        call = assignment.value  # type: ignore[attr-defined]
        known = {each.target.id for each in kind.body if isinstance(each, ast.AnnAssign)}
        assert {word.arg for word in call.keywords} <= known
        names = ast.literal_eval(call.keywords[0].value)
        assert all(f"'{name}'" in str(ast.get_docstring(kind)) for name in names)


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
    from mlx import nn
    from transformers import AutoConfig

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
