"""Why the hub did not answer, in one sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe import catalog
from lora_probe.errors import HubError, ModelNotFound
from lora_probe.source.environment import endpoint
from lora_probe.text import printable

if TYPE_CHECKING:
    from lora_probe.errors import LoraProbeError

__all__ = ["explain", "forbidden_offline", "unreachable"]

_LONGEST_REASON = 160
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_OR_A_FOLDER = "or give a folder or a config.json"
_STATUS = {
    401: ("the hub does not accept your token", f"{_LOG_IN} again, or unset HF_TOKEN"),
    403: ("the hub forbids access", "check the permissions of your token"),
    429: ("the hub asks for fewer requests", f"wait some minutes, or {_LOG_IN}"),
}
_FIRST_SERVER_ERROR = 500


def explain(
    error: Exception, *, model: str, revision: str | None, token: str | bool | None
) -> LoraProbeError:
    """Return the sentence for what huggingface_hub raised; `token` as it was given to the request."""
    from huggingface_hub import errors

    if isinstance(error, errors.RepositoryNotFoundError):  # the base of GatedRepoError, too
        has_token = _has_token(token)
        gated = isinstance(error, errors.GatedRepoError)
        return _gated(model, has_token=has_token) if gated else _absent(model, has_token=has_token)
    if isinstance(error, errors.RevisionNotFoundError):
        problem = f"the hub's repository has no revision {revision or 'main'!r}"
        return ModelNotFound(model=model, problem=problem, advice="give a branch, a tag or a commit of it")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        advice = "scan the original model that it was made from"
        return ModelNotFound(model=model, problem="its hub repository has no config.json", advice=advice)
    if isinstance(_innermost(error), errors.FileMetadataError):
        problem = f"{endpoint()} does not answer like the hub"
        return HubError(model=model, problem=problem, advice="check HF_ENDPOINT and any proxy")
    if isinstance(error, UnicodeError):
        problem = "the token holds characters that no token has"
        return HubError(model=model, problem=problem, advice=f"{_LOG_IN} again")
    status = getattr(getattr(error, "response", None), "status_code", None)
    return unreachable(model, _reason(error)) if status is None else _refused(model, status)


def unreachable(model: str, reason: str) -> HubError:
    """Return the sentence for a hub that does not answer, or not in time."""
    return HubError(
        model=model,
        problem=f"not in the local cache or the catalogue, and {endpoint()} cannot be reached ({reason})",
        near=catalog.near(model),
        advice=f"check the connection, {_OR_A_FOLDER}",
    )


def forbidden_offline(model: str) -> HubError:
    """Return the sentence for a model that only the hub may have, while the network is forbidden."""
    return HubError(
        model=model,
        problem="not in the local cache or the catalogue, and HF_HUB_OFFLINE forbids the network",
        near=catalog.near(model),
        advice=f"unset HF_HUB_OFFLINE, {_OR_A_FOLDER}",
    )


def _gated(model: str, *, has_token: bool) -> HubError:
    page = f"{endpoint()}/{model}"
    if has_token:
        advice = f"ask for access at {page} with the account of your token"
        return HubError(
            model=model, problem="the model is gated, and your token has no access", advice=advice
        )
    return HubError(
        model=model, problem="the model is gated", advice=f"accept its terms at {page}, then {_LOG_IN}"
    )


def _absent(model: str, *, has_token: bool) -> ModelNotFound:
    problem = "no such model in the local cache, in the catalogue or on the hub"
    advice = "check the spelling" if has_token else f"check the spelling, and if it is private, {_LOG_IN}"
    return ModelNotFound(model=model, problem=problem, near=catalog.near(model), advice=advice)


def _refused(model: str, status: int) -> HubError:
    if status >= _FIRST_SERVER_ERROR:
        problem, advice = f"the hub has trouble (status {status})", "try again later"
    else:
        general = (f"the hub answered with status {status}", "check the id and HF_ENDPOINT")
        problem, advice = _STATUS.get(status, general)
    return HubError(model=model, problem=problem, advice=advice)


def _has_token(token: str | bool | None) -> bool:
    """Return whether a request with this setting carries a token."""
    from huggingface_hub import get_token

    return get_token() is not None if token in {None, True} else bool(token)


def _innermost(error: Exception) -> Exception:
    """Return the first cause, which names the socket's or the system's own trouble."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _reason(error: Exception) -> str:
    cause = _innermost(error)
    text = " ".join(str(cause).split())
    return printable(f"{type(cause).__name__}: {text}".rstrip(": "), limit=_LONGEST_REASON)
