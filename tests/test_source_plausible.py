"""Sizes that no model has are refused before anything is built, and those of real models never."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe import catalog
from lora_probe.errors import ImplausibleConfig
from lora_probe.source.plausible import require_plausible

SIZES = [
    "num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers", "depth", "depths",
    "num_experts", "n_routed_experts", "num_local_experts", "num_attention_heads", "n_head", "num_heads",
    "num_key_value_heads", "hidden_size", "d_model", "n_embd", "intermediate_size", "moe_intermediate_size",
    "d_ff", "head_dim", "qk_rope_head_dim", "embed_dim", "encoder_ffn_dim", "vocab_size", "text_vocab_size",
]  # fmt: skip


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.model_id)
def test_no_published_model_is_refused(entry: catalog.Entry) -> None:
    """The bounds leave every model of the catalogue alone, with room to grow tenfold."""
    require_plausible(entry.config)
    require_plausible(_grown(entry.config))


def _grown(value: Any) -> Any:
    """Return a config whose counts are ten times as large."""
    if isinstance(value, dict):
        return {key: _grown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_grown(item) for item in value]
    return value * 10 if type(value) is int and value > 0 else value


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [-1, 10**12, "4", 0.5, True])
def test_what_is_no_size_is_refused_with_its_place(name: str, value: Any) -> None:
    """Each usual name of a size is known, at any depth and in lists, and the sentence says where."""
    for config, path in [
        ({name: value}, name),
        ({"text_config": {name: value}}, f"text_config.{name}"),
        ({"a": [{name: [1, value]}]}, f"a[0].{name}[1]"),
    ]:
        with pytest.raises(ImplausibleConfig) as caught:
            require_plausible(config)
        assert caught.value.path == path
        assert str(caught.value).startswith(f"the config's {path} ")


@pytest.mark.parametrize("field", ["id2label", "label2id", "quantization_config", "auto_map"])
def test_labels_and_module_names_are_no_sizes(field: str) -> None:
    """A label may be called anything, also like a size."""
    require_plausible({field: {"depth": -1, "hidden_size": "x"}})


@pytest.mark.parametrize("value", [None, "None", 0, 1, 4096, 4096.0])
def test_unset_and_whole_sizes_pass(value: Any) -> None:
    """Exporters write None in several ways, and whole numbers as floats."""
    require_plausible({"hidden_size": value})


@given(
    st.dictionaries(st.text(max_size=3), st.integers() | st.text() | st.floats() | st.lists(st.integers()))
)
def test_other_fields_may_hold_anything(config: dict[str, Any]) -> None:
    """A field of no known name is left to the model class."""
    require_plausible(config)
