"""``lora-probe budget``: what target sets cost at which rank, and which rank fits a limit."""

from __future__ import annotations

from typing import Any

import click

from lora_probe.cli.scan import FILE
from lora_probe.cli.source_options import source_options

__all__ = ["budget"]

EXAMPLES = """\b
Examples:
  lora-probe budget meta-llama/Llama-3.1-8B
  lora-probe budget Qwen/Qwen3-8B --targets attention --targets all-linear -r 8,16,64
  lora-probe budget google/gemma-3-4b-it --targets text:attention+text:mlp --max-adapter-size 50MB
  lora-probe budget openai-community/gpt2 --targets c_attn --targets all-linear --equal-to c_attn:r=16
  lora-probe budget Qwen/Qwen3-30B-A3B --by role --html budget.html
"""


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "-t", "--targets", multiple=True, metavar="SPEC",
    help="A target set: roles (attention, mlp.down, vision:attention.q), names (q_proj,v_proj), all-linear "
    "or re:…, joined by + and removed by -. Repeat for more.  [default: the common sets that MODEL has]",
)  # fmt: skip
@click.option("-r", "--ranks", metavar="R,R,…", help="Ranks to count.  [default: 8,16,32; with a limit, any]")
@click.option("--max-parameters", metavar="N", help="Find the largest rank that trains at most N: 20M, 18Mi.")
@click.option("--max-adapter-size", metavar="SIZE", help="The same for the adapter's file: 50MB, 48MiB.")
@click.option("--equal-to", metavar="SPEC:r=N", help="The same for what another set trains.")
@click.option("--by", type=click.Choice(["role", "layer", "role-layer"]), help="Split each cost.")
@click.option("--dora", is_flag=True, help="Count DoRA's magnitudes.")
@click.option("--rslora", is_flag=True, help="Scale as rsLoRA does, which costs nothing.")
@click.option("--bias", type=click.Choice(["none", "all", "lora_only"]), help="Train biases of the model.")
@click.option("--lora-bias", is_flag=True, help="Give each adapter a bias.")
@click.option("--modules-to-save", metavar="NAMES", help="Train modules in full: lm_head,embed_tokens.")
@click.option("--trainable-tokens", multiple=True, metavar="IDS", help="Train rows of the embedding: 0,5-9.")
@click.option("--rank-pattern", multiple=True, metavar="PATTERN=R", help="Another rank for some modules.")
@click.option("--tie-weights", is_flag=True, help="Keep tied weights tied (ensure_weight_tying).")
@click.option("--task-type", metavar="TYPE", help="PEFT's task type; SEQ_CLS trains the new head in full.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Type in which adapters are stored.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", type=FILE, help="Write the rows, or the split, as CSV; - is standard output.")
@click.option("--html", type=FILE, help="Write a self-contained page; - is standard output.")
@click.option("--markdown", type=FILE, help="Write Markdown; - is standard output.")
@source_options
def budget(
    *, model: str, as_json: bool, csv: str | None, html: str | None, markdown: str | None, **options: Any
) -> None:
    """Show what LoRA costs on MODEL: parameters and adapter file, for each target set and rank.

    With a limit, find the largest rank that fits, for each set. MODEL is a hub id, a folder, or a path to a
    config.json. No weights are loaded.
    """
    from lora_probe.budgeting import By
    from lora_probe.budgeting import budget as budget_of
    from lora_probe.cli.output import STDOUT, print_renderable, write_text
    from lora_probe.cli.source_options import scanned

    if [csv, html, markdown].count(STDOUT) + as_json > 1:
        raise click.UsageError("only one of --json and the files can go to standard output")
    arguments = _arguments(options)
    graph = scanned(model, options)
    result = budget_of(graph, **arguments)
    if as_json:
        write_text(STDOUT, result.to_json(indent=2))
    if csv:
        from lora_probe.report.budget_csv import budget_csv

        write_text(csv, budget_csv(result))
    if html:
        from lora_probe.report.budget_html import budget_page

        write_text(html, budget_page(budget_of(graph, **{**arguments, "by": By.BOTH})))
    if markdown:
        from lora_probe.report.budget_markdown import budget_markdown

        write_text(markdown, budget_markdown(result))
    if not (as_json or csv or html or markdown):
        from lora_probe.report.budget_table import BudgetTable

        print_renderable(BudgetTable(result))


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as arguments of the library's `budget`; what was left out keeps its default."""
    from lora_probe.budgeting.limits import read_bytes, read_count
    from lora_probe.cli.lora_words import read_names, read_rank_pattern, read_ranks, read_tokens

    readers = {"ranks": read_ranks, "max_parameters": read_count, "max_adapter_size": read_bytes}
    given = {
        "targets": options["targets"],
        **{
            name: read(options[name], option=f"--{name.replace('_', '-')}")
            for name, read in readers.items()
            if options[name] is not None
        },
        "equal_to": options["equal_to"],
        "by": options["by"],
        "dtype": options["dtype"],
        "use_dora": options["dora"],
        "use_rslora": options["rslora"],
        "bias": options["bias"],
        "lora_bias": options["lora_bias"],
        "modules_to_save": read_names(options["modules_to_save"]),
        "trainable_token_indices": read_tokens(options["trainable_tokens"], option="--trainable-tokens"),
        "rank_pattern": read_rank_pattern(options["rank_pattern"], option="--rank-pattern"),
        "ensure_weight_tying": options["tie_weights"],
        "task_type": options["task_type"],
    }
    return {name: value for name, value in given.items() if value not in (None, False, (), {})}
