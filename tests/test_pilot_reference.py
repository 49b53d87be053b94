"""The reference engine is PEFT itself: equal to a hand-written loop, exact in resuming, gone when closed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from lora_probe.piloting.engine.initial import initial_a
from lora_probe.piloting.engine.reference import ReferenceEngine
from lora_probe.piloting.records import Arm, Candidate, Failure, Split, Task, Trial
from tests.peft_loop import candidate, made_data, peft_run, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from lora_probe.piloting.records import Plan

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT reads it

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
TRIAL = Trial(candidate="set", learning_rate=1e-2, seed=3)


def _model(architecture: str = "Llama", head: str = "ForCausalLM", **config: Any) -> nn.Module:
    torch.manual_seed(1)
    chosen = getattr(transformers, f"{architecture}Config")(**{**SMALL, **config})
    model: nn.Module = getattr(transformers, architecture + head)(chosen)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # far from the tiny start, so that every gradient says something
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _trained(engine: ReferenceEngine, steps: int, trial: Trial = TRIAL) -> tuple[list[float], list[float]]:
    session = engine.start([trial])
    try:
        reports = [session.train(step) for step in range(steps)]
        return [each.losses[0] for each in reports], list(session.evaluate(Split.TEST)[0].nll)
    finally:
        session.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "accumulation": 3, "batch_size": 3, "epsilon": 1e-4},  # or noise takes steps
        {"clip": 0.0, "weight_decay": 0.1},
        {"use_dora": True},
    ],
)
def test_it_is_a_plain_peft_loop(options: dict[str, Any]) -> None:
    """Losses, norms before clipping, and A and B after some steps are those of a loop written by hand."""
    model, data = _model(), made_data()
    dora: dict[str, Any] = {"use_dora": True} if options.get("use_dora") else {}
    plan = plan_of([candidate(model, "set", "q_proj", "down_proj", **dora)], **options)
    trial = replace(TRIAL, learning_rate=2e-3)
    expected = peft_run(model, data, plan, trial, steps=4)
    session = ReferenceEngine(plan, model, data).start([trial])
    reports = [session.train(step) for step in range(4)]
    assert [each.losses[0] for each in reports] == pytest.approx(expected.losses, abs=5e-6)
    assert [each.gradient_norms[0] for each in reports] == pytest.approx(expected.norms, rel=1e-4)
    for path in plan.candidates[0].paths:
        wrapped: Any = model.get_submodule(path)
        a, b = expected.matrices(path)
        assert torch.allclose(wrapped.lora_A["default"].weight, a, atol=1e-5)
        assert torch.allclose(wrapped.lora_B["default"].weight, b, atol=1e-5)
    session.close()


EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 1}


def _arms() -> dict[str, tuple[Any, Task, dict[str, Any]]]:
    """Return what stacking leaves to PEFT: model, task, and the arguments of a `LoraConfig`."""
    return {
        "dora": (_model, Task.CAUSAL_LM, {"target_modules": ["q_proj"], "use_dora": True}),
        "experts": (
            lambda: _model("Mixtral", **EXPERTS),
            Task.CAUSAL_LM,
            {
                "target_modules": ["q_proj"],
                "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            },
        ),
        "embedding": (_model, Task.CAUSAL_LM, {"target_modules": ["embed_tokens", "v_proj"]}),
        "module to save": (
            _model, Task.CAUSAL_LM, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        ),
        "bias": (
            lambda: _model("Qwen2", num_key_value_heads=1),
            Task.CAUSAL_LM,
            {"target_modules": ["q_proj"], "bias": "lora_only"},
        ),
        "classification": (
            lambda: _model("Bert", "ForSequenceClassification", num_labels=3),
            Task.SEQUENCE_CLASSIFICATION,
            {"target_modules": ["query"], "task_type": "SEQ_CLS"},
        ),
    }  # fmt: skip


def _arm(name: str) -> tuple[nn.Module, Plan, Any]:
    make, task, lora = _arms()[name]
    model = make()
    data = made_data(task if task is not Task.SEQUENCE_CLASSIFICATION else Task.CAUSAL_LM)
    if task is Task.SEQUENCE_CLASSIFICATION:
        import array

        parts: dict[str, Any] = {
            part: tuple(
                replace(each, labels=array.array("q", [int(each.key) % 3])) for each in getattr(data, part)
            )
            for part in ("train", "tuning", "test")
        }
        data = replace(data, facts=replace(data.facts, task=task), **parts)
    chosen = Candidate(name="set", rank=2, alpha=4.0, lora={"r": 2, "lora_alpha": 4.0, **lora})
    plan = plan_of([chosen, Candidate(name="full", arm=Arm.FULL), Candidate(name="base", arm=Arm.BASE)])
    return model, replace(plan, data=data.facts), data


@pytest.mark.parametrize("name", list(_arms()))
@pytest.mark.parametrize("arm", ["set", "full"])
def test_what_stacking_leaves_to_peft(name: str, arm: str) -> None:
    """It learns, its state goes on bit-equal, and afterwards the model is to the bit what it was."""
    model, plan, data = _arm(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modules = {key: type(module) for key, module in model.named_modules()}
    engine, trial = ReferenceEngine(plan, model, data), replace(TRIAL, candidate=arm)
    session = engine.start([trial])
    start = session.evaluate(Split.TEST)[0].loss
    for step in range(3):
        session.train(step)
    state = session.state()
    assert all(key.startswith(f"{trial.id}/") for key in state)
    going_on = [session.train(step).losses for step in range(3, 6)]
    end = session.evaluate(Split.TEST)[0]
    assert session.dead() == {trial: ()}
    session.close()
    assert end.loss != start

    session = engine.start([trial])
    session.load({**state, "other|1|1/step": torch.tensor(99)})
    assert session.step == 3
    assert [session.train(step).losses for step in range(3, 6)] == going_on
    assert session.evaluate(Split.TEST)[0] == end
    session.close()
    session.close()
    assert {key: type(module) for key, module in model.named_modules()} == modules
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("name", [name for name in _arms() if name != "bias"])
def test_a_saved_adapter_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    """PEFT loads the checkpoint on the bare model, and computes what the trial computed."""
    model, plan, data = _arm(name)
    session = ReferenceEngine(plan, model, data).start([TRIAL])
    for step in range(3):
        session.train(step)
    inputs = {"input_ids": torch.arange(1, 9)[None], "attention_mask": torch.ones(1, 8, dtype=torch.int64)}
    with torch.no_grad():
        expected = model(**inputs).logits
    session.save_adapter(TRIAL, tmp_path)
    session.close()
    with torch.no_grad():
        found = PeftModel.from_pretrained(model, tmp_path).eval()(**inputs).logits
    assert torch.allclose(found, expected, atol=1e-6)


def test_equal_seeds_start_from_equal_factors() -> None:
    """A depends on path, expert and seed: not on the set, and the first rows not on the rank."""
    factors = {}
    for rank in (2, 4):
        model, plan, data = _arm("experts")
        chosen = plan.candidates[0]
        wide = replace(chosen, rank=rank, lora={**chosen.lora, "r": rank})
        engine = ReferenceEngine(replace(plan, candidates=(wide,)), model, data)
        session = engine.start([TRIAL])
        wrapped: Any = model.get_submodule("model.layers.0.mlp.experts")
        layers = {wrapped.parameter_name: wrapped, wrapped.base_layer.parameter_name: wrapped.base_layer}
        down = layers["down_proj"].lora_A["default"].weight.detach().clone()
        factors[rank] = down.view(4, rank, -1)
        attention: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
        expected = initial_a("model.layers.0.self_attn.q_proj", seed=3, rank=rank, in_features=16)
        assert torch.equal(attention.lora_A["default"].weight, expected)
        session.close()
    assert torch.equal(factors[2], factors[4][:, :2])
    assert not torch.equal(factors[2][0], factors[2][1])


def test_dropout_is_keyed_and_off_in_evaluation() -> None:
    """Two equal runs drop the same, other runs drop something else, and evaluating drops nothing."""
    model, data = _model(), made_data()
    plan = plan_of([candidate(model, "set", "q_proj", "v_proj")], dropout=0.5)
    engine = ReferenceEngine(plan, model, data)
    once, again = _trained(engine, 4), _trained(engine, 4)
    assert once == again
    assert _trained(engine, 4, replace(TRIAL, seed=4))[0] != once[0]
    without = ReferenceEngine(replace(plan, training=replace(plan.training, dropout=0.0)), model, data)
    assert _trained(without, 4)[0] != once[0]
    session = engine.start([TRIAL])
    session.train(0)
    assert session.evaluate(Split.TUNING) == session.evaluate(Split.TUNING)
    session.close()


def test_gradient_checkpointing_changes_nothing() -> None:
    """Layers that are computed twice give the same losses, and a base's own dropout stays off."""
    model, data = _model("GPT2", "LMHeadModel", resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5), made_data()
    plan = plan_of([candidate(model, "set", "c_attn")], dropout=0.2)
    kept = replace(plan, training=replace(plan.training, gradient_checkpointing=True))
    plain, twice = (_trained(ReferenceEngine(each, model, data), 3) for each in (plan, kept))
    assert twice[0] == pytest.approx(plain[0], abs=1e-6)
    assert twice[1] == pytest.approx(plain[1], abs=1e-5)


def test_a_diverged_trial_stands_still() -> None:
    """An infinite loss is reported once, nothing is updated any more, and its state says so."""
    model, data = _model(), made_data()
    plan = plan_of([candidate(model, "set", "q_proj")], clip=0.0)
    engine = ReferenceEngine(plan, model, data)
    session = engine.start([TRIAL])
    session.train(0)
    wrapped: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    with torch.no_grad():
        wrapped.lora_B["default"].weight.fill_(float("inf"))
    report = session.train(1)
    assert [each.failure for each in report.failed] == [Failure.DIVERGED]
    assert report.failed[0].reason == "the loss became infinite or no number in step 2"
    assert session.train(2).failed == ()
    assert session.evaluate(Split.TEST) == []
    state = session.state()
    session.close()
    again = engine.start([TRIAL])
    again.load(state)
    assert again.evaluate(Split.TEST) == []
    again.close()


def test_a_dead_adapter_is_named() -> None:
    """An adapter whose gradient is missing in every step is reported by its path."""
    model = _model("Llama")
    model.add_module("spare", nn.Linear(16, 16))
    data = made_data()
    plan = plan_of([candidate(model, "set", "q_proj", "spare")])
    session = ReferenceEngine(plan, model, data).start([TRIAL])
    for step in range(2):
        session.train(step)
    assert session.dead() == {TRIAL: ("spare",)}
    session.close()


def test_the_base_has_nothing_to_train() -> None:
    """Its loss is the bare model's, whatever was adapted before."""
    model, plan, data = _arm("dora")
    engine = ReferenceEngine(plan, model, data)
    base = replace(TRIAL, candidate="base")
    session = engine.start([base])
    bare = session.evaluate(Split.TEST)[0]
    session.close()
    _trained(engine, 2)
    session = engine.start([base])
    assert session.evaluate(Split.TEST)[0] == bare
    session.close()


def test_full_training_is_in_float32() -> None:
    """A base in bfloat16 is trained in float32, and is there again in bfloat16 afterwards."""
    model, plan, data = _arm("dora")
    model = model.to(torch.bfloat16)
    engine = ReferenceEngine(plan, model, data)
    session = engine.start([replace(TRIAL, candidate="full")])
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    session.train(0)
    session.close()
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}


def test_peft_refuses_what_it_refuses() -> None:
    """An error while adapting leaves the model as it was."""
    model, plan, data = _arm("dora")
    bad = replace(plan.candidates[0], lora={"r": 2, "target_modules": ["nowhere"]})
    modules = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match="nowhere"):
        ReferenceEngine(replace(plan, candidates=(bad,)), model, data).start([TRIAL])
    assert [name for name, _ in model.named_modules()] == modules
    with pytest.raises(ValueError, match="one trial at a time, got 2"):
        ReferenceEngine(plan, model, data).start([TRIAL, TRIAL])


def test_an_unequal_loop_would_be_noticed() -> None:
    """The comparison with a hand-written loop can fail: another seed gives other losses."""
    model, data = _model(), made_data()
    plan = plan_of([candidate(model, "set", "q_proj")])
    other = peft_run(copy.deepcopy(model), data, plan, replace(TRIAL, seed=9), steps=3)
    losses, _ = _trained(ReferenceEngine(plan, model, data), 3)
    assert losses != pytest.approx(other.losses, abs=1e-6)
    assert isinstance(get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["q_proj"])), PeftModel)
