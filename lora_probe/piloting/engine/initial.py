"""Where chance enters a trial: the first A and the dropout masks, keyed so that trials stay paired.

PEFT draws its matrices in the order of injection from one generator: the same seed gives the same module
another A in another target set. Here every draw has its own generator, seeded by what the draw is for, so
that two trials with the same seed start from the same A wherever both adapt a module, whoever else is trained
beside them.
"""

from __future__ import annotations

import hashlib
import math

import torch

__all__ = ["dropout_mask", "initial_a", "key"]


def key(*parts: object) -> int:
    """Return a seed of 63 bits that depends on every part, and on nothing else (not on the process)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_a(path: str, *, seed: int, rank: int, in_features: int) -> torch.Tensor:
    """Return the first A of the module at `path`: (rank, in_features), float32, on the CPU.

    Uniform in ±1/sqrt(in_features), which is what PEFT's ``kaiming_uniform_(a=sqrt(5))`` amounts to. Drawn
    row by row: the first rows of a higher rank are those of a lower one.
    """
    generator = torch.Generator().manual_seed(key("A", path, seed))
    bound = 1 / math.sqrt(in_features)
    return torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)


def dropout_mask(
    path: str,
    *,
    seed: int,
    step: int,
    micro_batch: int,
    shape: tuple[int, ...],
    probability: float,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return what the input of an adapter is multiplied with: 0 with `probability`, else 1/(1 - probability).

    `shape` is that of one trial's input, (rows, …, in_features). Equal on every call with the same arguments
    on the same sort of device.
    """
    generator = torch.Generator(device=device).manual_seed(key("dropout", path, seed, step, micro_batch))
    kept = torch.rand(shape, generator=generator, device=device) >= probability
    return kept.to(dtype).div_(1 - probability)
