"""The blocks of the documents, commands with their output and Python: run by the tests, rewritten on request.

``python -m tests.documents`` runs every ``console`` block of README.md and writes the outputs back.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its language, its text and the place where the text starts."""

    language: str
    text: str
    start: int

    @property
    def line(self) -> int:
        """Line of the document, for messages."""
        return README.read_text(encoding="utf-8").count("\n", 0, self.start) + 1


def blocks(language: str) -> tuple[Block, ...]:
    """Return README's fenced blocks of one language, in order."""
    found = _FENCE.finditer(README.read_text(encoding="utf-8"))
    return tuple(
        Block(language=match[1], text=match[2], start=match.start(2))
        for match in found
        if match[1] == language
    )


def commands(block: Block) -> tuple[str, ...]:
    """Return the command lines of a console block, those that start with a dollar sign."""
    return tuple(line[2:] for line in block.text.splitlines() if line.startswith("$ "))


def transcript(block: Block, folder: Path) -> str:
    """Run the block's commands one after another in `folder` and return what the block should read."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "HF_HOME": str(folder / "huggingface"),  # the README knows no local hub cache
    }
    lines = []
    for command in commands(block):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines += [f"$ {command}", *(line.rstrip() for line in done.stdout.splitlines())]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write fresh outputs into README.md."""
    import tempfile

    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for block in reversed(blocks("console")):
            text = (
                text[: block.start] + transcript(block, Path(folder)) + text[block.start + len(block.text) :]
            )
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
