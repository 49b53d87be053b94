"""``lora-probe roles``: the words that a target set can use."""

from __future__ import annotations

import click

__all__ = ["roles"]

EXAMPLES = """\b
Examples:
  lora-probe roles
  lora-probe roles --json
"""


@click.command(epilog=EXAMPLES, short_help="List the words that a target set can name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def roles(*, as_json: bool) -> None:
    """List the towers, blocks and parts that --targets can name, and the names for common sets."""
    from lora_probe.cli.output import STDOUT, print_renderable, write_text

    if as_json:
        import json

        from lora_probe.roles import BLOCKS, PARTS, TOWERS
        from lora_probe.targets.presets import PRESETS

        words = {
            "towers": dict(TOWERS),
            "blocks": dict(BLOCKS),
            "parts": {block: dict(parts) for block, parts in PARTS.items()},
            "presets": dict(PRESETS),
        }
        write_text(STDOUT, json.dumps(words, indent=2))
    else:
        from lora_probe.report.roles_table import RolesTable

        print_renderable(RolesTable())
