"""The base of a pilot: whole weights, never pickled, of the right class, on a device that is there."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from array import array
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers.utils.quantization_config import QuantizationMethod

from lora_probe.errors import UnknownChoice
from lora_probe.piloting.base import load_base, loading, open_model, require_known_tokens
from lora_probe.piloting.base.files import fingerprint
from lora_probe.piloting.base.hardware import choose_device, choose_dtype, require_quantization
from lora_probe.piloting.data.examples import Example, Masking, PilotData
from lora_probe.piloting.errors import MissingLibrary, NoDevice, NoWeights, UnfitModel
from lora_probe.piloting.records import DataFacts, Task
from tests.pilot_runs import make_model

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forbid the network, and start with nothing cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small Llama."""
    return make_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small BERT with its language model's head."""
    return make_model(tmp_path_factory.mktemp("bert"), "Bert", "ForMaskedLM")


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    """Return a copy of the Llama that a test may break."""
    shutil.copytree(llama, tmp_path / "copy")
    return tmp_path / "copy"


def test_weights_of_a_folder(llama: Path) -> None:
    """The base is frozen, in evaluation mode, in float32 on a CPU, and says what it is."""
    opened = open_model(llama)
    base = load_base(opened, task=opened.likely_task(), device="cpu")
    assert base.facts.architecture == "LlamaForCausalLM"
    assert base.facts.dtype == "float32"
    assert base.facts.total_parameters == sum(each.numel() for each in base.model.parameters())
    assert not base.model.training
    assert not any(each.requires_grad for each in base.model.parameters())
    assert base.new_modules == ()


def test_a_fingerprint_covers_every_byte(copy: Path) -> None:
    """Renamed or copied, a model keeps its fingerprint; one bit of weights or config changes it."""
    before = fingerprint(copy)
    shutil.copytree(copy, copy.parent / "again")
    assert fingerprint(copy.parent / "again") == before
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(copy) != before
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(copy) == before
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert fingerprint(copy) != before


def test_a_file_of_the_hubs_cache_is_not_read_again(copy: Path) -> None:
    """Where the cache names a file after its digest, that is its digest."""
    before = fingerprint(copy)
    weights, blob = copy / "model.safetensors", copy.parent / ("0" * 64)
    weights.rename(blob)
    weights.symlink_to(blob)
    named = fingerprint(copy)
    assert named != before
    blob.write_bytes(bytes(blob.stat().st_size))
    assert fingerprint(copy) == named


def test_a_link_to_a_file_that_may_change_is_read(copy: Path) -> None:
    """Only a name that is a whole SHA-256 stands for a content: neither any other name, nor a SHA-1."""
    weights = copy / "model.safetensors"
    for name in ("newest.safetensors", "0" * 40):
        real = weights.rename(copy / name)
        weights.symlink_to(real)
        before = fingerprint(copy)
        changed = bytearray(real.read_bytes())
        changed[-1] ^= 1
        real.write_bytes(changed)
        assert fingerprint(copy) != before
        weights.unlink()
        real.rename(weights)


def test_a_catalogue_entry_says_how_to_get_weights() -> None:
    """What can be scanned without weights cannot be trained without them."""
    with pytest.raises(NoWeights) as error:
        open_model("meta-llama/Llama-3.1-8B")
    assert "known from the catalogue only" in str(error.value)
    assert "hf download meta-llama/Llama-3.1-8B" in str(error.value)


def test_a_config_without_weights(copy: Path) -> None:
    """A config alone is not enough."""
    (copy / "model.safetensors").unlink()
    with pytest.raises(NoWeights, match=r"no model\.safetensors beside it"):
        open_model(copy)
    with pytest.raises(NoWeights, match=r"no model\.safetensors beside it"):
        open_model(copy / "config.json")


def test_pickled_weights_are_never_opened(copy: Path) -> None:
    """A checkpoint that could run code is refused by its name alone."""
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    with pytest.raises(NoWeights, match="pickles are never opened; convert them to safetensors"):
        open_model(copy)


def test_a_missing_shard_is_missed(copy: Path) -> None:
    """An index that names files that are not there is no whole model."""
    shard = "model-00001-of-00002.safetensors"
    (copy / "model.safetensors").rename(copy / shard)
    index = {"weight_map": {"a": shard, "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NoWeights, match="some of the files that its index names are missing"):
        open_model(copy)


def test_the_file_that_is_loaded_is_the_one_that_is_hashed(copy: Path) -> None:
    """Beside a whole file, an index of older shards, there or not, is as little looked at as it is loaded."""
    before = fingerprint(copy)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    assert fingerprint(open_model(copy).folder) == before
    assert load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu").facts.fingerprint == before


def test_a_base_is_spread_as_accelerate_knows(copy: Path) -> None:
    """Where devices are left to accelerate, the weights are there all the same; other words are refused."""
    base = load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu", device_map="auto")
    assert base.device == CPU
    with pytest.raises(UnknownChoice, match="auto, balanced, balanced_low_0") as error:
        load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu", device_map="everywhere")
    assert "--device-map" in str(error.value)


def test_a_base_without_room_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that would have to be fetched anew for every pass are none to train on."""
    load = loading._load

    def offloaded(*asked: Any) -> Any:
        model, missing = load(*asked)
        model.lm_head.to("meta")
        return model, missing

    monkeypatch.setattr(loading, "_load", offloaded)
    with pytest.raises(UnfitModel, match="does not fit into the memory that --device-map auto may use"):
        load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu", device_map="auto")


@pytest.mark.parametrize(
    ("task", "ids", "labels", "unknown"),
    [
        (Task.CAUSAL_LM, [1, 31], [1, 2], None),
        (Task.CAUSAL_LM, [], [], None),
        (Task.CAUSAL_LM, [1, 32], [1, 2], 32),
        (Task.SEQ2SEQ, [1, 2], [2, 40], 40),
        (Task.SEQUENCE_CLASSIFICATION, [1, 2], [40], None),  # a class is no token
    ],
)
def test_a_token_that_a_model_does_not_know(
    task: Task, ids: list[int], labels: list[int], unknown: int | None, copy: Path
) -> None:
    """A tokenizer of another model, or one that was added to, ends in a sentence before any training."""
    row = Example(key="a", input_ids=array("q", ids), labels=array("q", labels))
    facts = DataFacts(source="made", task=task)
    data = PilotData(facts=facts, train=(), tuning=(), test=(row,), pad_token_id=0)
    _assert_unknown(copy, data, unknown)


@pytest.mark.parametrize(("mask", "vocabulary", "unknown"), [(3, 32, None), (3, 34, 33), (35, 32, 35)])
def test_a_mask_that_a_model_does_not_know(
    mask: int, vocabulary: int, unknown: int | None, copy: Path
) -> None:
    """Neither what hides a token nor what stands in for it by chance may be beyond the embedding."""
    masking = Masking(mask_token_id=mask, vocabulary=vocabulary)
    facts = DataFacts(source="made", task=Task.MASKED_LM)
    data = PilotData(facts=facts, train=(), tuning=(), test=(), pad_token_id=0, masking=masking)
    _assert_unknown(copy, data, unknown)


def _assert_unknown(folder: Path, data: PilotData, unknown: int | None) -> None:
    """Hold the check to whether a token is unknown to a model of 32, and to which."""
    base = load_base(open_model(folder), task=Task.CAUSAL_LM, device="cpu")
    if unknown is None:
        require_known_tokens(base, data)
        return
    with pytest.raises(UnfitModel, match=f"makes token {unknown}, and its embedding ends at token 31"):
        require_known_tokens(base, data)


def test_an_adapter_beside_the_weights_is_refused(copy: Path) -> None:
    """It would be loaded with them: a base that is none, and of which no fingerprint knows."""
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(UnfitModel, match=r"an adapter \(adapter_config\.json\) lies beside its weights"):
        open_model(copy)


def test_an_incomplete_checkpoint_is_refused(copy: Path) -> None:
    """No layer of a language model may start from chance."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnfitModel, match=r"lacks 1 of the weights \(model\.layers\.1\.mlp\.up_proj\.weight"):
        load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu")


def test_a_damaged_checkpoint_is_a_sentence(copy: Path) -> None:
    """What the loader stumbles over ends in one line that names the folder."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(UnfitModel, match="cannot be loaded from") as error:
        load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json"])
def test_a_missing_tokenizer(name: str, copy: Path) -> None:
    """A model without one says what to put where."""
    (copy / name).unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(UnfitModel, match=r"tokenizer\.json and tokenizer_config\.json beside the weights"):
        open_model(copy).tokenizer()


def test_the_task_follows_the_checkpoint(llama: Path, bert: Path, tmp_path: Path) -> None:
    """Causal, masked, sequence to sequence or a classification: as the config says."""
    t5 = make_model(
        tmp_path, "T5", "ForConditionalGeneration", d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    )
    tasks = [open_model(folder).likely_task() for folder in (llama, bert, t5)]
    assert tasks == [Task.CAUSAL_LM, Task.MASKED_LM, Task.SEQ2SEQ]


@pytest.mark.parametrize(
    ("task", "words"), [(Task.CAUSAL_LM, "both directions"), (Task.SEQ2SEQ, "--task masked-lm")]
)
def test_a_task_that_a_model_is_not_made_for(task: Task, words: str, bert: Path) -> None:
    """A wrong class is refused, with the task that fits."""
    with pytest.raises(UnfitModel, match=words):
        load_base(open_model(bert), task=task, device="cpu")


@pytest.mark.parametrize("task", [Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION])
def test_a_new_head_is_the_same_for_everybody(task: Task, bert: Path) -> None:
    """A classification starts from the same chance in every process, and leaves torch's own alone."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    options: dict[str, Any] = {
        "task": task,
        "device": "cpu",
        "classes": ["no", "yes", "perhaps"],
        "pad_token_id": 3,
    }
    first = load_base(open_model(bert), **options)
    assert torch.equal(torch.rand(1), expected)
    second = load_base(open_model(bert), **options)
    assert "classifier" in first.new_modules
    head: Any = first.model.get_submodule("classifier")
    other: Any = second.model.get_submodule("classifier")
    assert head.weight.shape == (3, 16)
    assert torch.equal(head.weight, other.weight)
    config: Any = first.model.config
    assert config.pad_token_id == 3
    assert config.id2label == {0: "no", 1: "yes", 2: "perhaps"}


def test_code_of_a_repository_does_not_run_unasked(copy: Path) -> None:
    """A config that points to code of its own is loaded with transformers' class, or not at all."""
    marker = copy.parent / "ran"
    (copy / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Model", "AutoModelForCausalLM": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    base = load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu")
    assert base.facts.architecture == "LlamaForCausalLM"
    assert not marker.exists()


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "cpu:1", "cuda:9999"])
def test_a_device_that_is_none(device: str) -> None:
    """A name that torch would not take is refused in a sentence."""
    with pytest.raises(NoDevice):
        choose_device(device)


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA, and beyond the last of the GPUs, the sentence says what there is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type in {"cpu", "mps"}
    with pytest.raises(NoDevice, match="try cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    with pytest.raises(NoDevice, match="this machine has 2 of them"):
        choose_device("cuda:2")


def test_the_format_of_the_weights() -> None:
    """A CPU computes in float32 unless it is told otherwise; a GPU keeps half precision as bfloat16."""
    assert choose_dtype("auto", CPU, stored="bfloat16") == (torch.float32, None)
    assert choose_dtype("float32", CPU, stored="bfloat16") == (torch.float32, None)
    dtype, note = choose_dtype("bfloat16", CPU, stored="float32")
    assert dtype is torch.bfloat16
    assert note is None or "times slower in bfloat16" in note
    with pytest.raises(UnknownChoice, match="--dtype"):
        choose_dtype("int8", CPU, stored="float32")


def test_a_gpu_keeps_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 checkpoints become bfloat16 where the GPU has it, float32 where not."""
    cuda = torch.device("cuda", 0)
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert choose_dtype("auto", cuda, stored="float16")[0] is expected
        assert choose_dtype("auto", cuda, stored="float32")[0] is torch.float32


def test_facts_name_a_quantization_only_where_weights_were_loaded_so(copy: Path) -> None:
    """A checkpoint that names a method that nobody knows is loaded as it is; transformers marks others."""
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "unheard-of"}
    (copy / "config.json").write_text(json.dumps(config))
    base = load_base(open_model(copy), task=Task.CAUSAL_LM, device="cpu")
    assert base.facts.quantization is None
    base.model.quantization_method = QuantizationMethod.FP8  # as transformers marks what it has quantized
    assert loading._stored_quantization(base.model) == "fp8"


def test_quantization_needs_cuda_and_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is missing is a sentence."""
    with pytest.raises(NoDevice, match="a 4bit base needs CUDA"):
        require_quantization("4bit", CPU)
    with pytest.raises(UnknownChoice, match="--quantization"):
        require_quantization("3bit", CPU)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingLibrary, match="pip install bitsandbytes"):
        require_quantization("8bit", torch.device("cuda", 0))
