"""What the environment says about the hub, read when it is needed and in huggingface_hub's own words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lora_probe.errors import HubError

__all__ = ["cache_folder", "endpoint", "offline", "seconds"]

_DEFAULT_ENDPOINT = "https://huggingface.co"
_DEFAULT_SECONDS = 10
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


def cache_folder() -> Path:
    """Return the folder of the hub's cache as the environment says now, in huggingface_hub's order."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    # Not Path.expanduser, which raises where the user has no home.
    return Path(os.path.expandvars(os.path.expanduser(given)))  # noqa: PTH111


def endpoint() -> str:
    """Return the hub's address as the environment says now."""
    return (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")


def offline() -> bool:
    """Return whether the environment, now or when huggingface_hub was loaded, forbids the network."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    loaded = sys.modules.get("huggingface_hub.constants")
    return said.upper() in _TRUE or bool(loaded and loaded.HF_HUB_OFFLINE)


def seconds(name: str) -> int:
    """Return the wait that the environment sets for one answer, as huggingface_hub reads it.

    Raises:
        HubError: it is no whole number.

    """
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        problem = f"{name} must be a whole number of seconds, got {text!r}"
        raise HubError(model="huggingface_hub", problem=problem, advice="change it or unset it")
    return int(text or 0) or _DEFAULT_SECONDS
