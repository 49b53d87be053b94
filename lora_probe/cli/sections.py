"""A command with many options, whose help lists them by what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    _Function = TypeVar("_Function", bound=Callable[..., Any])

__all__ = ["SectionedCommand", "section"]

_WORDS = "lora_probe.cli.sections.words"


def section(title: str, *options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Return a decorator that adds `options` to a command, under one heading of its help."""

    def add(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
            added: click.Option = function.__click_params__[-1]  # type: ignore[attr-defined]
            added.section = title  # type: ignore[attr-defined]
        return function

    return add


class SectionedCommand(click.Command):
    """A command that keeps the words it was called with, and lists its options by section."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words, then read them."""
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options for each section, in the order in which they were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def words() -> tuple[str, ...]:
    """Return the words after the name of the running command."""
    found: tuple[str, ...] = click.get_current_context().meta.get(_WORDS, ())
    return found
