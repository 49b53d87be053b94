"""Hypothesis strategies that break configs and files in the ways of bad exporters and of bad people."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from lora_probe import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["as_json", "broken_bytes", "broken_configs", "broken_documents"]

_HOSTILE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 10**5, 10**9, 2**31, 2**63, 10**30, -(10**9),
    0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"),
    "", "x", "1", "None", "auto", "../../etc/passwd", "owner/repository", "\0", "\x1b[31m", "é" * 300, "gelu",
    "llama", "bert", "LlamaForCausalLM", "torch.float16", "float8_e4m3fn", "full_attention",
    [], [0], [1, 2], [None], ["x"], [[]], [-1] * 50, [10**9], [1.5], list(range(2000)),
    {}, {"x": 1}, {"model_type": "llama"}, {"0": "x"}, {"": {}}, {"rope_type": "yarn"}, {"__float__": "NaN"},
]  # fmt: skip
"""Values that some field, somewhere, will not expect."""


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield container and key of every value in a document, the outermost first."""
    keys = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], (dict, list)):
            yield from _places(document[key])


def _mutate(draw: Callable[..., Any], document: dict[str, Any], donor: dict[str, Any]) -> None:
    """Change one thing in `document`, in place."""
    places = list(_places(document))
    if not places:
        document["x"] = draw(st.sampled_from(_HOSTILE))
        return
    owner, key = draw(st.sampled_from(places))
    act = draw(st.sampled_from(["other", "other", "other", "delete", "swap", "graft", "rename"]))
    if act == "swap":
        other, name = draw(st.sampled_from(places))
        owner[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(owner[key])
    elif act == "delete":
        del owner[key]
    elif act == "rename" and isinstance(owner, dict):
        owner[draw(st.sampled_from(sorted(donor)))] = owner.pop(key)
    elif act == "graft":
        name = draw(st.sampled_from(sorted(donor)))
        owner[name if isinstance(owner, dict) else key] = copy.deepcopy(donor[name])
    else:
        owner[key] = _other_value(draw, document, owner[key])


def _other_value(draw: Callable[..., Any], document: dict[str, Any], value: Any) -> Any:
    """Return what may stand in the place of `value`: hostile, scaled, the document itself, or nested."""
    act = draw(st.sampled_from(["set", "scale", "nest", "deepen"]))
    if act == "scale" and isinstance(value, (int, float)):
        return value * draw(st.sampled_from([-1, 0, 2, 3, 1000, 10**6, 0.5]))
    if act == "nest":
        return copy.deepcopy(document)
    if act == "deepen":
        for _ in range(draw(st.sampled_from([1, 5, 40]))):
            value = {"text_config": value} if draw(st.booleans()) else [value]
        return value
    return copy.deepcopy(draw(st.sampled_from(_HOSTILE)))


@st.composite
def broken_configs(draw: Callable[..., Any]) -> dict[str, Any]:
    """Draw a published config with one to four things changed."""
    entries = catalog.entries()
    config = copy.deepcopy(draw(st.sampled_from(entries)).config)
    donor = draw(st.sampled_from(entries)).config
    for _ in range(draw(st.integers(1, 4))):
        _mutate(draw, config, donor)
    return config


@st.composite
def broken_documents(draw: Callable[..., Any], document: dict[str, Any]) -> dict[str, Any]:
    """Draw any JSON object with one to three things changed."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        _mutate(draw, changed, document)
    return changed


@st.composite
def broken_bytes(draw: Callable[..., Any], content: bytes) -> bytes:
    """Draw `content` cut, extended, or with some bytes changed."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        act = draw(st.sampled_from(["cut", "flip", "insert", "remove"]))
        if act == "cut":
            del data[at:]
        elif act == "flip" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif act == "insert":
            data[at:at] = draw(
                st.sampled_from([b"\0", b"{", b"[" * 99, b'"', b"9" * 20, b"\xff\xfe", b",", b"-"])
            )
        else:
            del data[at : at + draw(st.integers(1, 9))]
    return bytes(data)


def as_json(document: Any) -> bytes:
    """Write a document as exporters do: with NaN and Infinity where they occur."""
    return json.dumps(document).encode()
