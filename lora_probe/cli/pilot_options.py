"""The options of ``lora-probe pilot``, by what they are about, and how they become the library's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lora_probe.cli.lora_options import TARGETS
from lora_probe.cli.sections import section
from lora_probe.cli.source_options import SOURCES
from lora_probe.piloting.errors import BadPilotOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DATA", "MODEL", "PLACE", "SECTIONS", "columns_of", "pilot_arguments"]

_READ = frozenset({"modules_to_save", "column", "dora", "rslora", "no_rerun", "accuracy"})
_MOST_SEEDS, _LONGEST_SEED = 100, 9
_TASKS = ("causal-lm", "seq2seq", "masked-lm", "sequence-classification", "token-classification")


def _count(name: str, text: str) -> Any:
    return click.option(name, type=int, metavar="N", help=text)


def _number(name: str, text: str) -> Any:
    return click.option(name, type=float, metavar="X", help=text)


def _flag(name: str, text: str) -> Any:
    return click.option(name, is_flag=True, help=text)


def _text(name: str, metavar: str, text: str) -> Any:
    return click.option(name, metavar=metavar, help=text)


def _choice(name: str, words: Sequence[str], text: str) -> Any:
    return click.option(name, type=click.Choice(words), help=text)


DATA = (
    click.option(
        "-d",
        "--data",
        multiple=True,
        required=True,
        metavar="PATH|ID",
        help="JSON Lines, CSV, Parquet or text, a folder of files, or a dataset id. Repeat for more files.",
    ),
    _choice("--task", _TASKS, "[default: what the checkpoint was made for]"),
    click.option(
        "--column", multiple=True, metavar="MEANING=NAME", help="A column called otherwise: text=body."
    ),
    click.option(
        "--train-on",
        type=click.Choice(["auto", "all", "completion", "assistant"]),
        help="Which tokens carry the loss.  [default: completions where there are prompts, else all]",
    ),
    _count("--max-length", "Tokens of a row.  [default: 512, or the model's limit]"),
    _count("--max-examples", "The most examples to read.  [default: 20,000]"),
    _choice(
        "--text-unit",
        ["line", "paragraph", "document"],
        "What is one example of a plain text file.  [default: paragraph]",
    ),
    _text("--data-name", "TEXT", "Configuration of a dataset id."),
    _text("--data-split", "TEXT", "Split of a dataset id.  [default: train]"),
    _text("--data-revision", "TEXT", "Branch, tag or commit of a dataset id."),
)
"""How data is found and read: also for other commands."""
_DATA = section(
    "Data",
    *DATA,
    _flag("--packing", "Let short examples share a row."),
    _count("--tuning-items", "Examples that choose rates and drop arms.  [default: 128]"),
    _count("--test-items", "Examples that the verdict rests on.  [default: 256]"),
    _text("--retention", "PATH|ID", "Other text, to measure what is forgotten; it decides nothing."),
)
_ARMS = section(
    "Candidates",
    click.option(
        "-c",
        "--candidate",
        multiple=True,
        metavar="SPEC[:r=N]",
        help=f"A target set: {TARGETS} Repeat for more.  [default: the sets that people argue about]",
    ),
    _count("--propose", "Up to N sets more that the scores of the model on this data favour.  [default: 0]"),
    _choice("--equal", ["parameters", "rank"], "What the sets have in common.  [default: parameters]"),
    click.option(
        "-r",
        "--rank",
        type=int,
        metavar="N",
        help="The common rank; with equal parameters, that of the largest set.  [default: 8]",
    ),
    _text("--max-parameters", "N", "What each set may train: 2M.  [default: as --rank says]"),
    _number("--alpha-over-rank", "lora_alpha / r of every set.  [default: 2]"),
    _flag("--full", "Full fine-tuning, too, as a reference."),
    _flag("--dora", "Weight-decomposed LoRA."),
    _flag("--rslora", "Scale by alpha / sqrt(rank)."),
    _text("--modules-to-save", "NAMES", "Modules to train in full in every arm: lm_head."),
)
_TRAINING = section(
    "Training",
    _count("--steps", "Optimizer steps of a whole run.  [default: 200]"),
    _count("--batch-size", "Rows of a micro-batch.  [default: 4]"),
    _count("--accumulation", "Micro-batches of a step.  [default: 1]"),
    _number("--learning-rate", "Centre of every set's grid.  [default: 0.0002]"),
    _number("--full-learning-rate", "The same for --full.  [default: 0.00002]"),
    _choice("--schedule", ["constant", "linear", "cosine"], "[default: cosine]"),
    _number("--warmup", "Share of the steps.  [default: 0.05]"),
    _number("--weight-decay", "[default: 0]"),
    _number("--clip", "Largest gradient norm; 0 for any.  [default: 1]"),
    _number("--dropout", "lora_dropout.  [default: 0]"),
    _flag("--gradient-checkpointing", "Save memory, spend time."),
    _count("--data-seed", "Order of the data.  [default: 0]"),
)
_PROTOCOL = section(
    "Protocol",
    _number("--margin", "Nats a token, or a class, below which a difference is none.  [default: 0.01]"),
    _text("--seeds", "N|S,S,…", "How many seeds finalists get, or which.  [default: 3]"),
    _text("--grid", "X,X,…", "Factors of the learning rate to try.  [default: 0.5,1,2]"),
    _count("--extensions", "How often a grid may grow where its edge is best.  [default: 2]"),
    _text(
        "--rungs",
        "X,X,…|none",
        "Shares of the steps after which sets and rates are dropped.  [default: 0.1,0.3]",
    ),
    _number("--keep", "Share of the sets, two or more, that a rung keeps at least.  [default: 0.5]"),
    _number("--noise-band", "Standard errors behind the best within which no set is dropped.  [default: 2]"),
    _count("--evaluations", "Evaluations, and checkpoints, of a whole run.  [default: 4]"),
    _number("--confidence", "[default: 0.95]"),
    _count("--resamples", "Of the bootstrap.  [default: 10,000]"),
    _flag("--no-rerun", "Do not measure how far equal runs differ."),
    click.option(
        "--accuracy/--no-accuracy",
        default=None,
        help="Count right predictions, too; the loss decides.  [default: of classes only]",
    ),
)
PLACE = (
    _text("--device", "NAME", "cpu, cuda, cuda:1, mps or auto.  [default: auto]"),
    _text("--dtype", "NAME", "float32, bfloat16, float16 or auto: of the frozen weights.  [default: auto]"),
    _text("--quantization", "NAME", "4bit or 8bit, through bitsandbytes on CUDA."),
    _text("--device-map", "NAME", "Spread the base over several GPUs: auto, balanced, sequential."),
)
"""Where, and in which form, the weights are loaded."""
_MACHINE = section(
    "Machine",
    *PLACE,
    _choice("--engine", ["auto", "stacked", "reference", "ray"], "How trials are trained.  [default: auto]"),
    _count("--wave", "The most trials side by side.  [default: as many as fit]"),
    _text("--shard", "I/N", "Do one of N shares of the work; each process of the N gets its own I."),
    _text(
        "--ray-address", "HOST:PORT", "Head of a Ray cluster.  [default: RAY_ADDRESS, or one started here]"
    ),
    _number("--ray-gpus", "GPUs of a Ray worker.  [default: 1 with CUDA]"),
    _number("--ray-cpus", "CPUs of a Ray worker.  [default: 1 beside a GPU, else all threads]"),
    _flag("--verify", "First replay some steps of stacked trials through PEFT."),
)
MODEL = section(
    "Where the model comes from",
    _choice("--source", SOURCES, "Look only there."),
    _text("--revision", "TEXT", "Branch, tag or commit of a hub repository."),
    _text("--token", "TEXT", "Token for gated repositories; better set HF_TOKEN or run hf auth login."),
    _flag("--trust-remote-code", "Let code from the model's repository run."),
)
_RESULT = section(
    "Result",
    click.option(
        "-o",
        "--out",
        required=True,
        metavar="DIR",
        help="Folder of plan, log, checkpoints and report; the same command continues in it.",
    ),
    _flag("--save-adapters", "Keep each finished adapter there, as PEFT reads it."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
)
SECTIONS = (_RESULT, _DATA, _ARMS, _TRAINING, _PROTOCOL, _MACHINE, MODEL)


def pilot_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as those of the library's `pilot`; what was left out is left out.

    Raises:
        BadPilotOption: a list of numbers, or a column, cannot be read.

    """
    from lora_probe.cli.lora_words import read_names

    saved = read_names(options["modules_to_save"])
    read = {
        "seeds": _seeds(options["seeds"]),
        "grid": _numbers(options["grid"], "--grid"),
        "rungs": () if options["rungs"] == "none" else _numbers(options["rungs"], "--rungs"),
        "columns": columns_of(options["column"]),
        "lora": {"modules_to_save": saved} if saved else None,
        "use_dora": options["dora"] or None,
        "use_rslora": options["rslora"] or None,
        "rerun": False if options["no_rerun"] else None,
        "accuracy": options["accuracy"],
    }
    other = {
        name: value
        for name, value in options.items()
        if name not in _READ and name not in read and value is not False
    }
    return {name: value for name, value in {**other, **read}.items() if value is not None}


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Return the numbers of ``0.5,1,2``."""
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise BadPilotOption(option=option, value=text, problem="must be numbers with commas") from None


def _seeds(text: str | None) -> tuple[int, ...] | None:
    """Return the seeds of ``7,8,9``, or as many as ``3`` says."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) <= _LONGEST_SEED for word in words):
        raise BadPilotOption(
            option="--seeds", value=text, problem="must be a number of seeds, or seeds with commas"
        )
    if len(words) > 1:
        return tuple(map(int, words))
    if not 1 <= int(text) <= _MOST_SEEDS:
        raise BadPilotOption(option="--seeds", value=text, problem=f"must be from 1 to {_MOST_SEEDS}")
    return tuple(range(int(text)))


def columns_of(words: tuple[str, ...]) -> dict[str, str] | None:
    """Return meaning -> column of every ``text=body``."""
    pairs = [word.partition("=") for word in words]
    for word, (meaning, _, name) in zip(words, pairs, strict=True):
        if not (meaning and name):
            raise BadPilotOption(option="--column", value=word, problem="must be MEANING=NAME, as text=body")
    return {meaning: name for meaning, _, name in pairs} or None
