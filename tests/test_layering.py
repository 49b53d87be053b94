"""The one-way imports of the package: a pure core, a torch layer, and edges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lora_probe

PACKAGE = Path(lora_probe.__file__).parent
HEAVY = ("torch", "transformers", "peft", "pandas", "matplotlib")
TORCH_LAYER = ("scanner", "source")
"""Rooms that may import torch, and only inside the functions that need it."""
TORCH_PARTS = (
    *(f"lora_probe.piloting.{part}" for part in ("engine", "data", "base", "demo")),
    "lora_probe.scoring.signals",
)
"""Parts of a pilot and of scores that may import it; protocol, log, statistics and rankings may not."""
EDGES = ("cli", "report", "__main__")


def _modules() -> list[str]:
    """Return every module of the package."""
    paths = sorted(path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _torch_layer(module: str) -> bool:
    return _room(module) in TORCH_LAYER or module.startswith(TORCH_PARTS)


PURE = [module for module in _modules() if not (_torch_layer(module) or _room(module) in EDGES)]


def _loaded_after(code: str) -> set[str]:
    """Return which heavy libraries a fresh interpreter holds after `code`."""
    probe = f"{code}\nimport sys; print('\\n' + ' '.join(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_pure_core_is_found() -> None:
    """The list of pure modules is read off the package, and holds at least the records and the rules."""
    assert {"lora_probe", "lora_probe.graph", "lora_probe.roles", "lora_probe.catalog"} <= set(PURE)


def test_the_pure_core_loads_nothing_heavy() -> None:
    """A fresh interpreter that imports every pure module, one after another, never meets a heavy library."""
    guilty = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {PURE!r}:\n"
        "    import_module(name)\n"
        f"    heavy = [each for each in {HEAVY!r} if each in sys.modules]\n"
        "    assert not heavy, f'{name} loads {heavy}'"
    )
    assert _loaded_after(guilty) == set()


@pytest.mark.parametrize("module", ["lora_probe.scanner", "lora_probe.source", "lora_probe.cli"])
def test_the_way_to_a_cached_answer_loads_nothing_heavy(module: str) -> None:
    """What a cached scan passes through imports no heavy library at its head."""
    assert _loaded_after(f"import {module}") == set()


def test_help_loads_nothing_heavy() -> None:
    """``lora-probe --help`` answers without torch."""
    code = (
        "import sys; sys.argv = ['lora-probe', '--help']\n"
        "from lora_probe.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    assert _loaded_after(code) == set()


def test_public_names_resolve() -> None:
    """Every name in ``__all__`` can be loaded, and ``scan`` is the function, not a module."""
    for name in lora_probe.__all__:
        assert getattr(lora_probe, name) is not None
    assert callable(lora_probe.scan)
    assert set(lora_probe.__all__) <= set(dir(lora_probe))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt public name fails as Python's own modules do."""
    with pytest.raises(AttributeError, match="no attribute 'scna'"):
        lora_probe.scna  # noqa: B018
