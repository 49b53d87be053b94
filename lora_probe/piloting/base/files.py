"""The files of a checkpoint: found or fetched, never pickles, and what they hash to."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.errors import LoraProbeError
from lora_probe.piloting.errors import NoWeights
from lora_probe.source.environment import cache_folder, endpoint, offline
from lora_probe.source.files import file_names, is_file, read_bytes
from lora_probe.source.hub_errors import explain
from lora_probe.source.isolation import quiet
from lora_probe.source.local import is_pickle
from lora_probe.source.records import SourceKind
from lora_probe.source.tensors import INDEX, SINGLE, parse_index
from lora_probe.text import printable

if TYPE_CHECKING:
    from lora_probe.source import Located

__all__ = ["fingerprint", "weight_files", "weights_folder"]

_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_UNWANTED = ("*/*", "consolidated*", "*.fp16.*", "adapter_*")
"""Other forms of the same weights."""
_MAX_INDEX_BYTES = 64 * 2**20
_CHUNK = 2**22
_SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_folder(located: Located, *, token: str | bool | None, trust_remote_code: bool) -> Path:
    """Return the folder that holds the safetensors files of a model, fetched from the hub where need be.

    Raises:
        NoWeights: there are none, or none that can be had from here; says how to get them.
        HubError, ModelNotFound: the hub refused.

    """
    folder = located.folder
    if folder is not None and weight_files(folder):
        return folder
    if located.repository is None:
        raise _no_weights(located)
    if offline():
        raise NoWeights(
            model=located.model,
            problem=f"{_known_from(located)}, and HF_HUB_OFFLINE forbids the network",
            advice=_how_to_get(located.repository),
        )
    return _download(located, token=token, trust_remote_code=trust_remote_code)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of the model in `folder`; none where some of its shards are missing.

    A single file goes before an index that lies beside it, as transformers loads them.

    Raises:
        BadCheckpoint, UnreadableFile: its index cannot be read, or lies.

    """
    index = folder / INDEX
    if is_file(folder / SINGLE):
        return (folder / SINGLE,)
    if is_file(index):
        names = set(parse_index(read_bytes(index, limit=_MAX_INDEX_BYTES), where=str(index)).values())
        paths = tuple(folder / name for name in sorted(names))
        return paths if all(map(is_file, paths)) else ()
    return ()


def fingerprint(folder: Path) -> str:
    """Return a SHA-256 over the names, sizes and contents of config and weights.

    A file of the hub's cache whose name is the digest of its content is not read again.
    """
    digest = hashlib.sha256()
    for path in (folder / "config.json", *weight_files(folder)):
        real = path.resolve()
        content = real.name if _SHA256.fullmatch(real.name) else _digest(path)
        digest.update(f"{path.name}\0{path.stat().st_size}\0{content}\0".encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(located: Located, *, token: str | bool | None, trust_remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download

    assert located.repository is not None  # noqa: S101 - narrows the type
    try:
        with quiet("huggingface_hub"):
            text = snapshot_download(
                located.repository,
                revision=located.revision,
                token=token,
                cache_dir=cache_folder(),
                endpoint=endpoint(),
                allow_patterns=[*_WANTED, *(["*.py"] if trust_remote_code else [])],
                ignore_patterns=list(_UNWANTED),
            )
    except LoraProbeError:
        raise
    except Exception as error:  # a client of the network may raise anything
        refused = explain(error, model=located.model, revision=located.revision, token=token)
        if located.kind is SourceKind.CATALOGUE and isinstance(refused, ConnectionError):
            reason = printable(" ".join(str(error).split()) or type(error).__name__, limit=120)
            raise NoWeights(
                model=located.model,
                problem=f"{_known_from(located)}, and the hub cannot be reached ({reason})",
                advice=_how_to_get(located.repository),
            ) from error
        raise refused from error
    folder = Path(text)
    if not weight_files(folder):
        raise NoWeights(
            model=located.model,
            problem="its repository has no safetensors files, and pickled weights are never opened",
            advice="convert them to safetensors, or give a model that has them",
        )
    return folder


def _known_from(located: Located) -> str:
    where = "the catalogue" if located.kind is SourceKind.CATALOGUE else "its config"
    return f"it is known from {where} only, which is enough to scan but a pilot trains on its weights"


def _how_to_get(repository: str) -> str:
    return f"run `hf download {repository}` where there is a connection, or give a folder that holds them"


def _no_weights(located: Located) -> NoWeights:
    names = file_names(located.folder) if located.folder is not None else []
    if any(is_pickle(Path(name)) for name in names):
        problem, advice = (
            "its weights are pickled, and pickles are never opened",
            "convert them to safetensors",
        )
    elif INDEX in names:
        problem, advice = "some of the files that its index names are missing", "download them again"
    else:
        problem = "there is a config but no model.safetensors beside it, and a pilot trains on the weights"
        advice = "give the folder that holds the whole model"
    return NoWeights(model=located.model, problem=problem, advice=advice)
