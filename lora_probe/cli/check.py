"""``lora-probe check``: what PEFT will really do with a target set, and what servers make of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.lora_options import lora_arguments, lora_options
from lora_probe.cli.lora_words import read_names
from lora_probe.cli.source_options import source_options

if TYPE_CHECKING:
    from lora_probe.checks import Findings
    from lora_probe.checks.dry_run import DryRun

__all__ = ["check"]

EXAMPLES = """\b
Examples:
  lora-probe check Qwen/Qwen3-30B-A3B --targets q_proj,v_proj,gate_proj,up_proj,down_proj
  lora-probe check google/gemma-3-4b-it --targets '.*language_model.*\\.(q|v)_proj' --serve vllm
  lora-probe check meta-llama/Llama-3.1-8B --adapter ./my-adapter --serve vllm,llama.cpp --strict
  lora-probe check openai/gpt-oss-20b --targets all-linear --dry-run-peft
  lora-probe check --explain experts-missed
"""
RANK = 16
FINDINGS = 1
"""Exit code with --strict where a finding is an error."""


@click.command(epilog=EXAMPLES, short_help="Say what PEFT will really do with a target set.")
@click.argument("model", required=False)
@click.option(
    "-t", "--targets", help="What you would hand to PEFT: names with commas, a regular expression, or roles."
)
@click.option("-r", "--rank", type=int, help=f"Rank of the LoRA.  [default: {RANK}]")
@click.option("--alpha", type=float, help="lora_alpha.  [default: the rank]")
@click.option("--dropout", type=float, help="lora_dropout.  [default: 0]")
@click.option("--target-parameters", metavar="NAMES", help="Names of parameters: fused experts.")
@click.option("--exclude-modules", metavar="NAMES|REGEX", help="What not to adapt.")
@lora_options
@click.option("--adapter", type=click.Path(), help="Folder of a trained adapter to compare with the model.")
@click.option("--serve", help="Engines, with commas: vllm, sglang, llama.cpp, tgi, lorax.")
@click.option("--strict", is_flag=True, help="Exit with 1 if there is an error among the findings.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON document.")
@click.option("--dry-run-peft", is_flag=True, help="Let PEFT itself inject, on the meta device, and compare.")
@click.option("--explain", metavar="RULE", help="Print what a rule is about, and end.")
@click.option("--rules", "list_rules", is_flag=True, help="List all rules, and end.")
@source_options
def check(
    *,
    model: str | None,
    targets: str | None,
    rank: int | None,
    adapter: str | None,
    serve: str | None,
    strict: bool,
    as_json: bool,
    dry_run_peft: bool,
    explain: str | None,
    list_rules: bool,
    **options: Any,
) -> int:
    """Say what PEFT will really do with --targets on MODEL: matched, dropped, dead, or refused.

    Nothing is trained and no weights are loaded. With --adapter alone, the adapter's own config says what the
    targets are.
    """
    from lora_probe.checks import check as check_targets
    from lora_probe.cli.output import STDOUT, waiting, write_text
    from lora_probe.scanner import scan
    from lora_probe.text import printable

    if explain or list_rules:
        write_text(STDOUT, _explanation(explain))
        return 0
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if targets is None and adapter is None:
        raise click.UsageError("give --targets, or --adapter to check the targets of a trained adapter")
    where = {name: options.pop(name) for name in ("source", "revision", "token", "trust_remote_code")}
    use_cache = not options.pop("no_cache")
    settings = _settings(options)
    if targets is None and (settings or rank is not None):
        raise click.UsageError(
            "with --adapter alone, its own config says how it was trained: drop the other options, or give "
            "--targets"
        )
    with waiting(f"Scanning {printable(model)}"):
        graph = scan(model, **where, cache=use_cache)
    findings = check_targets(
        graph,
        targets,
        rank=RANK if rank is None else rank,
        adapter=adapter,
        serve=serve.split(",") if serve else (),
        **settings,
    )
    run = None
    if dry_run_peft:
        with waiting("Injecting with PEFT"):
            run = _dry_run(model, findings, where)
    _show(findings, run, as_json=as_json)
    return FINDINGS if strict and findings.errors else 0


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as fields of `LoraSettings`; what was left out keeps its default."""
    settings = lora_arguments(options)
    settings |= {name: options[name] for name in ("alpha", "dropout") if options[name] is not None}
    if parameters := read_names(options["target_parameters"]):
        settings["target_parameters"] = parameters
    if excluded := options["exclude_modules"]:
        plain = all(character.isalnum() or character in "_., " for character in excluded)
        settings["exclude_modules"] = read_names(excluded) if plain else excluded
    return settings


def _explanation(rule: str | None) -> str:
    from lora_probe.checks import explain, rules

    if rule:
        return explain(rule)
    width = max(map(len, rules()))
    return "\n".join(f"{name:{width}}  {each.severity:7}  {each.happens}" for name, each in rules().items())


def _dry_run(model: str, findings: Findings, where: dict[str, Any]) -> DryRun:
    from lora_probe.checks.dry_run import dry_run
    from lora_probe.source import locate
    from lora_probe.source.build import build

    trust_remote_code = where["trust_remote_code"]
    located = locate(model, **{name: where[name] for name in ("source", "revision", "token")})
    built = build(located, trust_remote_code=trust_remote_code, token=where["token"])
    return dry_run(built.module, findings.settings)


def _show(findings: Findings, run: DryRun | None, *, as_json: bool) -> None:
    from lora_probe.cli.output import STDOUT, print_renderable, write_text

    if as_json:
        import json

        document = findings.to_dict()
        if run is not None:
            document["dry_run"] = run.to_dict()
        write_text(STDOUT, json.dumps(document, indent=2))
        return
    from lora_probe.report.check_table import DryRunTable, FindingsList

    print_renderable(FindingsList(findings))
    if run is not None:
        click.echo()
        print_renderable(DryRunTable(run))
