"""Ask the hub for a config, through huggingface_hub's own client and cache."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lora_probe.deadline import DeadlinePassed, run_within
from lora_probe.errors import BadConfig, LoraProbeError
from lora_probe.graph import Note
from lora_probe.source.config_file import MAX_BYTES, read_config
from lora_probe.source.environment import cache_folder, endpoint, offline, seconds
from lora_probe.source.hub_errors import explain, forbidden_offline, unreachable
from lora_probe.source.isolation import quiet
from lora_probe.source.records import Located, SourceKind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_SECONDS", "ask", "locate_on_hub"]

MAX_SECONDS = 25.0
"""Longest wait for the hub, retries and redirects included."""
_RESOLVED = re.compile(r"^https?://[^/]+/(?P<repository>[^/]+/[^/]+)/resolve/")
_Answer = TypeVar("_Answer")


def locate_on_hub(model: str, *, revision: str | None, token: str | bool | None) -> Located:
    """Fetch ``config.json`` of a hub repository into the local cache, and return it.

    Raises:
        ModelNotFound: there is no such repository, revision or file, or none that this token may see.
        HubError: access is refused, or the hub cannot be reached; says what to do.
        BadConfig: what the repository holds is no config.

    """
    request = partial(_fetch, model, revision=revision, token=token)
    path, moved_to = ask(request, model=model, revision=revision, token=token)
    try:
        config = read_config(path)
    except BadConfig as error:
        problem = f"{error.problem} (if the download was damaged, delete the file and try again)"
        raise BadConfig(where=error.where, problem=problem) from error
    return Located(
        model=model,
        kind=SourceKind.HUB,
        detail=path.parent.name,
        config=config,
        repository=moved_to or model,
        revision=path.parent.name,
        folder=path.parent,
        notes=_renamed(model, moved_to),
    )


def ask(
    request: Callable[[], _Answer], *, model: str, revision: str | None, token: str | bool | None
) -> _Answer:
    """Return what `request` gets from the hub; whatever goes wrong on the way becomes one sentence.

    Raises:
        ModelNotFound, HubError: as :func:`locate_on_hub`.

    """
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        seconds(name)  # huggingface_hub itself would fail while it is imported
    if offline():
        raise forbidden_offline(model)
    try:
        with quiet("huggingface_hub"):
            return run_within(MAX_SECONDS, request)
    except DeadlinePassed:
        raise unreachable(model, f"no complete answer within {MAX_SECONDS:g} s") from None
    except LoraProbeError:
        raise
    except Exception as error:  # a client of the network may raise anything
        raise explain(error, model=model, revision=revision, token=token) from error


def _fetch(model: str, *, revision: str | None, token: str | bool | None) -> tuple[Path, str | None]:
    """Return the path of the downloaded file, and the repository's new name where it has moved."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # One look without the client's retries: it fails within seconds where the download would back off for
    # half a minute, and it says how long the file is before anything is stored.
    url = hf_hub_url(model, "config.json", revision=revision, endpoint=endpoint())
    facts = get_hf_file_metadata(
        url, token=token, timeout=seconds("HF_HUB_ETAG_TIMEOUT"), endpoint=endpoint()
    )
    if facts.size is not None and facts.size > MAX_BYTES:
        problem = f"it is longer than {MAX_BYTES // 2**20} MiB, no config.json is"
        raise BadConfig(where=f"{model}/config.json on the hub", problem=problem)
    path = hf_hub_download(
        model,
        "config.json",
        revision=revision,
        token=token,
        cache_dir=cache_folder(),
        endpoint=endpoint(),
        etag_timeout=seconds("HF_HUB_ETAG_TIMEOUT"),
    )
    found = _RESOLVED.match(facts.location)
    moved = found is not None and found["repository"] != model
    return Path(path), found["repository"] if found and moved else None


def _renamed(model: str, moved_to: str | None) -> tuple[Note, ...]:
    if moved_to is None:
        return ()
    return (Note(code="renamed", message=f"the hub now calls {model} {moved_to}"),)
