"""Checkpoints: tensors in safetensors files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import UnwritableRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

__all__ = ["read_checkpoint", "remove_others", "write_bytes", "write_checkpoint"]

_HALF = ".half"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` to `path`, so that a file of that name is complete even after a loss of power.

    Raises:
        UnwritableRun: the disk is full or gone; nothing of that name was left behind.

    """
    from safetensors.torch import save

    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def read_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors at `path`, on the CPU; None where the file is gone or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    return tensors


def remove_others(folder: Path, *, prefix: str, keep: Iterable[str]) -> None:
    """Remove the files in `folder` whose names start with `prefix`, but for those to keep."""
    kept = set(keep)
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(prefix) and path.name not in kept:
                path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside its place, bring it to the disk, and move it there in one step.

    Raises:
        UnwritableRun: as :func:`write_checkpoint`.

    """
    half = path.with_name(f"{path.name}.{os.getpid()}{_HALF}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with half.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        except BaseException:
            with suppress(OSError):
                half.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UnwritableRun(path=str(path), error=error) from error


def _sync_folder(folder: Path) -> None:
    """Bring a folder's own entries to the disk, where the system lets a folder be opened."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
