"""The command line, from arguments to exit codes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import lora_probe
from lora_probe import cli
from lora_probe.cli.output import write_text
from lora_probe.errors import UnwritableOutput
from lora_probe.graph import ModuleGraph
from lora_probe.scanner.verification import Mismatch
from lora_probe.targets import parse_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "tie_word_embeddings": True,
}
COMMAND = [sys.executable, "-m", "lora_probe"]


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return the path of a small Llama's config.json."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def on_terminal(arguments: list[str], *, columns: int, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command shows on a terminal of `columns`."""
    ours, theirs = pty.openpty()
    plain = {
        key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
    }
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**plain, "TERM": "xterm-256color", "COLUMNS": str(columns), **(environment or {})},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal as an error
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.communicate() is not None
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_scan_prints_roles_and_totals(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The default output is the table, and standard error stays quiet."""
    assert cli.run(["scan", config, "-r", "8"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"attention\.q +model\.layers\.\{0…2\}\.self_attn\.q_proj +linear +3 ", captured.out)
    assert "LoRA r=8" in captured.out
    assert captured.err == ""


def test_json_is_one_document_that_reads_back(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get the whole graph on standard output, and nothing else there."""
    assert cli.run(["scan", config, "--json"]) == 0
    text = capsys.readouterr().out
    graph = lora_probe.scan(config)
    assert ModuleGraph.from_json(text) == graph
    document = json.loads(text)
    promised = (
        "model source architecture model_type total_parameters uncovered_parameters versions sites uncovered"
    )
    assert set(promised.split()) <= set(document)
    of_a_site = (
        "path kind in_features out_features experts tower block part layer parameter tied_to adaptable"
    )
    assert set(of_a_site.split()) <= set(document["sites"][0])
    assert set(document["uncovered"][0]) >= {"parameter", "shape", "parameters"}


def test_files_are_written_and_named(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several reports come from one scan; what was written is said on standard error."""
    files = {kind: tmp_path / f"report.{kind}" for kind in ("csv", "html", "markdown")}
    options = [text for kind, path in files.items() for text in (f"--{kind}", str(path))]
    assert cli.run(["scan", config, *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "".join(f"wrote {path}\n" for path in files.values())
    assert files["html"].read_text().startswith("<!doctype html>")
    assert files["markdown"].read_text().startswith("## `")
    with files["csv"].open() as lines:
        assert len(list(csv.DictReader(lines))) == len(lora_probe.scan(config).sites)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["config.json", *(path.name for path in files.values())]
    )


@pytest.mark.parametrize(
    ("kind", "start"), [("csv", "path,kind,"), ("html", "<!doctype"), ("markdown", "## ")]
)
def test_a_dash_is_standard_output(
    config: str, kind: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each report can be piped on."""
    assert cli.run(["scan", config, f"--{kind}", "-"]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_two_documents_do_not_share_standard_output(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mixture of JSON and CSV would help nobody."""
    assert cli.run(["scan", config, "--json", "--csv", "-"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "standard output" in captured.err


@pytest.mark.parametrize("rank", ["0", "-4", "x", "1.5"])
def test_an_impossible_rank_is_refused(config: str, rank: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rank is a whole number of at least one."""
    assert cli.run(["scan", config, "-r", rank]) == 2
    assert rank in capsys.readouterr().err


def test_what_a_user_can_cause_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing model ends in an error of one line, exit code 2 and no traceback."""
    assert cli.run(["scan", str(tmp_path / "nowhere" / "config.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the package's own errors are turned into sentences."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lora_probe.scanner.scan", broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["scan", config])


def test_an_interrupt_ends_quietly(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is no error report, and the shell sees it as an interrupt."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_probe.scanner.scan", interrupted)
    assert cli.run(["scan", config]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_is_quiet() -> None:
    """``lora-probe models | head -1`` complains about nothing."""
    process = subprocess.Popen([*COMMAND, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert errors == b""


def test_a_pipe_gets_whole_lines_without_colour(config: str) -> None:
    """What is piped is as wide as its lines need, plain, and without blanks at their ends."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    done = subprocess.run(
        [*COMMAND, "scan", config], capture_output=True, text=True, check=True, env=environment
    )
    assert "\x1b" not in done.stdout
    assert re.search(r"model\.layers\.\{0…2\}\.self_attn\.q_proj +linear +3 .*% +\d", done.stdout)
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


def test_a_terminal_gets_its_own_width_and_emphasis(config: str) -> None:
    """On a narrow terminal the narrow layout is shown, with bold headings."""
    shown = on_terminal(["scan", config], columns=60)
    assert "\x1b[1m" in shown
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.splitlines()) <= 60
    assert re.search(r"q +q_proj +64 → 64", re.sub(r"\x1b\[[0-9;]*m", "", shown))


def test_no_color_is_respected(config: str) -> None:
    """With NO_COLOR set, a terminal gets no colours."""
    shown = on_terminal(["scan", config], columns=100, environment={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_a_repeated_scan_loads_nothing_heavy(config: str, tmp_path: Path) -> None:
    """The second scan comes from the cache: same words, and neither torch nor anything else that is slow."""
    heavy = ("torch", "transformers", "huggingface_hub", "pandas", "matplotlib", "jinja2", "numpy", "peft")
    code = (
        "import sys; from lora_probe.cli import run; status = run(sys.argv[1:]); sys.stdout.flush()\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    environment = {**os.environ, "LORA_PROBE_CACHE": str(tmp_path / "cache")}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code, "scan", config],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        for _ in range(2)
    )
    assert "torch" in first.stderr
    assert second.stderr == "[]\n"
    assert second.stdout == first.stdout


def test_verify_compares_with_peft(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison is told on standard error, beside a document that stays whole."""
    assert cli.run(["scan", config, "--json", "--verify"]) == 0
    captured = capsys.readouterr()
    sites = len(ModuleGraph.from_json(captured.out))
    assert captured.err == f"verified: PEFT makes the same adapters on all {sites} sites\n"


def test_verify_tells_what_differs(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scan that is wrong about PEFT ends with exit code 1 and the names of the sites."""
    wrong = Mismatch(path="lm_head", parameter="lm_head.weight", message="r(in + out)\x1b[31m")
    monkeypatch.setattr("lora_probe.scanner.verify", lambda *_, **__: (wrong,))
    assert cli.run(["scan", config, "--verify"]) == 1
    assert capsys.readouterr().err == "differs: lm_head.weight: r(in + out)\\x1b[31m\n"


def test_the_cache_can_be_left_out(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --no-cache nothing is read and nothing kept."""
    monkeypatch.setenv("LORA_PROBE_CACHE", str(tmp_path / "cache"))
    assert cli.run(["scan", config, "--no-cache"]) == 0
    assert not (tmp_path / "cache").exists()


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue can be searched by part of an id, by wildcards, and as JSON."""
    assert cli.run(["models"]) == 0
    everything = capsys.readouterr().out.splitlines()
    assert len(everything) > 150
    assert cli.run(["models", "QWEN3-30b"]) == 0
    chosen = capsys.readouterr().out
    assert "Qwen/Qwen3-30B-A3B" in chosen
    assert "lama" not in chosen
    assert cli.run(["models", "*/qwen3-30b-a3b", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["model"] == "Qwen/Qwen3-30B-A3B"
    assert model["model_type"] == "qwen3_moe"


def test_a_pattern_without_models_says_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name is answered with what it may have meant."""
    assert cli.run(["models", "Qwen/Qwen3-30B-A3C"]) == 2
    assert "Qwen/Qwen3-30B-A3B" in capsys.readouterr().err


def test_every_word_of_a_role_is_listed_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    """Who writes a target set finds all words in one place, also as JSON, and each of them can be read."""
    assert cli.run(["roles"]) == 0
    shown = capsys.readouterr().out
    assert cli.run(["roles", "--json"]) == 0
    words = json.loads(capsys.readouterr().out)
    assert set(words) == {"towers", "blocks", "parts", "presets"}
    lists = [words["towers"], words["blocks"], words["presets"], *words["parts"].values()]
    assert all(
        f"\n  {word} " in shown and meaning in shown for each in lists for word, meaning in each.items()
    )
    assert "parts of attention, cross_attention\n" in shown
    texts = [f"{tower}:" for tower in words["towers"]] + list(words["blocks"])
    texts += [f"{block}.{part}" for block, parts in words["parts"].items() for part in parts]
    assert [str(parse_targets(text)) for text in texts] == texts
    assert all(parse_targets(name) == parse_targets(text) for name, text in words["presets"].items())


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the program and its version."""
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"lora-probe {lora_probe.__version__}\n"


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(cli.lora_probe.commands))], ids=str)
def test_help_has_examples_of_its_own_options(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself with commands that parse."""
    assert cli.run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    examples = re.findall(r"^    lora-probe (\w+)(.*?)(?:[|>].*)?$", shown, re.MULTILINE)
    assert examples
    for name, rest in examples:
        context = click.Context(cli.lora_probe)
        arguments = [word.strip("'") for word in rest.split()]
        cli.lora_probe.commands[name].make_context(name, arguments, parent=context, resilient_parsing=False)


def test_no_file_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a disk is full the old file stays as it was, and no other appears."""
    target = tmp_path / "report.csv"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UnwritableOutput, match="No space left on device"):
        write_text(str(target), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.csv"]
    assert target.read_text() == "old"


def test_an_unwritable_place_is_one_sentence(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that does not exist is named, with the reason."""
    assert cli.run(["scan", config, "--csv", str(tmp_path / "no" / "sites.csv")]) == 2
    assert (
        capsys.readouterr().err == f"Error: cannot write {tmp_path}/no/sites.csv: No such file or directory\n"
    )


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file behind a link is replaced, not the link."""
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_text(str(tmp_path / "link.csv"), "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


def test_a_device_is_written_to_not_replaced() -> None:
    """``--csv /dev/null`` leaves the machine its /dev/null."""
    write_text(os.devnull, "gone")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_one_sentence(
    config: str, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A redirection onto a full disk ends like every other place that cannot be written."""
    with Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert cli.run(["scan", config, *options]) == 2
    assert capsys.readouterr().err == "Error: cannot write standard output: No space left on device\n"


def test_what_an_encoding_lacks_is_a_question_mark(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrows and dots on a Latin-1 terminal are no reason for a traceback, and files on a pipe are UTF-8."""
    shown = {}
    for options in ([], ["--markdown", "-"]):
        raw = io.BytesIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
            patched.setattr(sys, "argv", ["lora-probe", "scan", config, *options])
            with pytest.raises(SystemExit, match="0"):
                cli.main()
            sys.stdout.flush()
            shown[bool(options)] = raw.getvalue()
    assert "64 ? 64" in shown[False].decode("latin-1")
    assert "64 → 64" in shown[True].decode("utf-8")


@pytest.mark.parametrize("command", [["scan"], ["budget", "-t", "attention"]])
def test_results_do_not_share_a_file(
    command: list[str], config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of two results would replace the first; neither may be nameless."""
    place = tmp_path / "same"
    for options in (["--csv", str(place), "--html", f"{tmp_path}/./same"], ["--html", ""]):
        assert cli.run([*command, config, *options]) == 2
        assert "file" in capsys.readouterr().err
        assert not place.exists()


@pytest.mark.parametrize(
    "command",
    [["scan", "--csv"], ["budget", "--html"], ["export", "-t", "attention", "--to", "peft", "-o"]],
)
@pytest.mark.parametrize("model", ["config.json", ""])
def test_a_result_never_replaces_the_model(
    command: list[str], model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the hand does not cost the file from which the model was read."""
    name, *options = command
    assert cli.run([name, str(tmp_path / model), *options, config]) == 2
    assert "the result itself is made from it" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_a_text_buffer_can_stand_for_standard_output(config: str) -> None:
    """A script that runs the command inside Python catches documents as text."""
    caught = io.StringIO()
    with contextlib.redirect_stdout(caught):
        assert cli.run(["scan", config, "--json"]) == 0
    assert ModuleGraph.from_json(caught.getvalue()) == lora_probe.scan(config)
