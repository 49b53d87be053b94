"""Random LoRA settings for one model: what people write, and what they get wrong."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Adaptable, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_probe.peft_rules import Inventory

__all__ = ["cases"]

Fields = dict[str, Any]
"""Arguments of `LoraSettings`; not the record itself, which refuses some of them."""

_RANKS = (1, 2, 3, 4, 8, 16, 64, 200)
_OLD_EXPERT_NAMES = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
_MISTAKES = ("q_porj", "self_attn", "mlp", "norm", "layers", "0", "proj", "experts", "")


class _Sampler:
    """Draws from what one model offers."""

    def __init__(self, inventory: Inventory, random: Random) -> None:
        self._random = random
        self._inventory = inventory
        graph = inventory.graph
        self._paths = [path for path in inventory.paths if path in inventory.by_module]
        self._leaves = sorted({path.rpartition(".")[2] for path in self._paths})
        self._packed = [site.path for site in graph.sites if site.kind is Kind.PACKED_ATTENTION]
        self._weights = [site.parameter for site in graph.sites if site.adaptable is Adaptable.PARAMETER]
        self._embeddings = [path for path in (graph.input_embedding, graph.output_embedding) if path]
        self._layers = sorted({site.layer for site in graph.sites if site.layer is not None})

    def case(self) -> Fields:
        """Return one case."""
        fields: Fields = {"rank": self._random.choice(_RANKS)}
        if self._weights and self._chance(0.35):
            fields["target_parameters"] = self._parameter_names()
            fields["target_modules"] = self._random.choice([(), (), None, self._names()])
        else:
            fields["target_modules"] = self._target()
        self._add_options(fields)
        return fields

    def _target(self) -> tuple[str, ...] | str | None:
        choices = [
            (40, self._names),
            (8, self._dotted),
            (4, self._many_paths),
            (10, lambda: "all-linear"),
            (10, self._expression),
            (4, lambda: None),
            (4, lambda: self._random.choice(self._leaves)),
            (6, self._mistaken),
            (6, lambda: tuple(self._some(self._embeddings, 2)) + self._names()),
        ]
        if any(site.kind is Kind.EXPERT_PARAMETER for site in self._inventory.graph.sites):
            choices.append((20, lambda: tuple(self._some(_OLD_EXPERT_NAMES, 6))))
        if self._packed:
            choices.append(
                (15, lambda: tuple(path.rpartition(".")[2] for path in self._some(self._packed, 1)))
            )
        weights, makers = zip(*choices, strict=True)
        return self._random.choices(makers, weights)[0]()

    def _names(self) -> tuple[str, ...]:
        return tuple(self._some(self._leaves, 4))

    def _dotted(self) -> tuple[str, ...]:
        return tuple(self._ending(path) for path in self._some(self._paths, 3))

    def _many_paths(self) -> tuple[str, ...]:
        return tuple(self._random.sample(self._paths, min(len(self._paths), 30)))

    def _expression(self) -> str:
        names = "|".join(self._names())
        start = self._random.choice(
            [r".*\.", r".*", r".*\.[0-2]\..*", r"model\..*\.", r".*(layers|block)\.\d+\..*"]
        )
        return f"{start}({names})"

    def _mistaken(self) -> tuple[str, ...]:
        return (*self._names(), self._random.choice(_MISTAKES))

    def _parameter_names(self) -> tuple[str, ...]:
        names = self._some(self._weights, 3)
        return tuple(self._ending(name) if self._chance(0.7) else name.rpartition(".")[2] for name in names)

    def _add_options(self, fields: Fields) -> None:
        random, names = self._random, [path.rpartition(".")[2] for path in self._embeddings]
        rows = tuple(random.sample(range(50), 3))
        layers = self._layers or [0]
        options: list[tuple[float, str, Callable[[], Any]]] = [
            (0.25, "use_dora", lambda: True),
            (0.15, "use_rslora", lambda: True),
            (0.30, "bias", lambda: random.choice(["all", "lora_only"])),
            (0.10, "lora_bias", lambda: True),
            (0.10, "dropout", lambda: 0.1),
            (
                0.20,
                "layers_to_transform",
                lambda: random.choice([tuple(self._some(layers, 5)), layers[-1], ()]),
            ),
            (0.06, "layers_pattern", lambda: random.choice(["layers", "h", ("layers", "block"), "x"])),
            (0.15, "exclude_modules", self._exclusion),
            (0.15, "modules_to_save", lambda: tuple(self._some([*names, *self._leaves, "head", "norm"], 2))),
            (0.15, "ensure_weight_tying", lambda: True),
            (0.10, "trainable_token_indices", lambda: random.choice([rows, dict.fromkeys(names, rows)])),
            (0.15, "rank_pattern", self._rank_pattern),
        ]
        fields.update({name: make() for probability, name, make in options if self._chance(probability)})

    def _exclusion(self) -> tuple[str, ...] | str:
        return self._random.choice([self._names, self._expression, self._dotted])()

    def _rank_pattern(self) -> dict[str, int]:
        keys = [self._random.choice(self._leaves), self._ending(self._random.choice(self._paths))]
        return {key: self._random.choice(_RANKS) for key in keys}

    def _ending(self, path: str) -> str:
        """Return the last one to four segments of `path`."""
        return ".".join(path.split(".")[-self._random.randint(1, 4) :])

    def _some(self, values: Sequence[Any], most: int) -> list[Any]:
        most = min(most, len(values))
        return self._random.sample(list(values), self._random.randint(1, most)) if most else []

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def cases(inventory: Inventory, *, seed: str, count: int) -> Iterator[Fields]:
    """Yield `count` cases for one model, the same for the same seed."""
    sampler = _Sampler(inventory, Random(seed))  # noqa: S311 - not for secrets
    for _ in range(count):
        yield sampler.case()
