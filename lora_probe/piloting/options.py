"""What a pilot can be asked for, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

from lora_probe.errors import UnknownChoice
from lora_probe.piloting.cluster import Cluster
from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.ranges import check_protocol, check_training, one_of, whole, within
from lora_probe.piloting.records import Protocol, Task, Training
from lora_probe.piloting.shards import ALONE, Shard, read_shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ENGINES", "PilotOptions", "Settings", "SourceOptions", "read_options"]

ENGINES = ("auto", "stacked", "reference", "ray")
RAY = "ray"
"""No engine but a place: the workers of a cluster choose theirs as this process would."""


class SourceOptions(TypedDict, total=False):
    """Where a model and data come from, and how they are read: options that commands share."""

    # Model
    task: str
    source: str
    revision: str
    token: str | bool
    trust_remote_code: bool
    device: str
    dtype: str
    quantization: str
    device_map: str
    # Data
    columns: Mapping[str, str]
    train_on: str
    data_name: str
    data_split: str
    data_revision: str
    max_examples: int
    text_unit: str


class PilotOptions(SourceOptions, total=False):
    """Options of :func:`lora_probe.pilot`; what is left out has the default of its record.

    The fields of `Training` and `Protocol` by their names, and what says where the model and the data come
    from, how large the adapters are, and how the work is done.
    """

    # Training
    steps: int
    batch_size: int
    accumulation: int
    max_length: int
    packing: bool
    warmup: float
    schedule: str
    weight_decay: float
    betas: tuple[float, float]
    epsilon: float
    clip: float
    dropout: float
    use_rslora: bool
    use_dora: bool
    gradient_checkpointing: bool
    data_seed: int
    # Protocol
    learning_rate: float
    grid: Sequence[float]
    extensions: int
    full_learning_rate: float
    rungs: Sequence[float]
    keep: float
    noise_band: float
    seeds: Sequence[int]
    rerun: bool
    margin: float
    confidence: float
    resamples: int
    equal: str
    tuning_items: int
    test_items: int
    evaluations: int
    accuracy: bool
    # Arms
    propose: int
    """Sets that scores propose beside the candidates, at most."""
    full: bool
    rank: int
    max_parameters: int | str
    alpha_over_rank: float
    lora: Mapping[str, Any]
    """More arguments of every `LoraConfig`: bias, modules_to_save, …"""
    # Data
    retention: str
    # Work
    engine: str
    wave: int
    shard: str
    ray_address: str
    ray_gpus: float
    ray_cpus: float
    save_adapters: bool
    verify: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The options of a pilot, by what they concern."""

    training: Training
    protocol: Protocol
    max_length: int | None
    """None where the model's own limit may lower the default."""
    task: Task | None
    arms: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    propose: int = 0
    retention: str | None = None
    accuracy: bool | None = None
    """None for what the task says: classifications count right predictions."""
    engine: str = "auto"
    wave: int | None = None
    shard: Shard = ALONE
    cluster: Cluster | None = None
    save_adapters: bool = False
    verify: bool = False


def read_options(options: Mapping[str, Any]) -> Settings:
    """Return the options that were given, sorted and checked; None counts as not given.

    Raises:
        BadPilotOption: a number is out of its range.
        UnknownChoice: there is no such option, or no such word for it.

    """
    known = PilotOptions.__annotations__
    for name in options:
        if name not in known:
            raise UnknownChoice(option="an option", value=name, known=tuple(known))
    given = {name: value for name, value in options.items() if value is not None}
    engine = given.get("engine", "auto")
    if engine != RAY:
        _refuse_ray_options(given)
    one_of(engine, ENGINES, "engine")
    task = given.get("task")
    if task is not None:
        one_of(task, tuple(map(str, Task)), "task")
    return Settings(
        training=_training(given),
        protocol=_protocol(given),
        max_length=given.get("max_length"),
        task=None if task is None else Task(task),
        arms={
            **_only(given, ("equal", "full", "rank", "max_parameters", "alpha_over_rank", "dropout")),
            **_only(given, ("use_rslora", "use_dora")),
            **given.get("lora", {}),
        },
        model=_only(given, ("source", "revision", "token", "trust_remote_code")),
        base=_only(given, ("device", "dtype", "quantization", "device_map")),
        data={
            **_only(
                given, ("columns", "train_on", "max_examples", "text_unit", "tuning_items", "test_items")
            ),
            **{
                name.removeprefix("data_"): given[name]
                for name in ("data_name", "data_split", "data_revision")
                if name in given
            },
            **_only(given, ("token",)),
        },
        propose=whole(given["propose"], "propose") if given.get("propose") else 0,
        retention=given.get("retention"),
        accuracy=given.get("accuracy"),
        engine="auto" if engine == RAY else engine,
        cluster=_cluster(given) if engine == RAY else None,
        wave=whole(given["wave"], "wave") if "wave" in given else None,
        shard=read_shard(str(given["shard"])) if "shard" in given else ALONE,
        save_adapters=bool(given.get("save_adapters")),
        verify=bool(given.get("verify")),
    )


def _cluster(given: Mapping[str, Any]) -> Cluster:
    for name in ("shard", "verify"):
        if given.get(name):
            raise BadPilotOption(option=name, value=given[name], problem="does not go with the engine ray")
    for name in ("ray_gpus", "ray_cpus"):
        if name in given:
            within(given[name], name, "0 or more", lambda value: value >= 0)
    if given.get("ray_cpus") == 0 and not given.get("ray_gpus"):
        raise BadPilotOption(option="ray_cpus", value=0, problem="must be greater than 0 without ray_gpus")
    return Cluster(address=given.get("ray_address"), gpus=given.get("ray_gpus"), cpus=given.get("ray_cpus"))


def _refuse_ray_options(given: Mapping[str, Any]) -> None:
    for name in ("ray_address", "ray_gpus", "ray_cpus"):
        if name in given:
            raise BadPilotOption(option=name, value=given[name], problem="goes with the engine ray only")


def _training(given: Mapping[str, Any]) -> Training:
    training = Training(**_only(given, [item.name for item in fields(Training)]))
    check_training(training)
    return training


def _protocol(given: Mapping[str, Any]) -> Protocol:
    values = _only(given, [item.name for item in fields(Protocol)])
    for name in ("grid", "rungs", "seeds"):
        if name in values:
            values[name] = tuple(values[name])
    protocol = Protocol(**values)
    check_protocol(protocol)
    return protocol


def _only(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}
