"""The one entry: ids, paths, config objects and modules."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
import transformers

from lora_probe import scan

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 50,
}  # fmt: skip


def config() -> transformers.LlamaConfig:
    """Return the config of a small Llama in bfloat16."""
    return transformers.LlamaConfig(**SMALL, dtype="bfloat16", architectures=["LlamaForCausalLM"])


def test_config_file_folder_object_and_module_agree(tmp_path: Path) -> None:
    """However a model is given, its sites, modules and totals are the same."""
    config().save_pretrained(tmp_path)
    with torch.device("meta"):
        module = transformers.LlamaForCausalLM._from_config(config())
    graphs = [
        scan(each, cache=False)
        for each in (config(), tmp_path, str(tmp_path), tmp_path / "config.json", module)
    ]
    facts = {(graph.sites, graph.uncovered, graph.modules, graph.total_parameters) for graph in graphs}
    assert len(facts) == 1
    assert [graph.source.partition(":")[0] for graph in graphs] == [
        "config",
        "folder",
        "folder",
        "config",
        "module",
    ]
    assert {graph.dtype for graph in graphs} == {"bfloat16"}
    assert {site.dtype for graph in graphs for site in graph} == {"bfloat16"}


def test_a_scan_says_what_it_scanned() -> None:
    """A graph names the class that was built, its type, its embeddings and the versions that decide."""
    graph = scan(config())
    assert (graph.architecture, graph.model_type) == ("LlamaForCausalLM", "llama")
    assert (graph.input_embedding, graph.output_embedding) == ("model.embed_tokens", "lm_head")
    assert set(graph.versions) == {"lora-probe", "torch", "transformers", "peft"}
    assert graph.versions["torch"] == torch.__version__


def test_what_is_no_model_is_refused() -> None:
    """Anything else than a name, a config or a module is a mistake in the calling code."""
    with pytest.raises(TypeError, match="list"):
        scan([])


def test_a_kept_scan_loads_no_torch(tmp_path: Path) -> None:
    """Scanning the same thing again reads the earlier answer and never imports torch."""
    config().save_pretrained(tmp_path / "model")
    code = (
        "import json, sys, lora_probe\n"
        f"graph = lora_probe.scan({str(tmp_path / 'model')!r})\n"
        "print(json.dumps([graph.total_parameters, 'torch' in sys.modules]))"
    )
    answers = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                check=True,
                capture_output=True,
                text=True,
                env={"LORA_PROBE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ":".join(sys.path)},
            ).stdout
        )
        for _ in range(2)
    ]
    assert [loaded for _, loaded in answers] == [True, False]
    assert answers[0][0] == answers[1][0]
