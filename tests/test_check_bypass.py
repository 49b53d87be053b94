"""Which children a module's code passes over, read from the code itself."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from lora_probe.scanner import scan
from lora_probe.scanner.bypass import bypassed_children


class Reads(nn.Module):
    """Every way in which code may touch a weight."""

    def __init__(self) -> None:
        super().__init__()
        names = "called read either rarely usually asked edited reset passed compared"
        for name in names.split():
            setattr(self, name, nn.Linear(4, 4))
        nn.init.zeros_(self.reset.weight)

    def reset_parameters(self) -> None:
        """Touch weights before training."""
        nn.init.zeros_(self.reset.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., 4) to (..., 4)."""
        x = x.to(self.asked.weight.dtype) @ self.read.weight
        if self.training and self.compared is not None and isinstance(self.compared.weight, nn.Parameter):
            x = x @ self.either.weight.t()
        else:
            x = self.either(x)
        if x.ndim > 9:
            x = x @ self.rarely.weight
        x = self.usually(x) if hasattr(self, "quantized") else x @ self.usually.weight
        x = self.rarely(x)
        self.edited.weight.data.clamp_(-1, 1)
        return torch.utils.checkpoint.checkpoint(self.passed, self.called(self.asked(x)))  # type: ignore[no-any-return]


def test_a_weight_that_is_multiplied_is_told_from_one_that_is_asked_about() -> None:
    """Only products and the like count; types, devices, edits in place and initialisation do not."""
    assert bypassed_children(Reads()) == (("read",), ("either", "usually"))


def test_attention_of_torch_reads_its_output() -> None:
    """The output projection of nn.MultiheadAttention is never called, though torch's code is not read."""
    assert bypassed_children(nn.MultiheadAttention(8, 2)) == (("out_proj",), ())


def test_a_module_without_children_bypasses_nothing() -> None:
    """A leaf has nobody to pass over."""
    assert bypassed_children(nn.Linear(2, 2)) == ((), ())


def test_the_graph_carries_it_through_json() -> None:
    """A scan records it with the module, and a graph read back is equal."""
    graph = scan(Reads())
    assert (graph.modules[0].bypassed, graph.modules[0].partly_bypassed) == (("read",), ("either", "usually"))
    assert type(graph).from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("model_type", "mixer"),
    [
        ("mamba", "MambaMixer"), ("mamba2", "Mamba2Mixer"), ("falcon_mamba", "FalconMambaMixer"),
        ("falcon_h1", "FalconH1Mixer"), ("nemotron_h", "NemotronHMamba2Mixer"), ("bamba", "BambaMixer"),
        ("zamba2", "Zamba2MambaMixer"), ("granitemoehybrid", "GraniteMoeHybridMambaLayer"),
    ],
)  # fmt: skip
def test_every_fused_mixer_is_found(model_type: str, mixer: str) -> None:
    """The five types of PEFT's own list are found without a list, and three that it lacks."""
    module = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    stand_in = nn.Module()
    stand_in.__class__ = getattr(module, mixer)
    for name in ("in_proj", "out_proj", "conv1d", "x_proj", "dt_proj"):
        stand_in._modules[name] = nn.Linear(1, 1)
    never, not_always = bypassed_children(stand_in)
    assert "conv1d" in never
    assert "out_proj" in not_always
    assert "in_proj" not in never + not_always
