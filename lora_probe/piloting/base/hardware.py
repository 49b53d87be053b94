"""Which device a pilot runs on, and in which number format."""

from __future__ import annotations

import re
import time
from importlib import import_module
from typing import TYPE_CHECKING

from lora_probe.errors import UnknownChoice
from lora_probe.piloting.errors import MissingLibrary, NoDevice

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "QUANTIZATIONS", "choose_device", "choose_dtype", "require_quantization"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("4bit", "8bit")
_PROBE, _TIMES = 256, 4
"""Width of the square matrices that are multiplied to time a format, and how often."""
_WORTH_A_WORD = 1.5
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?", re.ASCII)


def choose_device(text: str) -> torch.device:
    """Return the device that is asked for, with its number; ``auto`` is the first GPU, else the CPU.

    Raises:
        NoDevice: this machine, or the installed torch, does not have it.

    """
    import torch

    if not _DEVICE.fullmatch(text):
        raise NoDevice(device=text, problem="devices are auto, cpu, cuda, cuda:1 and mps")
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(text)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NoDevice(device=text, problem="there is no MPS here; try cpu")
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        built = (
            "this machine has no CUDA device" if torch.version.cuda else "this torch is built without CUDA"
        )
        raise NoDevice(device=text, problem=f"{built}; try cpu")
    number, count = device.index or 0, torch.cuda.device_count()
    if number >= count:
        raise NoDevice(device=text, problem=f"this machine has {count} of them, numbered from 0")
    return torch.device("cuda", number)


def choose_dtype(text: str, device: torch.device, *, stored: str) -> tuple[torch.dtype, str | None]:
    """Return the format of the frozen weights, and a sentence where it is a slow one.

    ``auto`` turns half-precision checkpoints into bfloat16 on a GPU that computes with it, and takes float32
    for all else: a CPU may be 20 times slower in bfloat16, even one that lists instructions for it. `stored`
    is the format of the checkpoint, as its config says.

    Raises:
        UnknownChoice: there is no such format.

    """
    import torch

    if text not in DTYPES:
        raise UnknownChoice(option="--dtype", value=text, known=DTYPES)
    if text == "auto":
        half = stored in {"bfloat16", "float16"}
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return (torch.bfloat16 if half and fast else torch.float32), None
    chosen: torch.dtype = getattr(torch, text)
    times = _slowdown(chosen) if device.type == "cpu" and chosen is not torch.float32 else 1.0
    if times <= _WORTH_A_WORD:
        return chosen, None
    return chosen, f"this CPU multiplies {times:.0f} times slower in {text} than in float32: see --dtype"


def require_quantization(quantization: str, device: torch.device) -> None:
    """Make sure that a base can be quantized here.

    Raises:
        UnknownChoice: it is neither 4bit nor 8bit.
        NoDevice: bitsandbytes trains on CUDA only.
        MissingLibrary: bitsandbytes is not installed.

    """
    if quantization not in QUANTIZATIONS:
        raise UnknownChoice(option="--quantization", value=quantization, known=QUANTIZATIONS)
    if device.type != "cuda":
        raise NoDevice(device=device.type, problem=f"a {quantization} base needs CUDA; leave it unquantized")
    if not _is_installed("bitsandbytes"):
        raise MissingLibrary(what=f"a {quantization} base", package="bitsandbytes", install="bitsandbytes")


def _is_installed(library: str) -> bool:
    try:
        import_module(library)
    except ImportError:
        return False
    return True


def _slowdown(dtype: torch.dtype) -> float:
    """Return how many times longer the CPU takes for a product in `dtype` than in float32."""
    import torch

    taken = {}
    for kind in (torch.float32, dtype):
        matrix = torch.ones(_PROBE, _PROBE, dtype=kind)
        matrix @ matrix
        began = time.perf_counter()
        for _ in range(_TIMES):
            matrix @ matrix
        taken[kind] = time.perf_counter() - began
    return taken[dtype] / max(taken[torch.float32], 1e-9)
