"""Why a dataset id gave no rows, in one sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.errors import DatasetUnavailable
from lora_probe.source.environment import endpoint, offline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.data.examples import DataOptions

__all__ = ["dataset_error"]

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_LONGEST_REASON = 200
_NETWORK = ("httpx", "httpcore", "huggingface_hub.errors")
"""Modules of the errors that speak of the network."""


def dataset_error(error: Exception, *, dataset: str, options: DataOptions) -> DatasetUnavailable:
    """Return the sentence for what the `datasets` library raised."""
    problem, advice = _told(error, dataset, options)
    return DatasetUnavailable(dataset=dataset, problem=problem, advice=advice)


def _told(error: Exception, dataset: str, options: DataOptions) -> tuple[str, str]:
    from huggingface_hub import errors

    chain = tuple(_chain(error))
    kinds = {kind for each in chain for kind in type(each).__mro__}
    if errors.GatedRepoError in kinds:
        page = f"{endpoint()}/datasets/{dataset}"
        return "it is gated and your account has no access", f"ask for access at {page} and {_LOG_IN}"
    if offline():
        return "it is not in the cache, and HF_HUB_OFFLINE forbids the network", "unset it, or give files"
    if errors.RevisionNotFoundError in kinds:
        return f"it has no revision {options.revision!r}", "give a branch, a tag or a commit of it"
    if errors.RepositoryNotFoundError in kinds or "DatasetNotFoundError" in {kind.__name__ for kind in kinds}:
        return "no file or folder here has that name, nor any dataset on the hub", (
            f"check its spelling, or {_LOG_IN} if it is private"
        )
    return _content(error, chain)


def _content(error: Exception, chain: tuple[BaseException, ...]) -> tuple[str, str]:
    """Return the sentence for a dataset that may be there, but cannot be read."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = (" ".join(str(cause).split()) or type(cause).__name__)[:_LONGEST_REASON]
    if "scripts are no longer supported" in str(error):
        return "it is made by a script, and scripts are never run", "give a dataset of plain files"
    if "onfig" in str(error) and isinstance(error, ValueError):
        told = " ".join(str(error).partition("Example of usage")[0].split()).rstrip(".")
        return told[:_LONGEST_REASON], "name one of its configurations with --data-name"
    network = next((each for each in reversed(chain) if type(each).__module__.startswith(_NETWORK)), None)
    if network is not None or isinstance(error, ConnectionError):
        told = " ".join(str(network or cause).split())[:_LONGEST_REASON]
        return f"{endpoint()} does not give it ({told})", "check the connection, or give files"
    if isinstance(error, FileNotFoundError):
        return "it holds no files of a known format", "give files of one"
    return f"it cannot be read ({reason})", "give files instead"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, down to the first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
