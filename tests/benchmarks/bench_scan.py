"""Whole commands in fresh processes: what a person waits for.

Each round measures every subject once before the next round begins, so that a machine that becomes slower
meanwhile slows all of them.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.catalog import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 5
REFERENCE = "meta-llama/Llama-3.1-8B"
BARE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
with open(sys.argv[1]) as file:
    config = LlamaConfig(**json.load(file))
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(config)
print(sum(parameter.numel() for parameter in model.parameters()))
"""
"""The least that anybody who wants the model's parameters has to run."""
SCAN = [sys.executable, "-m", "lora_probe", "scan"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the reference's config and a cache that knows its scan."""
    path = tmp_path_factory.mktemp("bench")
    entry = find(REFERENCE)
    assert entry
    (path / "config.json").write_text(json.dumps(entry.config))
    run([*SCAN, REFERENCE], path)
    return path


SUBJECTS: Mapping[str, list[str]] = {
    "bare script": [sys.executable, "-c", BARE, "config.json"],
    "cold scan": [*SCAN, REFERENCE, "--no-cache"],
    "repeated scan": [*SCAN, REFERENCE],
    "cold scan of meta-llama/Llama-3.1-405B": [*SCAN, "meta-llama/Llama-3.1-405B", "--no-cache"],
    "cold scan of deepseek-ai/DeepSeek-V3": [*SCAN, "deepseek-ai/DeepSeek-V3", "--no-cache"],
    "cold scan of moonshotai/Kimi-K2-Instruct": [*SCAN, "moonshotai/Kimi-K2-Instruct", "--no-cache"],
    "--help": [sys.executable, "-m", "lora_probe", "--help"],
}


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the largest resident memory of a command in KiB. A small process of its own, since a child counts
what its parent held when it was started."""


def run(command: list[str], folder: Path) -> str:
    """Run a command to its end, offline, and return what it printed."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "LORA_PROBE_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(lora_probe.__file__).parents[1]),
    }
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def _cpu_seconds() -> float:
    """Return what all child processes so far have spent on the processor."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.bench
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_command(subject: str, turn: int, folder: Path, benchmark: BenchmarkFixture) -> None:
    """Time one command from its start to its end; in the first round also measure its memory, apart."""
    command = SUBJECTS[subject]
    before = _cpu_seconds()
    benchmark.pedantic(run, args=(command, folder))
    benchmark.extra_info.update(subject=subject, turn=turn, cpu_seconds=_cpu_seconds() - before)
    if turn == 0:
        benchmark.extra_info["peak_kib"] = int(run([sys.executable, "-c", PEAK, *command], folder))
