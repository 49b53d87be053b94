"""Small graphs written by hand, for tests of what is done with a graph."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lora_probe.graph import Adaptable, Kind, ModuleGraph, Note, Site, Uncovered

LAYERS = 4


def make_site(path: str, in_features: int, out_features: int, **facts: Any) -> Site:
    """Return a site of a text tower; `facts` override what a plain linear layer would have."""
    kind = facts.get("kind", Kind.LINEAR)
    experts = facts.get("experts", 1)
    bare = kind in {Kind.EXPERT_PARAMETER, Kind.MATRIX_PARAMETER}
    defaults: dict[str, Any] = {
        "path": path.rpartition(".")[0] if bare else path,
        "parameter": path if bare else f"{path}.weight",
        "kind": kind,
        "tower": "text",
        "block": "mlp",
        "part": path.rpartition(".")[2],
        "layer": next((int(part) for part in path.split(".") if part.isdigit()), None),
        "parameters": in_features * out_features * experts,
        "adaptable": Adaptable.PARAMETER if bare else Adaptable.MODULE,
    }
    return Site(in_features=in_features, out_features=out_features, **{**defaults, **facts})


def make_graph(sites: list[Site], uncovered: list[Uncovered] | None = None, **facts: Any) -> ModuleGraph:
    """Return a graph whose total is what its parts add up to."""
    uncovered = uncovered or []
    total = sum(item.parameters for item in [*sites, *uncovered])
    defaults: dict[str, Any] = {
        "model": "acme/Tiny-1B",
        "source": "catalogue",
        "architecture": "TinyForCausalLM",
        "model_type": "tiny",
        "total_parameters": total,
        "dtype": "bfloat16",
    }
    return ModuleGraph(sites=tuple(sites), uncovered=tuple(uncovered), **{**defaults, **facts})


def tiny_graph() -> ModuleGraph:
    """Return a tied language model with experts in all but its first layer, and a small vision tower."""
    sites = [make_site("model.embed_tokens", 1000, 64, kind=Kind.EMBEDDING, block="embedding", part="tokens")]
    uncovered = []
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        sites += [
            make_site(f"{stem}.self_attn.{part}_proj", 64, out, block="attention", part=part)
            for part, out in (("q", 64), ("k", 16), ("v", 16), ("o", 64))
        ]
        if layer:
            experts: dict[str, Any] = {"kind": Kind.EXPERT_PARAMETER, "block": "experts", "experts": 8}
            sites += [
                make_site(
                    f"{stem}.mlp.gate", 64, 8, kind=Kind.MATRIX_PARAMETER, block="router", part="router"
                ),
                make_site(f"{stem}.mlp.experts.gate_up_proj", 64, 96, part="gate_up", **experts),
                make_site(f"{stem}.mlp.experts.down_proj", 48, 64, part="down", **experts),
            ]
        else:
            sites += [
                make_site(f"{stem}.mlp.up_proj", 64, 192, part="up"),
                make_site(f"{stem}.mlp.down_proj", 192, 64, part="down"),
            ]
        uncovered.append(Uncovered(parameter=f"{stem}.norm.weight", shape=(64,), parameters=64))
    sites += [
        make_site("vision.patch", 588, 32, kind=Kind.CONV, tower="vision", block="conv", part="patch"),
        make_site("vision.layers.0.attn.qkv", 32, 96, tower="vision", block="attention", part="qkv"),
        make_site(
            "lm_head", 64, 1000, block="head", part="lm_head", parameters=0,
            tied_to="model.embed_tokens.weight",
        ),
    ]  # fmt: skip
    notes = (Note(code="tied-embeddings", message="lm_head shares its weight with model.embed_tokens."),)
    return make_graph(sites, uncovered, model="acme/Tiny-MoE", notes=notes)


@st.composite
def graphs(draw: st.DrawFn) -> ModuleGraph:
    """Draw graphs with repeated layers, holes, tied weights and modules that hold several weights."""
    words = st.sampled_from(
        ["model", "layers", "experts", "0", "1", "2", "7", "q", "w\x1b[31m", "a|b", "<i>"]
    )
    names = draw(st.lists(st.lists(words, max_size=4).map(".".join), unique=True, max_size=24))
    sites = []
    for name in names:
        size = st.sampled_from([1, 2, 64])
        kind = draw(st.sampled_from(list(Kind)))
        tied = draw(st.booleans()) and bool(sites)
        site = make_site(
            f"{name}.{kind}" if kind is Kind.EXPERT_PARAMETER else name,
            draw(size),
            draw(size),
            kind=kind,
            experts=draw(size) if kind is Kind.EXPERT_PARAMETER else 1,
            tower=draw(st.sampled_from(["text", "vision"])),
            block=draw(st.sampled_from(["attention", "mlp", "other"])),
            part=draw(st.sampled_from(["q", "k", "|x|"])),
            adaptable=draw(st.sampled_from([None, *Adaptable])),
            **({"tied_to": sites[0].parameter, "parameters": 0} if tied else {}),
        )
        if all(site.parameter != other.parameter for other in sites):
            sites.append(site)
    loose = [Uncovered(parameter="norm", shape=(3,), parameters=3)] if draw(st.booleans()) else []
    return make_graph(sites, loose)
