"""From modules to roles, rankings, heat maps and proposals: pure records, compared with ``==``."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.records import DataFacts, ModelFacts
from lora_probe.scoring import RoleScore, Scores, Signal, SiteScore, propose
from lora_probe.scoring.heat import heat_map, heat_maps
from lora_probe.scoring.ranking import agreement, ranked_roles, signal_to_noise, signal_value

_Figures = tuple[float | None, float, float | None]


def _site(role: str, layer: int | None, figures: _Figures, *, added: int = 100) -> SiteScore:
    nfn, energy, consistent = figures
    return SiteScore(
        path=f"layers.{layer}.{role}",
        role=f"text:{role}",
        block=role.partition(".")[0],
        layer=layer,
        in_features=added // 2,
        out_features=added // 2,
        added_parameters=added,
        nfn=nfn,
        tokens=7,
        padding_masked=True,
        energy=energy,
        snr=None if consistent is None else signal_to_noise(consistent, energy),
        consistent_energy=consistent,
    )


def _roles(**figures: _Figures) -> tuple[RoleScore, ...]:
    """Return ranked roles of one module each, called ``mlp.NAME``."""
    sites = [_site(f"mlp.{name}", 0, each) for name, each in figures.items()]
    return ranked_roles(sites, {site.role: site.role.partition(":")[2] for site in sites})


def _scores(sites: list[SiteScore], **facts: Any) -> Scores:
    roles = ranked_roles(sites, {site.role: site.role.partition(":")[2] for site in sites})
    usual: dict[str, Any] = {
        "model": ModelFacts(model="acme/Tiny", architecture="Tiny", total_parameters=1000),
        "data": DataFacts(source="made"),
        "targets": "all-linear",
        "rank": 1,
        "scale": 2.0,
        "batches": 2,
        "batch_size": 4,
        "seed": 0,
        "tokens": 50,
        "loss": 2.0,
        "roles": roles,
        "agreement": agreement(roles),
    }
    return Scores(sites=tuple(sites), **{**usual, **facts})


def test_a_role_is_the_mean_and_the_sum_of_its_modules() -> None:
    """NFN is averaged; energies and parameters add up; the SNR is that of all gradients as one vector."""
    (role,) = ranked_roles(
        [_site("mlp.up", 0, (1.0, 3.0, 1.0)), _site("mlp.up", 1, (2.0, 5.0, 1.0), added=300)],
        {"text:mlp.up": "mlp.up"},
    )
    assert (role.role, role.targets, role.block, role.sites) == ("text:mlp.up", "mlp.up", "mlp", 2)
    assert (role.nfn, role.energy, role.consistent_energy) == (1.5, 8.0, 2.0)
    assert (role.added_parameters, role.energy_per_parameter) == (400, 0.02)
    assert role.snr == pytest.approx(2 / 6)
    assert role.energy * (role.snr or 0) / (1 + (role.snr or 0)) == pytest.approx(2)


def test_energies_rank_by_parameter_and_nfn_from_below() -> None:
    """A big module with more energy in all comes after a small one with more for each parameter."""
    sites = [
        _site("mlp.up", 0, (0.5, 9.0, 1.0), added=1000),
        _site("mlp.down", 0, (2.0, 2.0, 2.0), added=100),
    ]
    roles = {role.targets: role.places for role in ranked_roles(sites, {s.role: s.role[5:] for s in sites})}
    assert roles == {
        "mlp.down": {"nfn": 2, "energy": 1, "consistency": 1},
        "mlp.up": {"nfn": 1, "energy": 2, "consistency": 2},
    }


def test_a_missing_value_has_no_place() -> None:
    """A weight of zeros has no NFN and one micro-batch no consistency: no place, and no failure."""
    roles = _roles(a=(None, 3.0, None), b=(1.0, 2.0, None))
    assert {role.targets: role.places for role in roles} == {
        "mlp.a": {"nfn": None, "energy": 1, "consistency": None},
        "mlp.b": {"nfn": 1, "energy": 2, "consistency": None},
    }
    assert all(role.snr is None for role in roles)


def test_roles_are_contested_where_places_lie_far_apart() -> None:
    """First by NFN and last by energy is a disagreement; next to each other is none."""
    roles = _roles(a=(1.0, 1.0, 1.0), b=(2.0, 9.0, 9.0), c=(3.0, 8.0, 8.0), d=(4.0, 7.0, 7.0))
    assert {role.targets: role.contested for role in roles} == {
        "mlp.a": True,
        "mlp.b": False,
        "mlp.c": False,
        "mlp.d": False,
    }
    assert agreement(roles) == pytest.approx(
        {"nfn~energy": -0.2, "nfn~consistency": -0.2, "energy~consistency": 1.0}
    )


def test_too_few_roles_agree_on_nothing() -> None:
    """Two rankings of two roles are equal or opposite whatever they measure: nothing is flagged."""
    roles = _roles(a=(1.0, 1.0, 1.0), b=(2.0, 9.0, 9.0))
    assert not any(role.contested for role in roles)
    assert agreement(roles) == {}


_POSITIVE = st.floats(1e-6, 1e6)


@given(st.lists(st.tuples(_POSITIVE, _POSITIVE, st.floats(0, 1)), min_size=1, max_size=9))
def test_every_ranking_is_a_permutation(figures: list[tuple[float, float, float]]) -> None:
    """Each signal gives the places 1 to n, each once, in the order of its values."""
    sites = [
        _site(f"mlp.r{i}", 0, (nfn, energy, energy * part)) for i, (nfn, energy, part) in enumerate(figures)
    ]
    roles = ranked_roles(sites, {})
    for signal in Signal:
        ordered = sorted(roles, key=lambda role, by=signal: role.places[by] or 0)  # type: ignore[misc]
        assert [role.places[signal] for role in ordered] == list(range(1, len(figures) + 1))
        values = [signal_value(role, signal) or 0 for role in ordered]
        assert values == sorted(values, reverse=signal is not Signal.NFN)


def test_a_heat_map_is_layer_by_role() -> None:
    """Rows are roles in the order of the model, columns layers; two modules in one cell are averaged."""
    sites = [
        _site("attention.q", 0, (1.0, 4.0, 1.0)),
        _site("mlp.experts", 2, (2.0, 1.0, 1.0)),
        _site("mlp.experts", 2, (4.0, 3.0, 1.0)),
        _site("head.lm_head", None, (9.0, 9.0, 9.0)),
    ]
    found = heat_map(_scores(sites), Signal.NFN)
    assert (found.tower, found.roles, found.layers) == ("text", ("attention.q", "mlp.experts"), (0, 2))
    assert found.values == ((1.0, None), (None, 3.0))
    assert heat_map(_scores(sites), Signal.ENERGY).values == ((0.04, None), (None, 0.02))
    assert [each.signal for each in heat_maps(_scores(sites))] == list(Signal)


def test_the_strongest_colour_is_the_first_to_adapt() -> None:
    """The lowest NFN and the highest energy are 1; energies are compared by orders of magnitude."""
    sites = [_site("mlp.up", layer, (10.0**layer, 10.0**layer, 0.0)) for layer in range(3)]
    scores = _scores(sites)
    norms, energies, nothing = (heat_map(scores, signal) for signal in Signal)
    assert [norms.share(value) for value in norms.values[0]] == pytest.approx([1, 90 / 99, 0])
    assert [energies.share(value) for value in energies.values[0]] == pytest.approx([0, 0.5, 1])
    assert [nothing.share(value) for value in nothing.values[0]] == [0, 0, 0]
    assert norms.share(None) is None


def test_proposals_say_which_signal_favours_them() -> None:
    """First what all signals put first, then what each does; no set twice, and never all roles."""
    figures = {"a": (4.0, 9.0, 9.0), "b": (3.0, 8.0, 7.0), "c": (1.0, 7.0, 8.0), "d": (2.0, 1.0, 1.0)}
    sites = [_site(f"mlp.{name}", 0, each) for name, each in figures.items()]
    found = propose(_scores(sites), 10)
    assert found[0].reason == "the third of the roles that the three signals together put first"
    texts = [frozenset(each.targets.split("+")) for each in found]
    assert frozenset({"mlp.c", "mlp.d"}) in texts
    assert frozenset({"mlp.a", "mlp.b"}) in texts
    assert len(set(texts)) == len(texts)
    assert all(len(text) < len(figures) for text in texts)
    assert propose(_scores(sites), 1) == found[:1]
    by_norm = next(each for each in found if set(each.targets.split("+")) == {"mlp.c", "mlp.d"})
    assert by_norm.reason == "the third of the roles that have the lowest NFN"


def test_one_role_proposes_nothing() -> None:
    """Of one role there is nothing to choose."""
    assert propose(_scores([_site("mlp.up", 0, (1.0, 1.0, 1.0))])) == ()


@pytest.mark.parametrize("number", [0, -1, 101, 2.5, True])
def test_a_number_of_proposals_is_checked(number: Any) -> None:
    """Nothing but a whole number from 1 to 100 is one."""
    with pytest.raises(BadPilotOption, match="n must be a whole number from 1 to 100"):
        propose(_scores([_site("mlp.up", 0, (1.0, 1.0, 1.0))]), number)


def test_infinity_survives_json() -> None:
    """Gradients that are all equal have an infinite SNR, which JSON holds as a text."""
    scores = _scores([_site("mlp.up", 0, (1.0, 1.0, 1.0))])
    assert scores.sites[0].snr == math.inf
    assert scores.to_dict()["sites"][0]["snr"] == "inf"
    assert '"snr": "inf"' in scores.to_json()
