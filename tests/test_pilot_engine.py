"""The stacked engine does what PEFT and a hand-written loop do, for every sort of architecture."""

from __future__ import annotations

import copy
import math
import re
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lora_probe.piloting.data import batches
from lora_probe.piloting.engine import footprint
from lora_probe.piloting.engine.choosing import make_engine
from lora_probe.piloting.engine.footprint import kept_bytes, trials_that_fit
from lora_probe.piloting.engine.initial import dropout_mask
from lora_probe.piloting.engine.lanes import LanedEngine
from lora_probe.piloting.engine.layout import Layout
from lora_probe.piloting.engine.session import StackedSession
from lora_probe.piloting.engine.stacked import StackedEngine
from lora_probe.piloting.errors import NotStackable, OutOfMemory
from lora_probe.piloting.records import Arm, Candidate, Split, Trial
from tests.equality.comparison import assert_equal_to_peft
from tests.equality.models import FAMILIES, SMALL, llama, trials_of
from tests.peft_loop import candidate, made_data, peft_run, plan_of

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT reads it
]

STEPS = 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stack_equals_peft_for_every_family(family: str) -> None:
    """Losses, gradients, A and B of trials of many sets, ranks, rates and seeds are PEFT's own."""
    subject = FAMILIES[family]
    base = subject.build()
    plan = subject.plan(base, accumulation=2)
    assert_equal_to_peft(base, made_data(subject.task), plan, trials_of(plan, 5))


@pytest.mark.parametrize(
    "training",
    [
        {"use_rslora": True, "clip": 0.0, "batch_size": 3},
        {"clip": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.95), "schedule": "cosine"},
        {"gradient_checkpointing": True, "accumulation": 2},
    ],
    ids=["rslora", "clipping", "recomputing"],
)
def test_every_option_of_training_equals_peft(training: dict[str, Any]) -> None:
    """rsLoRA, clipping by each trial's own norm, weight decay, betas and recomputing are PEFT's."""
    base = llama()
    candidates = [
        candidate(base, "qv", "q_proj", "v_proj"),
        candidate(base, "mlp", "up_proj", rank=7, alpha=7.0),
    ]
    plan = plan_of(candidates, **training)
    assert_equal_to_peft(base, made_data(), plan, trials_of(plan, 4), steps=3)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_shared_prefix_equals_peft(family: str) -> None:
    """Where only the last layers are adapted, those below run once, and every number stays what it was."""
    subject = replace(FAMILIES[family], where={"llama": ".2.", "t5": "decoder.block.1"}[family])
    subject = replace(subject, sets=subject.sets[:2])
    base, data = subject.build(), made_data(subject.task)
    plan = subject.plan(base)
    trials = trials_of(plan, 3)
    engine = StackedEngine(plan, copy.deepcopy(base), data)
    prefix = engine.start(trials)._pass._prefix
    assert prefix is not None
    assert len(prefix.layers) == {"llama": 2, "t5": 3}[family]
    assert_equal_to_peft(base, data, plan, trials, steps=3)


def test_a_model_that_hides_state_between_layers_shares_nothing() -> None:
    """Where a later layer reads what an earlier one left behind, the check finds out, and sharing is off."""
    base: Any = llama()
    seen: dict[str, Any] = {}
    keep = base.model.layers[0].mlp.register_forward_hook(lambda *call: seen.update(kept=call[2]))
    use = base.model.layers[2].register_forward_hook(lambda *call: call[2] + seen["kept"])
    plan = plan_of(
        [candidate(base, "top", "q_proj", where=".2."), candidate(base, "low", "v_proj", where=".2.")]
    )
    session = StackedEngine(plan, base, made_data()).start(trials_of(plan))
    assert session._pass._prefix is None
    keep.remove()
    use.remove()


@pytest.mark.parametrize("count", [1, 4])
def test_dropout_masks_do_not_depend_on_company(count: int) -> None:
    """With dropout, a trial alone or among four equals PEFT that is given the same masks."""
    base = llama()
    candidates = [candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "up", "up_proj", rank=3)]
    plan = plan_of(candidates, dropout=0.3, accumulation=2)
    trials = trials_of(plan, count)
    for trial in trials:
        moment = {"at": (0, 0)}

        def prepare(model: Any, trial: Trial = trial, moment: dict[str, Any] = moment) -> None:
            for name, module in model.named_modules():
                if hasattr(module, "lora_dropout") and "default" in module.lora_dropout:
                    path = name.removeprefix("base_model.model.")
                    module.lora_dropout["default"] = Masked(path, trial.seed, moment)

        run = peft_run(
            base, made_data(), plan, trial, steps=3, prepare=prepare,
            before=partial(_note, moment),
        )  # fmt: skip
        session = StackedEngine(plan, copy.deepcopy(base), made_data()).start(trials)
        losses = [session.train(step).losses[trials.index(trial)] for step in range(3)]
        assert losses == pytest.approx(run.losses, abs=1e-5)


def _note(moment: dict[str, Any], step: int, micro_batch: int) -> None:
    moment["at"] = (step, micro_batch)


class Masked(torch.nn.Module):
    """Dropout with the masks that the engine draws."""

    def __init__(self, path: str, seed: int, moment: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.seed, self.moment = path, seed, moment

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the mask of this step."""
        step, micro_batch = self.moment["at"]
        shape = (x.shape[:-1].numel(), x.shape[-1])
        mask = dropout_mask(
            self.path, seed=self.seed, step=step, micro_batch=micro_batch, shape=shape, probability=0.3
        )
        return x * mask.view(x.shape)


@pytest.mark.parametrize("layout", ["1xall", "2xall", "2x1", "1x1"])
def test_every_layout_measures_the_same(layout: str) -> None:
    """Stacked, one after another or on two cores: losses, norms and held-out losses agree."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan, 4)
    expected = StackedEngine(plan, copy.deepcopy(base), made_data()).start(trials)
    session = make_engine(plan, copy.deepcopy(base), made_data(), layout=layout).start(trials)
    assert session.evaluate(Split.TEST) == expected.evaluate(Split.TEST)
    for step in range(3):
        ours, theirs = session.train(step), expected.train(step)
        assert ours.losses == pytest.approx(theirs.losses, abs=1e-5)
        assert ours.gradient_norms == pytest.approx(theirs.gradient_norms, rel=1e-4)
    for one, other in zip(session.evaluate(Split.TEST), expected.evaluate(Split.TEST), strict=True):
        assert (one.trial, one.step, one.tokens) == (other.trial, 3, other.tokens)
        assert one.nll == pytest.approx(other.nll, abs=1e-4)
    session.close()


def test_evaluation_is_the_loss_of_the_adapted_model() -> None:
    """Each item's held-out loss is the sum over its own labelled tokens under PEFT's trained model."""
    base, data = llama(), made_data()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan)
    session = StackedEngine(plan, copy.deepcopy(base), data).start(trials)
    for step in range(3):
        session.train(step)
    for measured in session.evaluate(Split.TEST):
        run = peft_run(base, data, plan, measured.trial, steps=3)
        for item, nll, tokens in zip(data.test, measured.nll, measured.tokens, strict=True):
            ids, labels = torch.tensor([list(item.input_ids)]), torch.tensor(list(item.labels))
            with torch.no_grad():
                scores = run.model(input_ids=ids).logits[0].log_softmax(-1)
            kept = [(at - 1, label) for at, label in enumerate(labels.tolist()) if at and label != -100]
            assert nll == pytest.approx(-sum(float(scores[at, label]) for at, label in kept), abs=1e-4)
            assert tokens == len(kept)


def test_before_the_first_step_all_trials_are_the_base() -> None:
    """At step 0 every trial, the base arm among them, has the untouched model's loss, from one pass."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj"), Candidate(name="base", arm=Arm.BASE)])
    trials = [Trial(candidate=name, learning_rate=0.1, seed=0) for name in ("base", "qv")]
    session = StackedEngine(plan, base, made_data()).start(trials)
    before = session.evaluate(Split.TUNING)
    assert before[0].nll == before[1].nll
    session.train(0)
    after = session.evaluate(Split.TUNING)
    assert after[0].nll == pytest.approx(before[0].nll, abs=1e-5)
    assert after[1].nll != pytest.approx(before[1].nll, abs=1e-5)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_diverged_trial_leaves_the_others_bit_identical(bad: float) -> None:
    """A trial whose weights became infinite is marked, frozen and left out; the others do not notice."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan, 4)
    sane, ill = (StackedEngine(plan, copy.deepcopy(base), made_data()).start(trials) for _ in range(2))
    for step in range(4):
        if step == 1:
            state = ill.state()
            name = next(name for name in state if name.startswith(f"{trials[1].id}/value.B"))
            state[name][0, 0] = bad
            ill.load(state)
        expected, report = sane.train(step), ill.train(step)
        others = [0, 2, 3]
        assert [report.losses[at] for at in others] == [expected.losses[at] for at in others]
        assert [failed.trial for failed in report.failed] == ([trials[1]] if step == 1 else [])
        assert math.isnan(report.losses[1]) == (step >= 1)
    assert [each.trial for each in ill.evaluate(Split.TUNING)] == [trials[at] for at in others]
    ours, theirs = ill.state(), sane.state()
    for at in others:
        for name in (name for name in theirs if name.startswith(f"{trials[at].id}/")):
            assert torch.equal(ours[name], theirs[name]), name
    assert ours[f"{trials[1].id}/diverged"]
    values = [tensor for name, tensor in ours.items() if name.startswith(f"{trials[1].id}/value")]
    assert values
    assert not any(tensor.any() for tensor in values)  # it stands still as the untouched base


@pytest.mark.parametrize("layout", ["1xall", "2xall"])
def test_a_loaded_state_goes_on_bit_by_bit(layout: str) -> None:
    """Stopped after two steps and continued in a new session, the end is the same to the last bit."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan, 4)
    engine = make_engine(plan, copy.deepcopy(base), made_data(), layout=layout)
    whole = engine.start(trials)
    reports = [whole.train(step) for step in range(4)]
    first = engine.start(trials)
    for step in range(2):
        first.train(step)
    second = make_engine(plan, copy.deepcopy(base), made_data(), layout=layout).start(trials)
    second.load(first.state())
    assert second.step == 2
    assert [second.train(step) for step in (2, 3)] == reports[2:]
    expected = whole.state()
    assert second.state().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.state().items())
    for session in (whole, first, second):
        session.close()


def test_a_trial_can_be_taken_out_of_a_wave() -> None:
    """What a state holds of one trial is enough to go on with it in other company."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan, 4)
    engine = StackedEngine(plan, base, made_data())
    wave = engine.start(trials)
    wave.train(0)
    alone = engine.start(trials[2:3])
    alone.load(wave.state())
    assert alone.train(1).losses[0] == pytest.approx(wave.train(1).losses[2], abs=1e-5)
    with pytest.raises(ValueError, match="the checkpoint has no"):
        wave.load(alone.state())
    with pytest.raises(ValueError, match="the next step is 2, not 0"):
        alone.train(0)


def test_a_saved_adapter_gives_the_same_outputs(tmp_path: Path) -> None:
    """What is saved loads with `PeftModel.from_pretrained` and scores every item as the stack did."""
    from peft import PeftModel

    for family in ("llama", "gpt2"):
        subject = replace(FAMILIES[family], sets=FAMILIES[family].sets[:2])
        base, data = subject.build(), made_data(subject.task)
        plan = subject.plan(base)
        trials = trials_of(plan, 3)
        session = StackedEngine(plan, copy.deepcopy(base), data).start(trials)
        for step in range(3):
            session.train(step)
        session.save_adapter(trials[0], tmp_path / family)
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / family)).eval()
        measured = session.evaluate(Split.TEST)[0]
        for item, nll in zip(data.test, measured.nll, strict=True):
            ids, labels = torch.tensor([list(item.input_ids)]), torch.tensor([list(item.labels)])
            with torch.no_grad():
                output = loaded(input_ids=ids, labels=labels)
            assert nll == pytest.approx(float(output.loss) * int((labels[:, 1:] != -100).sum()), abs=1e-4)


def test_the_model_is_given_back() -> None:
    """Between steps nothing of a stack is left on the model: no forward, no hook, no changed weight."""
    base = llama()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    plan = plan_of(
        [candidate(base, "top", "q_proj", where=".2."), candidate(base, "v", "v_proj", where=".2.")]
    )
    session = StackedEngine(plan, base, made_data()).start(trials_of(plan))
    session.train(0)
    session.evaluate(Split.TEST)
    assert not any("forward" in module.__dict__ for module in base.modules())
    assert not any(module._forward_pre_hooks for module in base.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_dead_adapters_are_named() -> None:
    """An adapter whose output reaches no loss is reported by path; the others are not."""
    base: Any = llama()
    torch.nn.init.zeros_(base.model.layers[1].self_attn.o_proj.weight)
    plan = plan_of([candidate(base, "v", "v_proj"), candidate(base, "o", "o_proj")])
    trials = trials_of(plan)
    session = StackedEngine(plan, base, made_data()).start(trials)
    for step in range(2):
        session.train(step)
    assert {trial.candidate: paths for trial, paths in session.dead().items()} == {
        "v": ("model.layers.1.self_attn.v_proj",),
        "o": (),
    }


def test_running_out_of_memory_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an allocator says, the runner meets OutOfMemory with the size of the wave."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj")])
    session = StackedEngine(plan, base, made_data()).start(trials_of(plan))
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(base, "forward", fail)
            with pytest.raises(OutOfMemory, match=r"2 trials at once do not fit .* of cpu; lower --wave"):
                session.train(0)
    assert session.train(0).tokens > 0


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, {}, "some uses DoRA, whose magnitudes need the norm of every merged weight"),
    "saved": (
        {"modules_to_save": ["lm_head"]}, {}, "some saves whole modules, of which a stack has only one copy",
    ),
    "bias": ({"bias": "all"}, {}, "some trains biases, of which a stack has only one copy"),
    "init": ({"init_lora_weights": "pissa"}, {}, "some starts from 'pissa' instead of PEFT's default"),
    "other": ({"rank_pattern": {"q": 2}}, {}, "some uses rank_pattern, which only PEFT implements"),
    "full": ({}, {"arm": Arm.FULL}, "some trains every weight, of which a stack has only one copy"),
    "experts": (
        {}, {"parameters": ("a.b",)},
        "some adapts bare parameters (experts), which only PEFT knows how to wrap",
    ),
    "embedding": (
        {}, {"paths": ("model.embed_tokens",)}, "model.embed_tokens is a Embedding, not a plain linear layer",
    ),
    "unknown": (
        {}, {"paths": ("model.nowhere",)},
        "model.nowhere is no module of the model, so only PEFT can say what it means",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stacked_says_why(case: str) -> None:
    """Each reason is one sentence, and `make_engine` leaves exactly these candidates to PEFT."""
    lora, changed, sentence = REFUSED[case]
    base = llama()
    fine, some = candidate(base, "fine", "q_proj"), candidate(base, "some", "v_proj", **lora)
    plan = plan_of([fine, replace(some, **changed)])
    assert StackedEngine(plan, base, made_data()).alone == {"some": sentence}
    engine = make_engine(plan, base, made_data(), layout="1xall")
    assert sentence in engine.reason
    trials = [
        Trial(candidate=name, learning_rate=1e-3, seed=seed) for name in ("some", "fine") for seed in (0, 1)
    ]
    assert engine.waves(trials) == (tuple(trials[2:]), (trials[0],), (trials[1],))
    with pytest.raises(NotStackable, match=re.escape(sentence)):
        make_engine(replace(plan, engine="stacked"), base, made_data())


def test_a_layer_called_by_name_is_adapted() -> None:
    """A model that hands a layer its input by keyword trains as one that does not."""
    base: Any = llama()
    plan = plan_of([candidate(base, "up", "up_proj"), candidate(base, "q", "q_proj")])
    trials = trials_of(plan)
    usual = StackedEngine(plan, copy.deepcopy(base), made_data()).start(trials)
    mlp = base.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(input=x))
    named = StackedEngine(plan, base, made_data()).start(trials)
    for step in range(2):
        assert named.train(step).losses == pytest.approx(usual.train(step).losses, abs=1e-6)


def test_rows_in_another_order_are_found_out() -> None:
    """A layer that is given time before batch cannot be divided between trials, and one forward shows it."""
    base: Any = llama()
    plan = plan_of([candidate(base, "up", "up_proj")])
    mlp = base.model.layers[1].mlp
    inner = mlp.forward
    mlp.forward = lambda x: inner(x.transpose(0, 1)).transpose(0, 1)
    assert StackedEngine(plan, base, made_data()).alone == {
        "up": "model.layers.1.mlp.up_proj is given the trials' rows in an order of its own"
    }
    mlp.forward = lambda x: inner(x[:1]) + inner(x[-1:])
    assert StackedEngine(plan, base, made_data()).alone == {
        "up": "model.layers.1.mlp.up_proj is not given one row for each token of each trial, "
        "so its input cannot be divided between trials"
    }


def test_the_fastest_way_is_measured() -> None:
    """`make_engine` times its ways, takes the fastest, and gives the figures of all of them."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj")])
    engine = make_engine(plan, base, made_data())
    figures = {way: float(time) for way, time in re.findall(r"[:,] ([a-z0-9 ]+?) (\d+) ms", engine.reason)}
    assert len(figures) >= 1
    assert engine.reason.startswith(
        f"{min(figures, key=figures.__getitem__)} was the fastest for 8 trials a step"
    )
    assert re.fullmatch(r"\d+x(all|1)", engine.choice)
    reference = make_engine(replace(plan, engine="reference"), base, made_data())
    assert reference.name == "reference"


def test_memory_decides_how_many_trials_share_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wave is what one trial keeps for its backward pass, divided into half of what is free."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj")])
    engine = StackedEngine(plan, base, made_data())
    trial = Trial(candidate="qv", learning_rate=1e-3, seed=0)
    kept = kept_bytes(engine, trial)
    monkeypatch.setattr(footprint, "_free_bytes", lambda _: 6 * kept + 1)
    assert trials_that_fit(engine, trial) == 3
    monkeypatch.setattr(footprint, "_free_bytes", lambda _: 1)
    assert trials_that_fit(engine, trial) == 1


def test_gradient_checkpointing_keeps_what_layers_are_given() -> None:
    """With it a trial keeps less than without, but at least the input of every layer."""
    base = llama()
    plan = plan_of([candidate(base, "mlp", "up_proj", "down_proj")])
    trial = Trial(candidate="mlp", learning_rate=1e-3, seed=0)
    saving = replace(plan, training=replace(plan.training, gradient_checkpointing=True))
    whole, kept = (kept_bytes(StackedEngine(each, base, made_data()), trial) for each in (plan, saving))
    (batch,) = batches(made_data(), plan.training, step=0)[:1]
    inputs = 3 * batch.inputs["input_ids"].numel() * SMALL["hidden_size"] * 4
    assert inputs <= kept < whole


def test_one_lane_works_in_the_callers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of one thread would only make torch keep a second set of helpers."""
    threads = set()
    train = StackedSession.train

    def noted(self: StackedSession, step: int) -> Any:
        threads.add(threading.current_thread())
        return train(self, step)

    monkeypatch.setattr(StackedSession, "train", noted)
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj")])
    for lanes, expected in ((1, 1), (2, 2)):
        threads.clear()
        session = LanedEngine(StackedEngine(plan, base, made_data()), Layout(lanes=lanes)).start(
            trials_of(plan, 2)
        )
        session.train(0)
        session.close()
        assert len(threads) == expected
        assert (threading.current_thread() in threads) is (lanes == 1)


def test_bf16_trains_close_to_fp32() -> None:
    """A base in bfloat16 keeps its adapters in float32, and its losses stay within what it rounds."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "mlp", "up_proj", rank=3)])
    trials = trials_of(plan)
    exact = StackedEngine(plan, copy.deepcopy(base), made_data()).start(trials)
    rough = StackedEngine(plan, copy.deepcopy(base).bfloat16(), made_data()).start(trials)
    for step in range(3):
        assert rough.train(step).losses == pytest.approx(exact.train(step).losses, rel=0.03)
    assert {tensor.dtype for name, tensor in rough.state().items() if "value" in name} == {torch.float32}
