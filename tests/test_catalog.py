"""The catalogue: found by id, honest about its sources, and light."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.catalog import Entry, Evidence, Provenance, PublishedTotal, Scope, entries, find, near
from lora_probe.catalog.lookup import data_files

MOST_ASKED_FOR = [
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-405B",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Llama-2-7b-hf",
    "mistralai/Mistral-7B-v0.1",
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen2.5-3B",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-8B",
    "google/gemma-3-1b-it",
    "google/gemma-3-12b-it",
    "google/gemma-2-2b",
    "google/gemma-2-9b",
    "google/gemma-2-27b",
    "deepseek-ai/DeepSeek-V3",
    "moonshotai/Kimi-K2-Instruct",
    "moonshotai/Kimi-K2-Base",
    "google-t5/t5-base",
    "facebook/opt-350m",
    "facebook/opt-6.7b",
    "microsoft/phi-2",
    "EleutherAI/gpt-neox-20b",
    "openai-community/gpt2",
    "openai-community/gpt2-medium",
    "openai-community/gpt2-large",
    "openai-community/gpt2-xl",
    "google-bert/bert-base-uncased",
    "openai/whisper-large-v3",
    "openai/clip-vit-base-patch32",
    "openai/clip-vit-large-patch14",
]
IDS = [entry.model_id for entry in entries()]

plain = Entry(
    model_id="owner/name",
    aliases=("name",),
    family="text",
    total_parameters=7,
    provenance=Provenance(
        evidence=Evidence.FILE, repository="some/copy", path="config.json", commit="0" * 40, hash_proven=True
    ),
    published=PublishedTotal(parameters=9, scope=Scope.MODEL, source="some/list", difference=2, reason="why"),
    config={"model_type": "llama", "architectures": ["LlamaForCausalLM"], "π": [None, True, 1e-5]},
)


def test_enough_of_every_kind() -> None:
    """The catalogue holds hundreds of models, and several of each family."""
    families = Counter(entry.family for entry in entries())
    assert len(IDS) > 400
    assert set(families) == {
        "text", "experts", "hybrid", "encoder", "encoder-decoder", "vision", "audio", "multimodal",
    }  # fmt: skip
    assert min(families.values()) > 10


@pytest.mark.parametrize("model_id", MOST_ASKED_FOR)
def test_the_models_that_everybody_names_are_there(model_id: str) -> None:
    """A model that people fine-tune every week is found under its own id."""
    entry = find(model_id)
    assert entry is not None
    assert entry.model_id == model_id


@pytest.mark.parametrize("asked", ["META-LLAMA/llama-3.1-8b", "meta-llama/Meta-Llama-3.1-8B"])
def test_case_and_renames_do_not_matter(asked: str) -> None:
    """An id is found whatever its case, and under the names that the hub redirects."""
    entry = find(asked)
    assert entry is not None
    assert entry.model_id == "meta-llama/Llama-3.1-8B"


def test_bare_names_that_the_hub_has_are_ids() -> None:
    """The hub's oldest models are known without an owner."""
    entry = find("gpt2")
    assert entry is not None
    assert entry.model_id == "openai-community/gpt2"


@pytest.mark.parametrize(
    "asked", ["Llama-3.1-8B", "meta-llama/Llama-3.1", "", "/", "meta-llama/", "../config"]
)
def test_nothing_is_guessed(asked: str) -> None:
    """What is not exactly an id is not found."""
    assert find(asked) is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("Llama 3.1 8B", "meta-llama/Llama-3.1-8B"),
        ("mistral/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("qwen/qwen2.5_7b_instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("bert-base", "google-bert/bert-base-cased"),
        ("whisper-large", "openai/whisper-large-v3"),
        ("mixtral8x7b", "mistralai/Mixtral-8x7B-v0.1"),
    ],
)
def test_near_misses_name_what_was_meant(asked: str, meant: str) -> None:
    """A mistyped or shortened id leads to the right one among a few suggestions."""
    assert meant in near(asked)


def test_the_nearest_comes_first() -> None:
    """A name without its owner suggests the model of exactly that name, the original before its copy."""
    assert near("llama-3.1-8b", n=2) == ("meta-llama/Llama-3.1-8B", "unsloth/Llama-3.1-8B")
    assert near("phi-2", n=1) == ("microsoft/phi-2",)


def test_nonsense_is_near_to_nothing() -> None:
    """A name that looks like no model gets no suggestion."""
    assert near("zzzzzzzzzzzzzzzzzzzzzz") == ()


@given(st.text())
def test_any_text_may_be_asked_for(asked: str) -> None:
    """No text makes a look-up fail, and suggestions are ids of the catalogue."""
    entry = find(asked)
    assert entry is None or asked.casefold() in {name.casefold() for name in (entry.model_id, *entry.aliases)}
    assert set(near(asked)) <= set(IDS)


@given(st.sampled_from(IDS))
def test_an_id_is_nearest_to_itself(model_id: str) -> None:
    """Every id suggests itself first."""
    assert near(model_id)[0] == model_id


def test_a_config_belongs_to_who_asked() -> None:
    """Changing the config of a look-up changes no later look-up."""
    first = find("openai-community/gpt2")
    assert first is not None
    first.config.clear()
    assert find("openai-community/gpt2") != first


def test_a_line_says_everything() -> None:
    """An entry survives its own line, with and without a published figure."""
    for entry in (plain, replace(plain, published=None, total_parameters=None)):
        assert Entry.from_line(entry.to_line()) == entry
    assert "\n" not in plain.to_line()


def test_what_the_config_says_of_itself() -> None:
    """Type, class and own code are read from the config, and wrong types read as nothing."""
    assert (plain.model_type, plain.architecture, plain.remote_code) == ("llama", "LlamaForCausalLM", False)
    strange = replace(
        plain, config={"model_type": 3, "architectures": "Llama", "auto_map": {"AutoModel": "x.Y"}}
    )
    assert (strange.model_type, strange.architecture, strange.remote_code) == (None, None, True)


def test_files_stay_small() -> None:
    """The whole catalogue takes less than a megabyte."""
    assert sum(path.stat().st_size for path in data_files()) < 1_000_000


def test_looking_up_loads_nothing_heavy() -> None:
    """Finding a model imports neither torch nor transformers, nor anything that talks to the hub."""
    program = (
        "import sys; from lora_probe.catalog import find, near; find('gpt2'); near('gpt');"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'pandas', 'click'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
