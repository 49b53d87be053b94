"""Parts of a pilot's engines: where A starts, masks, schedule, loss, and the order of a stack."""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lora_probe.piloting.engine import loss
from lora_probe.piloting.engine.adapters import Adapters, Dimensions, Shape
from lora_probe.piloting.engine.arrangement import arranged, span
from lora_probe.piloting.engine.delta import StackedLinear
from lora_probe.piloting.engine.head import HeadUse, OutputHead, head_use
from lora_probe.piloting.engine.initial import dropout_mask, initial_a
from lora_probe.piloting.engine.layout import Layout
from lora_probe.piloting.engine.loss import aligned_labels, item_losses, piecewise_losses, token_losses
from lora_probe.piloting.engine.norms import frozen_norm, plain_norms
from lora_probe.piloting.engine.observation import Observation
from lora_probe.piloting.engine.prefix import frozen_layers
from lora_probe.piloting.engine.schedule import learning_rate, schedule_factor
from lora_probe.piloting.engine.support import misplaced_rows
from lora_probe.piloting.records import Task, Training

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_a_starts_as_peft_starts_it() -> None:
    """A is uniform within 1/sqrt(in), as PEFT's kaiming_uniform with a = sqrt 5 bounds it."""
    ours = initial_a("a.b", seed=3, rank=64, in_features=100)
    theirs = torch.nn.init.kaiming_uniform_(torch.empty(64, 100), a=math.sqrt(5))
    assert ours.shape == theirs.shape
    assert float(ours.abs().max()) <= 0.1
    assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.01)
    assert float(ours.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def test_a_is_keyed_by_path_and_seed_and_grows_with_rank() -> None:
    """The same path and seed give the same rows whatever the rank; another path or seed gives others."""
    high, low = (initial_a("a.b", seed=3, rank=rank, in_features=33) for rank in (16, 8))
    assert torch.equal(high[:8], low)
    assert not torch.equal(initial_a("a.c", seed=3, rank=8, in_features=33), low)
    assert not torch.equal(initial_a("a.b", seed=4, rank=8, in_features=33), low)


def test_masks_keep_the_mean_and_their_key() -> None:
    """A mask drops its share, scales up the rest, and changes with every part of its key."""
    asked: dict[str, Any] = {"seed": 1, "step": 2, "micro_batch": 0}
    mask = dropout_mask("p", **asked, shape=(200, 100), probability=0.25)
    assert sorted(set(mask.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(mask, dropout_mask("p", **asked, shape=(200, 100), probability=0.25))
    for name in asked:
        other = dropout_mask("p", **{**asked, name: 5}, shape=(200, 100), probability=0.25)
        assert not torch.equal(mask, other)


def test_the_schedule_rises_and_falls() -> None:
    """The warm-up is a straight line that starts above 0; the decay starts at the peak and ends near 0."""
    training = Training(steps=20, warmup=0.2, schedule="linear")
    factors = [schedule_factor(step, training) for step in range(20)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == pytest.approx([1 - done / 16 for done in range(16)])
    assert learning_rate(3.0, 4, training) == pytest.approx(3.0)
    cosine = Training(steps=20, warmup=0.0, schedule="cosine")
    assert schedule_factor(10, cosine) == pytest.approx(0.5)
    assert schedule_factor(19, Training(steps=20, warmup=0.0, schedule="constant")) == 1.0
    with pytest.raises(ValueError, match="constant, linear or cosine, not 'square'"):
        schedule_factor(9, Training(schedule="square", warmup=0.0))


def test_losses_are_torchs_own() -> None:
    """Nats and gradients of predictions are those of torch's cross-entropy."""
    logits = torch.randn(7, 11, requires_grad=True)
    targets = torch.randint(11, (7,))
    weights = torch.rand(7)
    (token_losses(logits, targets) * weights).sum().backward()  # type: ignore[no-untyped-call]
    ours = logits.grad
    assert ours is not None
    logits.grad = None
    (functional.cross_entropy(logits, targets, reduction="none") * weights).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, logits.grad)


@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 11)])
def test_losses_in_pieces_are_those_of_all_logits(
    monkeypatch: pytest.MonkeyPatch, bias: torch.Tensor | None
) -> None:
    """Nats, hits and gradients are the same whether logits are made at once or two rows at a time."""
    monkeypatch.setattr(loss, "_PIECE_ROWS", 2)
    monkeypatch.setattr(loss, "_PIECE", {True: 0, False: 0})
    weight, targets, weights = torch.randn(11, 5), torch.randint(11, (7,)), torch.rand(7)
    hidden = torch.randn(7, 5, requires_grad=True)
    losses, right = piecewise_losses(hidden, weight, bias, targets, hits=True)
    (ours,) = torch.autograd.grad((losses * weights).sum(), hidden)
    logits = functional.linear(hidden, weight, bias)
    expected = functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weights).sum(), hidden)[0])
    assert right is not None
    assert right.tolist() == (logits.argmax(1) == targets).tolist()
    with torch.no_grad():
        assert torch.equal(piecewise_losses(hidden, weight, bias, targets, hits=False)[0], losses)


def test_losses_in_pieces_keep_one_bad_row_to_itself() -> None:
    """A row that is no number any more leaves the losses and gradients of the others bit-equal."""
    weight, targets = torch.randn(11, 5), torch.randint(11, (4,))
    rows = torch.randn(4, 5)
    found = []
    for bad in (0.0, math.inf):
        hidden = rows.clone()
        hidden[2] += bad
        hidden.requires_grad_()
        losses, _ = piecewise_losses(hidden, weight, None, targets, hits=False)
        (gradient,) = torch.autograd.grad(losses.sum(), hidden)
        found.append(torch.cat([losses.detach()[:, None], gradient], 1)[[0, 1, 3]])
    assert torch.equal(*found)


def _model(architecture: str, **config: Any) -> Any:
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"vocab_size": 30, "num_key_value_heads": 2, "head_dim": 8}
    name = architecture.partition("For")[0]
    made = getattr(transformers, f"{name}Config")(**small, **config)
    return getattr(transformers, architecture)(made).eval()


@pytest.mark.parametrize(
    ("architecture", "config", "adapted", "use"),
    [
        ("LlamaForCausalLM", {}, (), HeadUse.PIECES),
        ("LlamaForCausalLM", {}, ("lm_head",), HeadUse.LABELLED),
        ("Gemma2ForCausalLM", {}, (), HeadUse.LABELLED),  # caps its logits
        ("GraniteForCausalLM", {"logits_scaling": 2.0}, (), HeadUse.LABELLED),
    ],
)
def test_a_head_computes_as_little_as_its_model_allows(
    architecture: str, config: dict[str, Any], adapted: tuple[str, ...], use: HeadUse
) -> None:
    """Logits are made in pieces only where a model does nothing to them, and nothing adapts the head."""
    model = _model(architecture, **config)
    inputs = {"input_ids": torch.arange(1, 9).view(2, 4), "use_cache": False}
    rows, targets = torch.tensor([1, 6]), torch.tensor([1, 0])
    assert head_use(model, inputs, rows, 8, adapted=adapted) is use
    expected = functional.cross_entropy(model(**inputs).logits.flatten(0, 1)[rows], targets, reduction="none")
    head = OutputHead(model, use)
    head.install()
    losses, right = head.losses(inputs, rows, 8, targets, hits=True)
    assert model(**inputs).logits.shape == (2, 4, 30)  # whoever else asks gets all of them
    head.remove()
    torch.testing.assert_close(losses, expected)
    assert right is not None
    assert right.shape == (2,)


def test_logits_that_depend_on_each_other_are_all_made() -> None:
    """A model that sets its logits against those of other positions gets all of them."""

    class Centered(transformers.LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, **inputs: Any) -> Any:
            output = super().forward(**inputs)
            output.logits = output.logits - output.logits.mean(1, keepdim=True)
            return output

    plain = _model("LlamaForCausalLM")
    torch.nn.init.normal_(plain.lm_head.weight)
    model = Centered(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    inputs = {"input_ids": torch.arange(1, 9).view(2, 4), "use_cache": False}
    assert head_use(model, inputs, torch.tensor([1, 6]), 8) is HeadUse.EVERYTHING


@pytest.mark.parametrize("labelled", [4, 1, 0])
def test_a_head_is_judged_by_some_of_the_positions(labelled: int) -> None:
    """Logits that depend on each other are found out where every position has a label, and where none has."""
    model = _model("LlamaForCausalLM")
    torch.nn.init.normal_(model.lm_head.weight)
    inputs = {"input_ids": torch.arange(1, 5).view(1, 4), "use_cache": False}
    assert head_use(model, inputs, torch.arange(labelled), 4) is (
        HeadUse.PIECES if labelled else HeadUse.EVERYTHING
    )
    plain = model.forward

    def centered(**inputs: Any) -> Any:
        output = plain(**inputs)
        output.logits = output.logits - output.logits.mean(1, keepdim=True)
        return output

    model.forward = centered
    assert head_use(model, inputs, torch.arange(labelled), 4) is HeadUse.EVERYTHING


def _warmer(head: Any) -> None:
    head.register_forward_hook(lambda _, __, logits: logits / 1.01)


def _scaled_inside(head: Any) -> None:
    plain = head.forward
    head.forward = lambda hidden: 1.01 * plain(hidden)


def _parametrized(head: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(head)


def _wrapped(head: Any) -> None:
    head.__class__ = type("Wrapped", (torch.nn.Linear,), {})


def _cast(head: Any) -> None:
    plain, head.weight.data = head.forward, head.weight.data.double()
    head.forward = lambda hidden: plain(hidden.double()).float()


@pytest.mark.parametrize("change", [_warmer, _scaled_inside, _parametrized, _wrapped, _cast])
def test_a_head_that_does_more_computes_its_own_logits(change: Any) -> None:
    """A hook, a forward or a class of its own, even where they change little: the head itself is asked."""
    model = _model("LlamaForCausalLM")
    torch.nn.init.normal_(model.lm_head.weight)
    change(model.lm_head)
    inputs = {"input_ids": torch.arange(1, 9).view(2, 4), "use_cache": False}
    assert head_use(model, inputs, torch.tensor([1, 3, 6]), 8) is HeadUse.LABELLED


def test_a_head_that_is_used_twice_computes_its_own_logits() -> None:
    """Where a model goes through its head again, what the head put out last is not the whole story."""
    model = _model("LlamaForCausalLM")
    plain = model.forward

    def again(**inputs: Any) -> Any:
        output = plain(**inputs)
        model.lm_head(model.model(**inputs).last_hidden_state.flip(1))
        return output

    model.forward = again
    inputs = {"input_ids": torch.arange(1, 9).view(2, 4), "use_cache": False}
    assert head_use(model, inputs, torch.tensor([1, 3, 6]), 8) is HeadUse.LABELLED


def test_a_head_that_is_never_used_is_not_asked() -> None:
    """Where what a model calls its output embedding does not make its logits, they are the model's own."""
    model = _model("LlamaForCausalLM")
    model.get_output_embeddings = lambda: torch.nn.Linear(16, 30)
    inputs = {"input_ids": torch.arange(1, 9).view(2, 4), "use_cache": False}
    assert head_use(model, inputs, torch.tensor([1, 3, 6]), 8) is HeadUse.LABELLED
    head, rows = OutputHead(model, HeadUse.LABELLED), torch.tensor([1, 3])
    head.install()
    assert torch.equal(head.logits(inputs, rows, 8), model(**inputs).logits.flatten(0, 1)[rows])
    head.remove()


def test_gradients_of_half_precision_are_scaled_before_they_are_rounded() -> None:
    """What a loss is divided by does not lose its last digits on the way to the hidden states."""
    torch.manual_seed(0)
    weight, targets = torch.randn(40, 8).bfloat16(), torch.randint(40, (300,))
    hidden = torch.randn(300, 8).bfloat16().requires_grad_()
    (plain,) = torch.autograd.grad(
        piecewise_losses(hidden, weight, None, targets, hits=False)[0].sum(), hidden
    )
    losses, _ = piecewise_losses(hidden, weight, None, targets, hits=False)
    (scaled,) = torch.autograd.grad((losses / 1.003).sum(), hidden)
    assert float(scaled.float().norm() / plain.float().norm()) == pytest.approx(1 / 1.003, rel=5e-4)


def test_a_pass_in_pieces_keeps_no_logits() -> None:
    """What is kept for the backward pass does not grow with the vocabulary."""
    targets = torch.randint(500, (9,))
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = torch.randn(9, 5, requires_grad=True)
        piecewise_losses(hidden, torch.randn(500, 5), None, targets, hits=False)
    assert kept == [hidden.numel()]


def test_frozen_norms_are_the_models_own() -> None:
    """Llama's norms are found and give its outputs and gradients; Gemma's, which add one, are left alone."""
    model = _model("LlamaForCausalLM")
    norms = plain_norms(model)
    assert len(norms) == 3
    norm: Any = norms[0]
    with torch.no_grad():
        norm.weight.copy_(torch.rand(16) + 0.5)
    x = torch.randn(2, 3, 16, requires_grad=True)
    outer = torch.randn(2, 3, 16)
    expected, ours = norm(x), frozen_norm(norm, norm.forward)(x)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad((each * outer).sum(), x)[0] for each in (ours, expected))
    )
    assert not plain_norms(_model("Gemma2ForCausalLM"))
    assert not plain_norms(model.bfloat16())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_norm_keeps_its_way_with_other_dtypes(dtype: torch.dtype) -> None:
    """Weights in float32 within a model of another format: outputs, their dtype and gradients are its own."""
    norm: Any = plain_norms(_model("LlamaForCausalLM"))[0]
    x = torch.randn(2, 3, 16, dtype=dtype, requires_grad=True)
    expected, ours = norm(x), frozen_norm(norm, norm.forward)(x)
    assert ours.dtype is expected.dtype
    assert torch.equal(ours, expected)
    ones, others = (torch.autograd.grad(each.sum(), x)[0] for each in (expected, ours))
    assert torch.equal(ones, others)


def test_a_norm_of_heads_takes_any_layout() -> None:
    """Views that do not lie in one piece, and gradients that are one number stretched, change nothing."""
    norm: Any = plain_norms(_model("LlamaForCausalLM"))[0]
    x = torch.randn(2, 5, 3, 16, requires_grad=True)
    for view in (x.transpose(1, 2), x[:, ::2], x[:1].expand(4, -1, -1, -1)):
        expected, ours = norm(view), frozen_norm(norm, norm.forward)(view)
        torch.testing.assert_close(ours, expected)
        ones, others = (torch.autograd.grad(each.sum(), x)[0] for each in (expected, ours))
        torch.testing.assert_close(others, ones)


def _other_epsilon(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6)


def _shifted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (1 + weight) * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def _in_groups(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    grouped = x.reshape(*x.shape[:-1], 2, -1)
    return weight * (grouped * (grouped.square().mean(-1, keepdim=True) + 1e-6).rsqrt()).reshape(x.shape)


def _centered(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weight * torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)


@pytest.mark.parametrize("compute", [_other_epsilon, _shifted, _in_groups, _centered])
def test_norms_that_only_share_a_name_are_left_alone(compute: Any) -> None:
    """A class called RMSNorm that puts epsilon elsewhere, adds one, or norms something else is not taken."""

    class NamedRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.full((16,), 0.7)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            computed: torch.Tensor = compute(x, self.weight)
            return computed

    assert plain_norms(NamedRMSNorm()) == ()


class GatedRMSNorm(torch.nn.Module):
    """A norm that may be given a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.full((16,), 0.7)), 1e-6

    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
        """Norm the rows, then gate them."""
        normed = self.weight * x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return normed if gate is None else normed * gate


def test_a_norm_that_is_given_more_answers_itself() -> None:
    """Gates and names of arguments reach the model's own code; without any the stand-in serves."""
    module, x, gate = GatedRMSNorm(), torch.randn(3, 16), torch.rand(3, 16)
    asked: list[Any] = []

    def forward(*arguments: Any, **named: Any) -> Any:
        asked.append((arguments, named))
        return GatedRMSNorm.forward(module, *arguments, **named)

    assert plain_norms(module) == (module,)
    norm = frozen_norm(module, forward)
    torch.testing.assert_close(norm(x), module(x))
    assert asked == []
    assert torch.equal(norm(x, gate), module(x, gate))
    assert torch.equal(norm(x=x), module(x))
    assert len(asked) == 2


def test_a_norm_that_cannot_be_tried_is_left_alone() -> None:
    """One that insists on a gate, or has a weight for each head, is none of ours."""

    class InsistingRMSNorm(GatedRMSNorm):
        def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x, gate)

    heads = GatedRMSNorm()
    heads.weight = torch.nn.Parameter(torch.ones(2, 16))
    for module in (InsistingRMSNorm(), heads):
        assert plain_norms(module) == ()


def test_hooks_of_a_norm_are_not_called_to_try_it() -> None:
    """A norm that somebody watches is taken all the same: its hooks run around what stands in for it."""
    model = _model("LlamaForCausalLM")
    seen: list[Any] = []
    model.model.norm.register_forward_hook(lambda *call: seen.append(call))
    assert len(plain_norms(model)) == 3
    assert seen == []


@pytest.mark.parametrize(
    ("called", "adapted", "frozen"),
    [
        (("a.0", "a.1", "a.2", "a.2.q"), {"a.2.q"}, ("a.0", "a.1")),
        (("a.0", "a.1", "a.0", "a.2"), {"a.2.q"}, ()),  # goes through its first layer again
        (("a.0", "a.1", "a.1", "a.2"), {"a.2.q"}, ("a.0",)),
        (("in", "a.0", "a.1"), {"in", "a.1.q"}, ()),
        (("a.1", "a.10", "a.10.q"), {"a.10.q"}, ("a.1",)),
        (("e.0", "e.1", "d.0", "d.0.q"), {"d.0.q"}, ("e.0", "e.1")),
    ],
)
def test_layers_below_the_first_adapted_one_are_frozen(
    called: tuple[str, ...], adapted: set[str], frozen: tuple[str, ...]
) -> None:
    """In the order in which they run, up to one that holds something adapted, or that runs again."""
    assert frozen_layers(called, adapted) == frozen


@pytest.mark.parametrize(
    ("together", "one", "other", "fine"),
    [
        ([range(4)], [range(2)], [range(2, 4)], True),
        ([], [], [], True),  # never entered
        ([range(5)], [range(3)], [range(3, 5)], False),  # experts get as many tokens as chose them
        ([range(2), range(2, 4)], [range(2)], [range(2, 4)], False),  # once for each row
        ([range(4)], [range(2)], [], False),
        ([(2, 3, 0, 1)], [range(2)], [range(2, 4)], False),
        ([range(4), range(2)], [range(2), range(2)], [range(2, 4), range(2, 4)], False),
    ],
)
def test_rows_must_be_divisible_between_trials(together: Any, one: Any, other: Any, fine: bool) -> None:
    """Each call gets equally many rows of both trials, those of the first one first."""
    first, second, third = (
        Observation(
            called=(), inputs={"p": tuple(torch.tensor([[float(x)] for x in call]) for call in calls)}
        )
        for calls in (together, one, other)
    )
    assert (misplaced_rows(first, second, third, ("p",)) is None) is fine


@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 7)])
def test_a_stacked_layer_takes_any_layout(bias: torch.Tensor | None) -> None:
    """Inputs that do not lie in one piece get every trial's update, too, and give it the same gradients."""
    adapters = Adapters(
        {"p": Dimensions(in_features=6, out_features=7, device=torch.device("cpu"))},
        {"p": {0: Shape(rank=2, scale=0.5), 2: Shape(rank=3, scale=2.0)}},
        [0, 1, 2],
    )
    slot, weight, trigger = adapters.slots["p"], torch.randn(7, 6), torch.zeros((), requires_grad=True)
    torch.nn.init.normal_(slot.value.b)
    slot.value.b[0, 2:], slot.value.b[1] = 0, 0  # as training leaves what is nobody's
    plain = torch.randn(3, 4, 6)
    outer = torch.randn(3, 4, 7)
    for x in (plain, plain.transpose(0, 1).contiguous().transpose(0, 1)):
        x.requires_grad_()
        slot.gradient.a.zero_()
        y: Any = StackedLinear.apply(x, trigger, weight, bias, slot, 3, None)  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad((y * outer).sum(), x)
        for place, scale in ((0, 0.5), (1, 0.0), (2, 2.0)):
            merged = weight + scale * slot.value.b[place].T @ slot.value.a[place]
            torch.testing.assert_close(y[place], functional.linear(x[place], merged, bias))
            torch.testing.assert_close(gradient[place], outer[place] @ merged)
            expected = scale * (outer[place] @ slot.value.b[place].T).T @ x[place]
            torch.testing.assert_close(slot.gradient.a[place], expected)


def test_items_are_summed_over_their_own_labels() -> None:
    """A causal model's labels move one to the left; each row's sum comes with its number of tokens."""
    logits = torch.randn(2, 4, 5)
    labels = torch.tensor([[-100, -100, 3, 1], [2, -100, -100, -100]])
    nll, tokens = item_losses(logits, labels, Task.CAUSAL_LM)
    scores = logits.log_softmax(-1)
    assert tokens.tolist() == [2, 0]
    assert nll.tolist() == pytest.approx([-float(scores[0, 1, 3] + scores[0, 2, 1]), 0.0], abs=1e-5)
    classes, ones = item_losses(logits[:, 0], torch.tensor([4, 0]), Task.SEQUENCE_CLASSIFICATION)
    assert ones.tolist() == [1, 1]
    assert float(classes[0]) == pytest.approx(-float(scores[0, 0, 4]), abs=1e-5)
    assert aligned_labels(labels, Task.MASKED_LM).equal(labels)


TARGETS = st.lists(st.frozensets(st.sampled_from("abcdef")), min_size=1, max_size=5)


@given(TARGETS)
def test_no_other_order_carries_fewer_zeros(targets: list[frozenset[str]]) -> None:
    """The order is a permutation, and no permutation makes the slices of all modules shorter in sum."""
    order = arranged(targets)
    assert sorted(order) == list(range(len(targets)))

    def carried(chosen: tuple[int, ...]) -> int:
        places = {
            path: [at for at, index in enumerate(chosen) if path in targets[index]] for path in "abcdef"
        }
        return sum(stop - start for start, stop in (span(each) for each in places.values() if each))

    assert carried(order) == min(map(carried, permutations(range(len(targets)))))


def test_many_different_sets_are_ordered_in_time() -> None:
    """With a dozen different sets, too many to try every order, neighbours still overlap."""
    targets = [frozenset({f"{at}", f"{at + 1}"}) for at in (5, 0, 9, 3, 7, 1, 11, 4, 2, 8, 10, 6)]
    order = arranged(targets)
    assert sorted(order) == list(range(12))

    def carried(chosen: Sequence[int]) -> int:
        places = (
            [at for at, index in enumerate(chosen) if f"{path}" in targets[index]] for path in range(13)
        )
        return sum(stop - start for start, stop in map(span, places))

    assert carried(order) < 0.6 * carried(range(12))


@given(st.integers(1, 20), st.integers(1, 5), st.none() | st.integers(1, 6))
def test_layouts_divide_evenly(trials: int, lanes: int, stack: int | None) -> None:
    """Every trial has one place, in order; no stack is too high, and lanes differ by one trial at most."""
    layout = Layout(lanes=lanes, stack=stack)
    divided = layout.divide(range(trials))
    assert [trial for each in divided for one in each for trial in one] == list(range(trials))
    sizes = [sum(map(len, each)) for each in divided]
    assert len(sizes) == min(lanes, trials)
    assert max(sizes) - min(sizes) <= 1
    assert all(1 <= len(one) <= (stack or trials) for each in divided for one in each)
    assert Layout.parse(str(layout)) == layout
