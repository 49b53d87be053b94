"""README.md is true: its commands print what it shows, its Python runs, and it names every command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.cli import lora_probe as group
from tests.documents import README, ROOT, Block, blocks, transcript

if TYPE_CHECKING:
    from pathlib import Path

    import click


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: f"line {block.line}")
def test_a_command_prints_what_the_readme_shows(block: Block, tmp_path: Path) -> None:
    """Each console block is the exact transcript of its commands (rewrite: ``python -m tests.documents``)."""
    assert transcript(block, tmp_path) == block.text


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks run from top to bottom in one session, assertions included."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block.text, f"README.md line {block.line}", "exec"), session)  # noqa: S102
    assert "graph" in session


@pytest.mark.parametrize("name", sorted(group.commands))
def test_the_readme_names_every_command(name: str) -> None:
    """A command that the README does not show is not found."""
    assert f"lora-probe {name}" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", group.commands.values(), ids=lambda command: command.name)
def test_every_option_is_explained(command: click.Command) -> None:
    """Every command has a sentence of help, and so has every option."""
    assert command.help
    undocumented = [
        item.name for item in command.params if item.param_type_name == "option" and not item.help
    ]  # type: ignore[attr-defined]
    assert undocumented == []


def test_every_make_target_that_is_named_exists() -> None:
    """The documents name only targets that the Makefile has."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(
            re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert named
        assert named <= targets
