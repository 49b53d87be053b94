"""Auditing adapters on disk: what PEFT saved fits, what was damaged is named, nothing hostile is opened."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_probe import cli
from lora_probe.checks import Findings, check
from lora_probe.checks.adapter import CONFIG, TENSORS, read_adapter
from lora_probe.errors import BadAdapter, BadCheckpoint, LoraProbeError
from lora_probe.scanner import scan
from tests.check_adapters import change_config, change_tensors, save_adapter
from tests.check_cases import LLAMA, graph_of
from tests.mutations import broken_bytes
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from pathlib import Path

AUDIT = {"adapter-tensors", "adapter-shape", "adapter-old-names"}


def audited(folder: Path, model: str = "llama", **options: Any) -> Findings:
    """Audit the adapter in `folder` against a tiny model."""
    return check(scan(build_tiny(model)), adapter=folder, **options)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("llama", {}),
        ("llama", {"target_modules": "all-linear", "use_dora": True}),
        (
            "llama",
            {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"down_proj": 2}, "bias": "all"},
        ),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1], "use_rslora": True}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2]}),
        ("llama-tied", {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}),
        ("gpt2", {"target_modules": ["c_attn"]}),
        ("qwen3-moe", {"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]}),
        ("mixtral", {"target_modules": ["w1", "w2", "w3"]}),
        ("gpt-oss", {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]}),
        ("roberta-classifier", {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}),
        ("vit", {"target_modules": "all-linear"}),
        ("mobilenet", {"target_modules": ["conv_1x1.convolution"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)) or "plain",
)
def test_what_peft_saved_fits(model: str, config: dict[str, Any], tmp_path: Path) -> None:
    """An adapter fresh from `save_pretrained` has every tensor in its place, whatever its options."""
    found = audited(save_adapter(tmp_path, model, **config), model)
    assert AUDIT.isdisjoint(found.rules)


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    """Tensors that the config calls for and the file lacks are listed by name."""
    change_tensors(save_adapter(tmp_path), lambda name: None if ".layers.1." in name else name)
    (finding,) = audited(tmp_path).of("adapter-tensors")
    assert finding.message.startswith("the file lacks 4 tensors")
    assert set(finding.paths) == {
        f"base_model.model.model.layers.1.self_attn.{part}_proj.lora_{factor}.weight"
        for part in "qv"
        for factor in "AB"
    }


def test_an_extra_layer_is_named(tmp_path: Path) -> None:
    """Tensors that the config does not call for are listed as having no place."""
    change_config(save_adapter(tmp_path), target_modules=["q_proj"])
    (finding,) = audited(tmp_path).of("adapter-tensors")
    assert "6 tensors that the model has no place for" in finding.message
    assert all(".v_proj." in path for path in finding.paths)


def test_another_rank_in_the_config_is_told_from_another_model(tmp_path: Path) -> None:
    """Where only the rank differs, the fix is the rank; where widths differ, it is the base model."""
    change_config(save_adapter(tmp_path), r=2)
    (finding,) = audited(tmp_path).of("adapter-shape")
    assert finding.fix == "the tensors have rank 4: set r or rank_pattern in the config to it"
    (finding,) = check(graph_of("TinyLlama/TinyLlama-1.1B-Chat-v1.0"), adapter=tmp_path).of("adapter-shape")
    assert finding.fix == "load the adapter on the model that it was trained on"


def test_a_server_may_find_no_layer_for_another_beginning(tmp_path: Path) -> None:
    """Names from another class of the checkpoint are what vLLM passes over; the model's own are not."""
    assert "vllm-prefix" not in audited(save_adapter(tmp_path), serve="vllm").rules
    old = "base_model.model.language_model.model."
    change_tensors(tmp_path, lambda name: name.replace("base_model.model.model.", old))
    (finding,) = audited(tmp_path, serve="vllm").of("vllm-prefix")
    assert len(finding.paths) == 12


def test_an_adapter_for_modules_of_experts_is_recognised(tmp_path: Path) -> None:
    """An adapter with a pair for each expert, as transformers 4 trained them, is called old, not foreign."""
    save_adapter(tmp_path, "qwen3-moe", target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"])
    change_config(tmp_path, target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"])
    change_tensors(tmp_path, lambda name: name.replace(".experts.", ".experts.0.w1."))
    found = audited(tmp_path, "qwen3-moe")
    assert "adapter-old-names" in found.rules
    assert "adapter-tensors" not in found.rules


def test_the_targets_of_the_adapter_are_checked_where_none_are_given(tmp_path: Path) -> None:
    """Without targets, all rules look at the adapter's own config."""
    save_adapter(tmp_path, use_dora=True)
    found = audited(tmp_path, serve="vllm")
    assert "vllm-dora" in found.rules
    assert found.targets == "q_proj,v_proj"
    assert found.rank == 4


def test_a_pattern_that_matches_nothing_is_found_in_either(tmp_path: Path) -> None:
    """With targets beside an adapter, the adapter's own patterns are still looked at."""
    change_config(save_adapter(tmp_path), rank_pattern={"o_proj": 2})
    (finding,) = check(scan(build_tiny("llama")), "q_proj", adapter=tmp_path).of("unused-pattern")
    assert finding.message == "the adapter's rank_pattern key 'o_proj' matches no adapter"


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """A pickled adapter is refused with the way to a safe file."""
    save_adapter(tmp_path)
    (tmp_path / TENSORS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(BadAdapter, match="is a pickle, which can run code and is never opened; load it with"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / CONFIG).unlink(), "holds no adapter_config.json"),
        (lambda folder: (folder / TENSORS).unlink(), "holds no adapter_model.safetensors"),
        (lambda folder: (folder / CONFIG).write_text("[1]"), "expected an object"),
        (lambda folder: (folder / CONFIG).write_text("{"), "no valid JSON"),
        (lambda folder: change_config(folder, r=0), "adapter_config.json, r: a rank is a whole number"),
        (lambda folder: change_config(folder, r=10**12), "a rank is a whole number from 1 to"),
        (lambda folder: change_config(folder, r="8"), "got '8'"),
        (lambda folder: change_config(folder, lora_alpha="much"), "lora_alpha: expected a number"),
        (lambda folder: change_config(folder, use_dora=1), "use_dora: expected true or false"),
        (lambda folder: change_config(folder, target_modules=[1]), "target_modules: expected a text"),
        (lambda folder: change_config(folder, target_modules={"a": 1}), "expected a list of names"),
        (lambda folder: change_config(folder, rank_pattern={"x": -1}), "rank_pattern, x: a rank is"),
        (lambda folder: change_config(folder, layers_to_transform=["a"]), "a list of whole numbers"),
        (lambda folder: change_config(folder, peft_type="IA3"), "of type 'IA3'; only LoRA"),
    ],
)
def test_a_damaged_adapter_ends_in_one_sentence(damage: Any, words: str, tmp_path: Path) -> None:
    """What is missing or of the wrong type is named with its place, on one line."""
    damage(save_adapter(tmp_path))
    with pytest.raises(BadAdapter) as caught:
        read_adapter(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    """A file, or nothing, in the place of the folder is a sentence."""
    with pytest.raises(BadAdapter, match="there is no such folder; check the path"):
        read_adapter(tmp_path / "nowhere")
    save_adapter(tmp_path)
    with pytest.raises(BadAdapter, match="give the folder that holds"):
        read_adapter(tmp_path / CONFIG)
    with pytest.raises(BadAdapter, match="no path holds a NUL"):
        read_adapter("\0")


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
@pytest.mark.parametrize("other", ["folder", "fifo", "loop"])
def test_what_is_no_file_is_not_waited_for(name: str, other: str, tmp_path: Path) -> None:
    """A folder, a pipe or a link to itself in the place of a file counts as no file, at once."""
    path = save_adapter(tmp_path) / name
    path.unlink()
    if other == "folder":
        path.mkdir()
    elif other == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    with pytest.raises(BadAdapter, match=f"it holds no {name}"):
        read_adapter(tmp_path)


def test_repeated_layers_are_refused(tmp_path: Path) -> None:
    """An adapter for a model that PEFT lengthened first is not compared with the short one."""
    change_config(save_adapter(tmp_path), layer_replication=[[0, 2], [1, 2]])
    with pytest.raises(
        BadAdapter, match="layer_replication: the adapter was trained on a model with repeated"
    ):
        read_adapter(tmp_path)


def test_names_without_the_prefix_are_no_old_names(tmp_path: Path) -> None:
    """PEFT finds nothing without base_model.model., so that such tensors are lost and not translated."""
    change_tensors(save_adapter(tmp_path), lambda name: name.removeprefix("base_model.model."))
    found = audited(tmp_path)
    assert "adapter-old-names" not in found.rules
    assert ["lacks" in finding.message for finding in found.of("adapter-tensors")] == [True, False]


def test_hostile_names_are_shown_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in a tensor's name, a model's name or a path reach no terminal."""
    folder = save_adapter(tmp_path / "a\x1b[31m")
    change_tensors(folder, lambda name: f"x\x1b[2J\u202e<b>\n{name}" if "layers.1" in name else name)
    change_config(folder, base_model_name_or_path="evil\x1b[31m/model\n")
    assert cli.run(["check", LLAMA, "--source", "catalogue", "--adapter", str(folder)]) == 0
    (folder / CONFIG).write_text("[]")
    assert cli.run(["check", LLAMA, "--source", "catalogue", "--adapter", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
    assert err.count("\n") == 1


def test_a_lying_header_is_refused(tmp_path: Path) -> None:
    """A header that claims more than the file holds is refused before it is read."""
    (save_adapter(tmp_path) / TENSORS).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadCheckpoint):
        read_adapter(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_broken_file_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever happens to the bytes of either file, the audit answers or raises an error of this package."""
    if not (tmp_path / "whole").exists():
        save_adapter(tmp_path / "whole")
    broken = data.draw(st.sampled_from([CONFIG, TENSORS]))
    for name in (CONFIG, TENSORS):
        whole = (tmp_path / "whole" / name).read_bytes()
        (tmp_path / name).write_bytes(data.draw(broken_bytes(whole)) if name == broken else whole)
    with suppress(LoraProbeError):
        check(graph_of("tiny llama"), adapter=tmp_path)


_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**40)
    | st.text(max_size=5)
    | st.lists(st.text(max_size=3))
    | st.dictionaries(st.text(max_size=3), st.integers(-1, 9))
)
_FIELDS = st.sampled_from(
    [
        "r", "lora_alpha", "target_modules", "rank_pattern", "modules_to_save", "bias", "use_dora",
        "layers_to_transform", "exclude_modules", "target_parameters", "task_type", "peft_type",
        "trainable_token_indices", "alpha_pattern", "base_model_name_or_path",
    ]
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(_FIELDS, _VALUES, max_size=3))
def test_any_config_is_read_or_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Whatever stands in the fields of the config, the audit answers or raises an error of this package."""
    if not (tmp_path / CONFIG).exists():
        save_adapter(tmp_path)
        (tmp_path / "original.json").write_bytes((tmp_path / CONFIG).read_bytes())
    document = json.loads((tmp_path / "original.json").read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**document, **changes}))
    with suppress(LoraProbeError):
        check(graph_of("tiny llama"), adapter=tmp_path)
