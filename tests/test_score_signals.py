"""The signals are what their formulas say, computed another way: by hand, by autograd, and by PEFT itself."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from lora_probe.graph import Kind, Site
from lora_probe.piloting.data import Batch, batches
from lora_probe.piloting.engine.initial import initial_a
from lora_probe.piloting.records import Task, Training
from lora_probe.scanner import scan
from lora_probe.scoring.ranking import signal_to_noise
from lora_probe.scoring.signals.consistency import Moments
from lora_probe.scoring.signals.measuring import measure
from lora_probe.scoring.signals.tokens import Tokens
from lora_probe.targets import resolve
from tests.handmade import make_site
from tests.peft_loop import made_data
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.scoring.signals.measuring import Passes

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT reads it

RANK, SCALE, SEED = 3, 2.0, 5
TASKS = {"t5": Task.SEQ2SEQ, "bert-mlm": Task.MASKED_LM}


def _tiny(name: str) -> tuple[nn.Module, Task]:
    """Return a tiny model and what it is trained for."""
    model: Any = build_tiny(name)
    model.config.decoder_start_token_id = 0
    for path, parameter in model.named_parameters():
        if path.endswith(".bias"):  # which all start at zero
            nn.init.normal_(parameter, std=0.1)
    return model, TASKS.get(name, Task.CAUSAL_LM)


def _layer(**facts: Any) -> Site:
    return make_site("layer", 5, 5, **facts)


def _sites(model: nn.Module, targets: str = "all-linear") -> tuple[Site, ...]:
    kinds = (Kind.LINEAR, Kind.CONV1D)
    return tuple(site for site in resolve(scan(model), targets) if site.kind in kinds)


def _batches(task: Task = Task.CAUSAL_LM, *, count: int = 1, size: int = 4) -> list[Batch]:
    """Return micro-batches with rows of unequal length."""
    data, training = made_data(task, vocabulary=30), Training(batch_size=size)
    return [batches(data, training, step=step)[0] for step in range(count)]


def _measured(model: nn.Module, sites: Sequence[Site], found: Sequence[Batch], **options: Any) -> Passes:
    usual = {"task": Task.CAUSAL_LM, "rank": RANK, "scale": SCALE, "seed": SEED}
    return measure(model.requires_grad_(False), sites, found, **{**usual, **options})


def _peft_gradients(
    model: nn.Module, sites: Sequence[Site], batch: Batch, task: Task
) -> tuple[dict[str, torch.Tensor], float]:
    """Return dL/dB of each module by PEFT and autograd alone, and the loss."""
    config = LoraConfig(
        r=RANK, lora_alpha=SCALE * RANK, target_modules=[site.path for site in sites],
        fan_in_fan_out=sites[0].kind is Kind.CONV1D,
    )  # fmt: skip
    wrapped: Any = get_peft_model(copy.deepcopy(model), config).eval()
    layers = {site.path: wrapped.get_submodule(f"base_model.model.{site.path}") for site in sites}
    for site in sites:
        a = initial_a(site.path, seed=SEED, rank=RANK, in_features=site.in_features)
        layers[site.path].lora_A["default"].weight.data.copy_(a)
    inputs = {**batch.inputs, **({"labels": batch.labels} if task is Task.SEQ2SEQ else {})}
    logits, labels = wrapped(**inputs).logits, batch.labels
    if task is Task.CAUSAL_LM:
        logits, labels = logits[:, :-1], labels[:, 1:]
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    return {path: layer.lora_B["default"].weight.grad for path, layer in layers.items()}, loss.item()


@pytest.mark.parametrize("name", ["llama", "llama-tied", "phi", "gpt2", "t5", "bert-mlm"])
def test_energy_is_that_of_pefts_first_gradient(name: str) -> None:
    """One backward through real PEFT adapters gives each dL/dB the same square norm, and the loss."""
    model, task = _tiny(name)
    sites, found = _sites(model), _batches(task)
    passes = _measured(model, sites, found, task=task)
    gradients, loss = _peft_gradients(model, sites, found[0], task)
    assert passes.loss == pytest.approx(loss, rel=1e-5)
    assert set(passes.modules) == {site.path for site in sites}
    for path, measured in passes.modules.items():
        assert measured.energy == pytest.approx(float(gradients[path].square().sum()), rel=1e-4, abs=1e-14)


@pytest.mark.parametrize("name", ["llama", "phi", "gpt2", "t5", "bert-mlm"])
def test_nfn_is_the_mean_over_real_tokens(name: str) -> None:
    """Row by row without any padding, from W and the inputs alone, the same NFN comes out."""
    model, task = _tiny(name)
    sites, (batch,) = _sites(model), _batches(task)
    passes = _measured(model, sites, [batch], task=task)
    ratios: dict[str, list[torch.Tensor]] = {site.path: [] for site in sites}
    weights = {site.path: _weight(model, site) for site in sites}

    def note(path: str) -> Any:
        def seen(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            z = arguments[0].flatten(0, -2)
            ratios[path].append((z @ weights[path].T).norm(dim=-1) / z.norm(dim=-1))

        return seen

    for site in sites:
        model.get_submodule(site.path).register_forward_pre_hook(note(site.path))
    lengths = batch.inputs["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 1
    for row, length in enumerate(lengths):
        inputs = {"input_ids": batch.inputs["input_ids"][row : row + 1, :length]}
        if task is Task.SEQ2SEQ:
            inputs["labels"] = batch.labels[row : row + 1][:, batch.labels[row] != -100]
        model(**inputs)
    for site in sites:
        total = torch.cat(ratios[site.path])
        expected = total.mean() * math.sqrt(site.in_features) / weights[site.path].norm()
        measured = passes.modules[site.path]
        assert measured.padding_masked
        assert measured.tokens == len(total)
        assert measured.nfn == pytest.approx(float(expected), rel=1e-4)


def _weight(model: nn.Module, site: Site) -> torch.Tensor:
    """Return W as (out, in)."""
    weight: Any = model.get_submodule(site.path).weight
    found: torch.Tensor = weight.detach()
    return found.T if site.kind is Kind.CONV1D else found


def test_padding_changes_no_signal() -> None:
    """The same rows with more padding have the same NFN, energy and loss."""
    model, (batch,) = build_tiny("llama"), _batches()
    sites = _sites(model)
    padded = Batch(
        inputs={name: functional.pad(value, (0, 6)) for name, value in batch.inputs.items()},
        labels=functional.pad(batch.labels, (0, 6), value=-100),
        items=batch.items,
    )
    short, long = (_measured(model, sites, [each]) for each in (batch, padded))
    assert long.loss == pytest.approx(short.loss, rel=1e-5)
    for path, measured in long.modules.items():
        assert measured.nfn == pytest.approx(short.modules[path].nfn, rel=1e-4)
        assert measured.energy == pytest.approx(short.modules[path].energy, rel=1e-3)


def test_a_random_input_has_an_nfn_of_one() -> None:
    """For inputs without any preferred direction the norm is what the Frobenius norm makes of it."""
    model = _Twice(24, 500, vocabulary=2000)
    passes = _measured(model, model.sites("first"), [_ids(400, highest=500)])
    assert passes.modules["first"].nfn == pytest.approx(1, abs=0.05)


def test_energy_has_the_expectation_of_the_formula() -> None:
    """Over draws of A, E||dL/dB||^2 = s^2 r ||dL/dW||^2 / (3 d_in)."""
    model, (batch,) = build_tiny("llama"), _batches()
    sites = _sites(model, "attention.v+mlp.down")
    rank = 3000
    passes = _measured(model, sites, [batch], rank=rank)
    weights: dict[str, Any] = {site.path: model.get_submodule(site.path).weight for site in sites}
    for weight in weights.values():
        weight.requires_grad_(True)
    logits = model(**batch.inputs).logits[:, :-1]
    functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
    for site in sites:
        expected = SCALE**2 * rank * float(weights[site.path].grad.square().sum()) / (3 * site.in_features)
        assert passes.modules[site.path].energy == pytest.approx(expected, rel=0.1)


def test_consistency_is_that_of_the_micro_batches_gradients() -> None:
    """The energy is the mean over PEFT's gradients of each micro-batch, what is consistent their mean's."""
    model, found = build_tiny("gpt2"), _batches(count=3)
    sites = _sites(model)
    passes = _measured(model, sites, found)
    each = [_peft_gradients(model, sites, batch, Task.CAUSAL_LM)[0] for batch in found]
    for site in sites:
        gradients = torch.stack([one[site.path] for one in each])
        energy = float(gradients.square().sum((1, 2)).mean())
        agreed = float(gradients.mean(0).square().sum())
        measured = passes.modules[site.path]
        assert measured.energy == pytest.approx(energy, rel=1e-4)
        assert measured.consistent_energy == pytest.approx(agreed, rel=1e-4)
        snr = signal_to_noise(measured.consistent_energy or 0, measured.energy)
        assert snr == pytest.approx(agreed / (energy - agreed), rel=1e-3)
        assert measured.energy * (snr or 0) / (1 + (snr or 0)) == pytest.approx(agreed, rel=1e-3)


def test_equal_gradients_agree_wholly_and_one_does_not() -> None:
    """Equal micro-batches have an infinite SNR; one alone has none; opposite ones have nothing in common."""
    one, equal, opposite = Moments(), Moments(), Moments()
    gradient = torch.tensor([[3.0, 4.0]])
    one.add(gradient)
    for sign in (1, 1):
        equal.add(sign * gradient)
    for sign in (1, -1):
        opposite.add(sign * gradient)
    assert (one.energy, one.consistent_energy) == (25, None)
    assert (equal.energy, equal.consistent_energy) == (25, 25)
    assert signal_to_noise(25, 25) == math.inf
    assert (opposite.energy, opposite.consistent_energy) == (25, 0)
    assert signal_to_noise(0, 25) == 0
    assert signal_to_noise(0, 0) is None


class _Twice(nn.Module):
    """Calls one layer twice, writes into what it returns, and has a part that no gradient reaches."""

    def __init__(self, width: int, out: int | None = None, *, vocabulary: int = 50) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(vocabulary, width)
        self.first = nn.Linear(width, out or width)
        self.frozen, self.unused, self.last = (nn.Linear(width, width) for _ in range(3))
        self.several = out is None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        """Return an object with logits (B, T, width), or (B, T, out)."""
        del attention_mask
        given = self.embedding(input_ids)
        hidden = self.first(given)
        if self.several:
            hidden.mul_(0.5)
            with torch.no_grad():
                away = self.frozen(input=given)
            hidden = self.last(self.first(hidden.tanh() + away))
        return SimpleNamespace(logits=hidden)

    def sites(self, *paths: str) -> tuple[Site, ...]:
        """Return the layers at `paths` as a scan would."""
        layers: dict[str, Any] = {path: self.get_submodule(path) for path in paths}
        return tuple(make_site(path, each.in_features, each.out_features) for path, each in layers.items())


def _ids(rows: int = 3, *, highest: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, highest, (rows, 4), generator=generator)
    return Batch(
        inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        labels=ids,
        items=tuple(range(rows)),
    )


def test_a_layer_that_is_called_twice_is_one_adapter() -> None:
    """Both calls add to one gradient, as in PEFT; its tokens are those of both."""
    model, batch = _Twice(8), _ids()
    sites = model.sites("first", "last")
    passes = _measured(model, sites, [batch])
    gradients, loss = _peft_gradients(model, sites, batch, Task.CAUSAL_LM)
    assert passes.loss == pytest.approx(loss, rel=1e-5)
    assert passes.modules["first"].tokens == 2 * passes.modules["last"].tokens
    for path, measured in passes.modules.items():
        assert measured.energy == pytest.approx(float(gradients[path].square().sum()), rel=1e-4)


def test_what_no_gradient_reaches_has_no_energy() -> None:
    """A layer under no_grad has an NFN and no energy; one that is never called is not measured at all."""
    model = _Twice(8)
    passes = _measured(model, model.sites("first", "frozen", "unused"), [_ids()] * 2)
    assert set(passes.modules) == {"first", "frozen"}
    frozen = passes.modules["frozen"]
    assert (frozen.energy, frozen.consistent_energy) == (0, 0)
    assert frozen.nfn is not None


class _Packed(nn.Module):
    """A linear layer that keeps its weight in bytes, as quantized ones do."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.scale = float(layer.weight.detach().abs().amax() / 127)
        packed = (layer.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b with W unpacked."""
        return functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def test_packed_weights_are_scored_as_what_they_stand_for() -> None:
    """A layer with its weight in bytes has the signals of the same layer with plain numbers."""
    packed = build_tiny("phi")
    plain = copy.deepcopy(packed)
    sites = _sites(plain, "attention+mlp")
    for site in sites:
        parent, _, name = site.path.rpartition(".")
        layer: Any = packed.get_submodule(site.path)
        setattr(packed.get_submodule(parent), name, _Packed(layer))
        unpacked: Any = packed.get_submodule(site.path)
        same: Any = plain.get_submodule(site.path)
        same.weight.data = unpacked.weight.float() * unpacked.scale
    one, other = (_measured(model, sites, _batches()) for model in (packed, plain))
    for path, measured in one.modules.items():
        assert measured.nfn == pytest.approx(other.modules[path].nfn, rel=1e-4)
        assert measured.energy == pytest.approx(other.modules[path].energy, rel=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    """No hook stays, no parameter trains, none holds a gradient, and the logits are the same bits."""
    model, (batch,) = build_tiny("llama").requires_grad_(False), _batches()
    before = model(**batch.inputs).logits
    _measured(model, _sites(model), [batch])
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(each.requires_grad or each.grad is not None for each in model.parameters())
    assert torch.equal(model(**batch.inputs).logits, before)


def test_half_precision_is_measured_in_single() -> None:
    """A bfloat16 base gives finite signals near those of the same weights in float32."""
    half = build_tiny("llama", dtype=torch.bfloat16)
    sites = _sites(half)
    one, other = (_measured(model, sites, _batches()) for model in (half, copy.deepcopy(half).float()))
    for path, measured in one.modules.items():
        assert measured.nfn == pytest.approx(other.modules[path].nfn, rel=0.02)
        assert measured.energy == pytest.approx(other.modules[path].energy, rel=0.3)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((2, 3), [[True, True, True], [True, False, False]]),
        ((3, 2), [[True, True], [True, False], [True, False]]),
        ((6,), [True, True, True, True, False, False]),
        ((1, 6), [[True, True, True, True, False, False]]),
        ((2, 1, 3), [[[True, True, True]], [[True, False, False]]]),
        ((2,), [True, True]),
    ],
)
def test_tokens_are_told_from_padding(rows: tuple[int, ...], expected: list[Any]) -> None:
    """In every usual arrangement of rows, and where a pooler gets one vector for each sequence."""
    tokens, site = _tokens(), _layer()
    kept = tokens.kept(site, torch.zeros(*rows, 5))
    assert kept is not None
    assert kept.tolist() == expected


def test_rows_in_no_known_order_are_not_guessed() -> None:
    """An expert that is sent four of six rows may have got padding: nobody knows."""
    assert _tokens().kept(_layer(), torch.zeros(4, 5)) is None


def test_without_padding_all_rows_are_tokens() -> None:
    """Where no row is padded, any number of rows is tokens."""
    batch = Batch(inputs={"input_ids": torch.ones(2, 3)}, labels=torch.ones(2, 3), items=(0, 1))
    kept = Tokens(batch, Task.CAUSAL_LM).kept(_layer(), torch.zeros(4, 5))
    assert kept is not None
    assert kept.all()


def _tokens() -> Tokens:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    batch = Batch(inputs={"input_ids": mask, "attention_mask": mask}, labels=mask, items=(0, 1))
    return Tokens(batch, Task.CAUSAL_LM)


def test_a_decoder_masks_by_its_own_tokens() -> None:
    """Of equal shapes, the decoder's are its labels', and those that cross-attention reads the encoder's."""
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[5, -100, -100], [5, 6, 7]])
    batch = Batch(inputs={"input_ids": mask, "attention_mask": mask}, labels=labels, items=(0, 1))
    tokens, x = Tokens(batch, Task.SEQ2SEQ), torch.zeros(2, 3, 4)
    sites = {
        "own": _layer(tower="decoder", block="attention", part="q"),
        "cross": _layer(tower="decoder", block="cross_attention", part="k"),
        "encoder": _layer(tower="encoder", block="attention", part="q"),
    }
    kept = {name: tokens.kept(site, x) for name, site in sites.items()}
    assert {name: int(each.sum()) for name, each in kept.items() if each is not None} == {
        "own": 4,
        "cross": 5,
        "encoder": 5,
    }
