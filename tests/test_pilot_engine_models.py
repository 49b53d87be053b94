"""What models do that a stack has to bear, or to leave to PEFT."""

from __future__ import annotations

import array
import copy
import json
import time
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from lora_probe.piloting.data import batches
from lora_probe.piloting.engine import choosing
from lora_probe.piloting.engine.footprint import kept_bytes
from lora_probe.piloting.engine.head import HeadUse
from lora_probe.piloting.engine.lanes import LanedEngine
from lora_probe.piloting.engine.layout import Layout
from lora_probe.piloting.engine.loss import model_inputs
from lora_probe.piloting.engine.prefix import SharedPrefix
from lora_probe.piloting.engine.reference import ReferenceEngine
from lora_probe.piloting.engine.session import StackedSession
from lora_probe.piloting.engine.stacked import StackedEngine
from lora_probe.piloting.engine.wrapping import Adapted
from lora_probe.piloting.errors import NotStackable, OutOfMemory
from lora_probe.piloting.records import Arm, Candidate, Split, Task, Trial
from tests.equality.comparison import assert_equal_to_peft
from tests.equality.models import HABITS, HEADS, SEQ2SEQ, VOCABULARY, causal, llama, llava, made, trials_of
from tests.peft_loop import candidate, made_data, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from lora_probe.piloting.data import PilotData

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # PEFT reads it
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]


@pytest.mark.parametrize("name", HABITS)
def test_a_stack_equals_peft_whatever_a_model_does(name: str) -> None:
    """Five trials of mixed ranks in one stack are PEFT's own, and nothing of them stays on the model."""
    subject = HABITS[name]
    base, data = subject.build(), made_data(subject.task)
    plan = subject.plan(base, accumulation=2)
    trials = trials_of(plan, 5)
    assert_equal_to_peft(base, data, plan, trials)
    before = _snapshot(base.requires_grad_(requires_grad=False))
    session = StackedEngine(plan, base, data).start(trials)
    session.train(0)
    session.evaluate(Split.TEST)
    assert _snapshot(base) == before


def _snapshot(model: nn.Module) -> list[Any]:
    """Return all of a model that training could leave its traces on, but for the numbers of its weights."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    modules = [
        (
            path,
            type(each),
            id(each),
            each.training,
            sorted(vars(each)),
            [len(vars(each)[name]) for name in hooks],
        )
        for path, each in model.named_modules()
    ]
    weights = [
        (name, id(each), each.data_ptr(), each.dtype, each.requires_grad, each.grad)
        for name, each in model.named_parameters()
    ]
    return [*modules, *weights]


@pytest.mark.parametrize("count", range(1, 10))
def test_a_trial_is_the_same_in_any_company(count: int) -> None:
    """One to nine trials in a stack: the first of them has the losses that it has alone."""
    base = llama()
    sets = [candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "up", "up_proj", rank=3, alpha=3.0)]
    plan = plan_of(sets, use_rslora=True)
    trials = trials_of(plan, count)
    alone, together = (
        StackedEngine(plan, copy.deepcopy(base), made_data()).start(some) for some in (trials[:1], trials)
    )
    for step in range(3):
        assert together.train(step).losses[0] == pytest.approx(alone.train(step).losses[0], abs=1e-5)


def _silenced(data: PilotData, *rows: int) -> PilotData:
    """Return the data with no label in some training examples."""
    train = [
        replace(each, labels=array.array("q", [-100] * len(each.labels))) if index in rows else each
        for index, each in enumerate(data.train)
    ]
    return replace(data, train=tuple(train))


@pytest.mark.parametrize("steps", [1, 2])
def test_micro_batches_without_labels_teach_nothing(steps: int) -> None:
    """Where the first batches, or whole steps, have no label, both engines go on alike and share a prefix."""
    base, data = causal("Gemma2", **HEADS), made_data()
    sets = [candidate(base, "q", "q_proj", where=".2."), candidate(base, "v", "v_proj", where=".2.")]
    plan = plan_of(sets, accumulation=2)
    silent = [
        item
        for step in range(steps)
        for each in batches(data, plan.training, step=step)
        for item in each.items
    ]
    data = _silenced(data, *silent[: None if steps == 2 else 2])
    engine, trials = StackedEngine(plan, base, data), trials_of(plan, 2)
    session = engine.start(trials)
    assert engine.head_use is HeadUse.LABELLED  # not found out from nothing
    assert list(engine.shareable.values()) == [True]
    stacked = [session.train(step) for step in range(4)]
    for place, trial in enumerate(trials):
        reference = ReferenceEngine(plan, base, data).start([trial])
        for report in stacked:
            expected = reference.train(report.step)
            assert report.losses[place] == pytest.approx(expected.losses[0], abs=1e-5)
            assert report.tokens == expected.tokens
            assert report.failed == expected.failed == ()
        reference.close()


def test_data_without_any_label_shares_nothing_and_changes_nothing() -> None:
    """With nothing to learn from, nothing is known of the model, and nothing is learned."""
    base = llama()
    sets = [candidate(base, "q", "q_proj", where=".2."), candidate(base, "v", "v_proj", where=".2.")]
    data, plan = _silenced(made_data(), *range(24)), plan_of(sets, weight_decay=0.0)
    engine = StackedEngine(plan, base, data)
    session = engine.start(trials_of(plan, 2))
    before = session.state()
    assert session.train(0).losses == (0.0, 0.0)
    assert engine.head_use is HeadUse.EVERYTHING
    assert list(engine.shareable.values()) == [False]
    values = [name for name in before if "/value" in name]
    assert values
    assert all(torch.equal(session.state()[name], before[name]) for name in values)


def _switch() -> Any:
    config = transformers.SwitchTransformersConfig(
        d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_sparse_encoder_layers=1,
        num_sparse_decoder_layers=1, num_heads=2, vocab_size=VOCABULARY, num_experts=4, expert_capacity=3,
        decoder_start_token_id=0,
    )  # fmt: skip
    return made("SwitchTransformersForConditionalGeneration", config)


def test_experts_that_are_modules_are_left_to_peft() -> None:
    """A layer that is given the tokens of its choice cannot be divided between trials."""
    base, data = _switch(), made_data(Task.SEQ2SEQ)
    plan = plan_of([candidate(base, "experts", "wi", where="experts"), candidate(base, "q", "q")])
    (reason,) = StackedEngine(plan, base, data).alone.items()
    assert reason[0] == "experts"
    assert reason[1].endswith("so its input cannot be divided between trials")


def test_a_layer_that_joins_in_later_is_not_divided_by_guess() -> None:
    """Where a layer was not entered when the model was tried out, a stack stops rather than mix up trials."""
    base: Any = llama()
    mlp: Any = base.model.layers[1].mlp
    inner, spare = mlp.forward, copy.deepcopy(mlp.up_proj)
    mlp.add_module("spare", spare)
    plan = plan_of([candidate(base, "spare", "spare"), candidate(base, "q", "q_proj")])
    engine, trials = StackedEngine(plan, base, made_data()), trials_of(plan, 2)
    session = engine.start(trials)
    assert engine.alone == {}
    session.train(0)
    mlp.forward = lambda x: inner(x) + spare(x[:1, :1]).mean()
    with pytest.raises(NotStackable, match=r"model\.layers\.1\.mlp\.spare runs for some inputs only"):
        session.train(1)


def test_a_layer_with_a_forward_of_its_own_is_left_to_peft() -> None:
    """What somebody has put in the place of a layer's forward is not the product that a stack computes."""
    base: Any = llama()
    layer: Any = base.model.layers[1].mlp.up_proj
    inner = layer.forward
    layer.forward = lambda x: 2 * inner(x)
    plan = plan_of([candidate(base, "up", "up_proj"), candidate(base, "q", "q_proj")])
    assert StackedEngine(plan, base, made_data()).alone == {
        "up": "model.layers.1.mlp.up_proj is a Linear, not a plain linear layer"
    }


def test_no_model_builds_a_cache() -> None:
    """Of a model that sees, whose own config knows of no cache, the text model's does."""
    (batch,) = batches(made_data(), plan_of([]).training, step=0)
    for model in (llama(), llava()):
        assert model_inputs(model, batch)["use_cache"] is False
        assert model(**model_inputs(model, batch)).past_key_values is None
    assert "use_cache" not in model_inputs(torch.nn.Linear(1, 1), batch)


def test_decoder_inputs_are_a_models_own() -> None:
    """MBart begins with the label that ends each row, as only its own method knows; M2M100 has no method."""
    model = made("MBartForConditionalGeneration", transformers.MBartConfig(**SEQ2SEQ))
    (batch,) = batches(made_data(Task.SEQ2SEQ), plan_of([], batch_size=6).training, step=0)
    last = [row[row != -100][-1].item() for row in batch.labels]
    assert model_inputs(model, batch)["decoder_input_ids"][:, 0].tolist() == last
    model = made("M2M100ForConditionalGeneration", transformers.M2M100Config(**SEQ2SEQ))
    expected = shift_tokens_right(batch.labels, 0, 2)
    assert (batch.labels == -100).any()
    assert torch.equal(model_inputs(model, batch)["decoder_input_ids"], expected)


@pytest.mark.parametrize("where", ["", ".2."])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_changes_nothing(where: str, dropout: float) -> None:
    """Gradient checkpointing gives the same losses and norms, with a shared prefix and with dropout, too."""
    base = llama()
    sets = [candidate(base, "q", "q_proj", where=where), candidate(base, "up", "up_proj", where=where)]
    plan = plan_of(sets, dropout=dropout)
    saving = replace(plan, training=replace(plan.training, gradient_checkpointing=True))
    trials = trials_of(plan, 3)
    plain, twice = (StackedEngine(each, base, made_data()).start(trials) for each in (plan, saving))
    assert (twice._pass._prefix is not None) is bool(where)
    for step in range(3):
        expected, report = plain.train(step), twice.train(step)
        assert report.losses == pytest.approx(expected.losses, abs=1e-6)
        assert report.gradient_norms == pytest.approx(expected.gradient_norms, rel=1e-5)


def test_both_engines_drop_the_same() -> None:
    """With dropout, a trial has the losses of PEFT in a stack, too; in evaluation nothing is dropped."""
    base = llama()
    plan = plan_of([candidate(base, "qv", "q_proj", "v_proj"), candidate(base, "up", "up_proj")], dropout=0.4)
    trials = trials_of(plan, 3)
    session = StackedEngine(plan, base, made_data()).start(trials)
    stacked = [session.train(step).losses for step in range(3)]
    measured = session.evaluate(Split.TUNING)
    for place, trial in enumerate(trials):
        reference = ReferenceEngine(plan, base, made_data()).start([trial])
        alone = [reference.train(step).losses[0] for step in range(3)]
        assert measured[place].nll == pytest.approx(reference.evaluate(Split.TUNING)[0].nll, abs=1e-4)
        reference.close()
        assert [losses[place] for losses in stacked] == pytest.approx(alone, abs=1e-5)


ADAPTED = ["a tied head that is adapted", "a bias on logits", "layers that share weights", "biases"]


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_of_both_engines_load_alike(name: str, tmp_path: Path) -> None:
    """What a stack saves says the same as what PEFT saves, and scores as the stack did, with rsLoRA."""
    from peft import PeftModel

    subject = HABITS[name]
    base, data = subject.build(), made_data(subject.task)
    plan = subject.plan(base, use_rslora=True)
    plan = replace(plan, data=replace(plan.data, task=subject.task))
    trial = trials_of(plan, 1)[0]
    scores = []
    for engine in (StackedEngine(plan, base, data), ReferenceEngine(plan, base, data)):
        session: Any = engine.start([trial])
        for step in range(3):
            session.train(step)
        session.save_adapter(trial, tmp_path / engine.name)
        scores.append(session.evaluate(Split.TEST)[0].nll)
        session.close()
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    ours, theirs = (_config(tmp_path / engine) for engine in ("stacked", "reference"))
    assert ours == theirs
    names = {Task.CAUSAL_LM: "CAUSAL_LM", Task.SEQ2SEQ: "SEQ_2_SEQ_LM", Task.MASKED_LM: None}
    assert ours["task_type"] == names[subject.task]
    loaded: Any = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "stacked")).eval()
    none = replace(plan, candidates=(Candidate(name="base", arm=Arm.BASE),))
    as_it_is = Trial(candidate="base", learning_rate=0.1, seed=0)
    session = ReferenceEngine(none, loaded.get_base_model(), data).start([as_it_is])
    assert session.evaluate(Split.TEST)[0].nll == pytest.approx(scores[0], abs=1e-4)


def _config(folder: Path) -> dict[str, Any]:
    """Return what an adapter says of itself, but for the class that PEFT notes where a task has no name."""
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return {**found, "target_modules": set(found["target_modules"]), "auto_mapping": None}


def test_an_error_of_one_lane_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is still at work on the weights when a step that failed has returned."""
    base = llama()
    plan = plan_of([candidate(base, "q", "q_proj")])
    trials = trials_of(plan, 2)
    session = LanedEngine(StackedEngine(plan, base, made_data()), Layout(lanes=2)).start(trials)
    ended = []

    def train(self: StackedSession, _: int) -> None:
        if self.trials[0] == session._lanes[0][0].trials[0]:
            raise ValueError("the first lane")
        time.sleep(0.2)
        ended.append(self.trials)

    monkeypatch.setattr(StackedSession, "train", train)
    with pytest.raises(ValueError, match="the first lane"):
        session.train(0)
    assert len(ended) == 1
    session.close()


def test_running_out_of_memory_is_no_reason_to_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trying to share layers runs out of memory, the wave is too large: a smaller one shares them."""
    base = llama()
    sets = [candidate(base, "q", "q_proj", where=".2."), candidate(base, "v", "v_proj", where=".2.")]
    plan = plan_of(sets)
    engine = StackedEngine(plan, base, made_data())
    assert engine.head_use is HeadUse.PIECES
    before = _snapshot(base)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(SharedPrefix, "record", full)
        with pytest.raises(OutOfMemory):
            engine.start(trials_of(plan, 2))
    assert _snapshot(base) == before
    assert engine.start(trials_of(plan, 2))._pass._prefix is not None


def test_a_model_whose_layers_write_elsewhere_shares_nothing() -> None:
    """Where a layer adds to what the model holds instead of returning it, nothing can be shared."""
    base: Any = llama()
    held: dict[str, torch.Tensor] = {}
    base.model.embed_tokens.register_forward_hook(
        lambda _, __, output: held.update(stream=torch.zeros_like(output))
    )
    base.model.layers[0].mlp.register_forward_hook(lambda _, __, output: held["stream"].add_(output).mul(0))
    base.model.layers[2].register_forward_hook(lambda _, __, output: output + held["stream"])
    sets = [candidate(base, "q", "q_proj", where=".2."), candidate(base, "v", "v_proj", where=".2.")]
    plan = plan_of(sets)
    engine = StackedEngine(plan, base, made_data())
    assert engine.start(trials_of(plan, 2))._pass._prefix is None
    assert list(engine.shareable.values()) == [False]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_base_on_several_devices_is_stacked_behind_its_hooks() -> None:
    """What keeps each forward aside, and moves what it is given, goes on doing so."""
    hooks: Any = import_module("accelerate.hooks")  # which has no types
    base = causal("Qwen3", **HEADS).requires_grad_(requires_grad=False)
    sets = [candidate(base, "q", "q_proj", where=".2."), candidate(base, "up", "up_proj", where=".2.")]
    plan = plan_of(sets)
    spread = copy.deepcopy(base)
    for module in spread.modules():
        hooks.add_hook_to_module(module, hooks.AlignDevicesHook("cpu"))
    before = _snapshot(spread)
    engine, trials = StackedEngine(plan, spread, made_data()), trials_of(plan, 3)
    assert engine.alone == {}
    assert engine.head_use is HeadUse.PIECES
    ours, theirs = engine.start(trials), StackedEngine(plan, base, made_data()).start(trials)
    assert ours._pass._prefix is not None
    for step in range(2):
        assert ours.train(step) == theirs.train(step)
    assert _snapshot(spread) == before


def test_lanes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lanes on two cores compute on one each, and the caller keeps both."""
    torch.set_num_threads(2)
    seen = []

    def train(_: StackedSession, __: int) -> None:
        seen.append(torch.get_num_threads())
        raise ValueError("seen")

    base = llama()
    plan = plan_of([candidate(base, "q", "q_proj")])
    session = LanedEngine(StackedEngine(plan, base, made_data()), Layout(lanes=2)).start(trials_of(plan, 2))
    monkeypatch.setattr(StackedSession, "train", train)
    with pytest.raises(ValueError, match="seen"):
        session.train(0)
    session.close()
    assert seen == [1, 1]
    assert torch.get_num_threads() == 2


def test_lanes_go_on_from_one_step() -> None:
    """States of trials that stand at different steps are refused, in whichever lanes they are."""
    base = llama()
    plan = plan_of([candidate(base, "q", "q_proj")])
    engine, trials = LanedEngine(StackedEngine(plan, base, made_data()), Layout(lanes=2)), trials_of(plan, 2)
    session = engine.start(trials)
    state = {**session.state(), f"{trials[1].id}/step": torch.tensor(1)}
    with pytest.raises(ValueError, match="the trials stand at different steps: 0, 1"):
        session.load(state)
    session.close()


def test_weights_are_there_once_however_many_share_them() -> None:
    """Neither a second lane nor the footprint of a trial counts the weights of the base again."""
    base = causal("Llama", hidden_size=128, intermediate_size=192, num_key_value_heads=2)
    plan = plan_of([candidate(base, "q", "q_proj")], batch_size=1)
    engine = StackedEngine(plan, base, made_data())
    other = LanedEngine(engine, Layout(lanes=2)).lane(1).model
    assert other is not base
    ours, theirs = ([each.data_ptr() for each in model.parameters()] for model in (base, other))
    assert ours == theirs
    assert 2 * kept_bytes(engine, trials_of(plan, 1)[0]) < sum(each.nbytes for each in base.parameters())


def test_peft_leaves_nothing_behind_where_something_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails halfway, and a step that fails with gradients at hand, leave the model as it was."""
    base = llama().requires_grad_(requires_grad=False)
    before = _snapshot(base)
    plan = plan_of([candidate(base, "q", "q_proj"), Candidate(name="all", arm=Arm.FULL)])
    engine, trials = ReferenceEngine(plan, base, made_data()), trials_of(plan, 2)

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(Adapted, "__init__", fail)
        for trial in trials:
            with pytest.raises(RuntimeError, match="broken"):
                engine.start([trial])
            assert _snapshot(base) == before
    for trial in trials:
        session = engine.start([trial])
        with monkeypatch.context() as patched:
            patched.setattr(session, "_clip", fail)
            with pytest.raises(RuntimeError, match="broken"):
                session.train(0)
        session.close()
        assert _snapshot(base) == before


def test_a_wave_is_as_large_as_memory_and_plan_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is found out before layouts are timed; a plan may ask for fewer trials, never for more."""
    base = llama()
    plan = plan_of([candidate(base, "q", "q_proj")])
    monkeypatch.setattr(choosing, "trials_that_fit", lambda *_: 3)
    sizes = [choosing.make_engine(replace(plan, wave=wave), base, made_data()).size for wave in (None, 2, 5)]
    assert sizes == [3, 2, 3]
