"""Where a model comes from: the options that every command about a model shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from lora_probe.graph import ModuleGraph

    _Command = TypeVar("_Command", bound=Callable[..., Any])

__all__ = ["SOURCES", "scanned", "source_options"]

SOURCES = ("folder", "config", "cache", "catalogue", "hub")
_OPTIONS = (
    click.option(
        "--source", type=click.Choice(SOURCES), help="Look only there.  [default: each in this order]"
    ),
    click.option("--revision", help="Branch, tag or commit of a hub repository."),
    click.option("--token", help="Token for gated repositories; better set HF_TOKEN or run hf auth login."),
    click.option("--trust-remote-code", is_flag=True, help="Let code from the model's repository run."),
    click.option("--no-cache", is_flag=True, help="Neither read nor write the cache of earlier scans."),
)


def source_options(command: _Command) -> _Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def scanned(model: str, options: MutableMapping[str, Any]) -> ModuleGraph:
    """Return the graph of `model`; the options of :func:`source_options` are taken out of `options`."""
    from lora_probe.cli.output import waiting
    from lora_probe.scanner import scan
    from lora_probe.text import printable

    where = {name: options.pop(name) for name in ("source", "revision", "token", "trust_remote_code")}
    use_cache = not options.pop("no_cache")
    with waiting(f"Scanning {printable(model)}"):
        return scan(model, **where, cache=use_cache)
