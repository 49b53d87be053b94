"""The words of roles on a terminal: what a target set can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS
from lora_probe.targets.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["RolesTable"]

_INTRODUCTION = (
    "A target set names weights by role, tower:block.part, of which any part may be left out: attention, "
    "mlp.down, vision:, vision:attention.q. What a model has of it, lora-probe scan shows."
)


class RolesTable:
    """Towers, blocks, the parts of each block and the presets, each word with its meaning."""

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield a heading and a list for each sort of word; all meanings stand below each other."""
        sections: dict[str, Mapping[str, str]] = {"towers": TOWERS, "blocks": BLOCKS}
        for parts in PARTS.values():
            blocks = ", ".join(block for block, others in PARTS.items() if others is parts)
            sections[f"parts of {blocks}"] = parts
        sections["names for common sets"] = PRESETS
        width = max(len(word) for words in sections.values() for word in words)
        yield Text(_INTRODUCTION)
        for title, words in sections.items():
            yield ""
            yield Text(title, style="bold")
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(width=width, no_wrap=True)
            table.add_column()
            for word, meaning in words.items():
                table.add_row(Text(word, style="cyan"), Text(meaning))
            yield Padding(table, (0, 0, 0, 2))
