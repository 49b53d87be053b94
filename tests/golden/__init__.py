"""Expected output as text files: read them to see what a person sees."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check_golden"]

FOLDER = Path(__file__).parent
UPDATE = "LORA_PROBE_UPDATE_GOLDEN"


def check_golden(name: str, text: str) -> None:
    """Assert that `text` is what the file `name` holds; under LORA_PROBE_UPDATE_GOLDEN=1 write it first."""
    path = FOLDER / name
    if os.environ.get(UPDATE) == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text("utf-8"), f"{name} differs; look at it, then run again with {UPDATE}=1"
