"""What a person sees of a pilot: the verdict and every number, whole, safe and the same in each form."""

from __future__ import annotations

import ast
import csv
import json
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from markdown_it import MarkdownIt
from markupsafe import escape
from rich.console import Console

from lora_probe.graph import Note
from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.options import PilotOptions
from lora_probe.piloting.records import Task
from lora_probe.report.numbers import exact
from lora_probe.report.pilot_charts import (
    pareto_chart,
    rate_chart,
    tuning_chart,
)
from lora_probe.report.pilot_command import pilot_command
from lora_probe.report.pilot_csv import pilot_csv
from lora_probe.report.pilot_figures import (
    forest,
    learning_rate_curves,
    loss_curves,
    pareto,
)
from lora_probe.report.pilot_html import pilot_fragment, pilot_page
from lora_probe.report.pilot_markdown import pilot_markdown
from lora_probe.report.pilot_table import PilotTable
from lora_probe.report.pilot_wording import adapter_config, duration, export_command, how, loss_text, signed
from tests.pilot_findings import sample_analysis
from tests.pilot_samples import BASE_LOSS, sample_plan, sample_results

if TYPE_CHECKING:
    from lora_probe.piloting.outcome import Analysis

HOSTILE = "<script>alert(1)</script>|`x`\x1b[31m\u202e"


def _in_terminal(analysis: Analysis, *, width: int = 120) -> str:
    console = Console(width=width, record=True, file=StringIO(), force_terminal=False)
    console.print(PilotTable(analysis))
    return console.export_text()


FORMS = [_in_terminal, pilot_markdown, pilot_page]


def _hostile() -> Analysis:
    """Return an analysis in which every name, path and message was chosen by an enemy."""
    found = sample_analysis()
    document = {each.name: f"{each.name}{HOSTILE}" for each in found.plan.candidates}

    def renamed(value: Any) -> Any:
        if isinstance(value, str) and type(value) is str:
            return document.get(value, value)
        if isinstance(value, tuple):
            return tuple(map(renamed, value))
        if isinstance(value, dict):
            return {renamed(key): renamed(each) for key, each in value.items()}
        if hasattr(value, "__dataclass_fields__"):
            return replace(
                value, **{name: renamed(getattr(value, name)) for name in value.__dataclass_fields__}
            )
        return value

    said: Analysis = renamed(found)
    return replace(
        said,
        verdict=replace(said.verdict, sentence=HOSTILE, caveats=(HOSTILE,)),
        warnings=(Note(code="x", message=HOSTILE),),
        dropped=tuple(replace(each, reason=HOSTILE) for each in said.dropped),
        failures=tuple(replace(each, reason=HOSTILE) for each in said.failures),
        dead_adapters={HOSTILE: (HOSTILE,)},
        plan=replace(
            said.plan,
            model=replace(said.plan.model, model=HOSTILE, architecture=HOSTILE, revision=HOSTILE),
            data=replace(said.plan.data, source=HOSTILE),
            versions={HOSTILE: HOSTILE},
        ),
    )


class _Tags(HTMLParser):
    """Every element of a page and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_everything(form: Any) -> None:
    """The verdict, each arm's loss and parameters, each interval, what was dropped, failed and dead."""
    found = sample_analysis()
    text = form(found)
    assert found.verdict.sentence in text
    for row in found.leaderboard:
        assert row.candidate in text
        assert exact(row.trainable_parameters) in text
        assert loss_text(row.test_loss) in text
    for said in ("+0.0082", "+0.0357", "equivalent", "worse", "recommended", "0.0004?"):
        assert said in text
    for said in ("behind o+down; noise", "diverged after step 12: the loss became infinite", "down_proj"):
        assert said in text
    assert "curves of all-linear and mlp cross" in text
    assert "43,008 parameters are few" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_failed_repetition_is_told_from_the_run_that_it_repeats(form: Any) -> None:
    """Of two trials that differ in nothing else, the one that measures noise is called so."""
    found = sample_analysis()
    (failed,) = found.failures
    again = replace(failed, trial=replace(failed.trial, repeat=1))
    assert "seed 0 (again) diverged" in form(replace(found, failures=(again,)))
    assert "(again)" not in form(found)


def _of_task(task: Task) -> Analysis:
    """Return the sample as a pilot of `task`."""
    found = sample_analysis()
    return replace(found, plan=replace(found.plan, data=replace(found.plan.data, task=task)))


@pytest.mark.parametrize("form", [*FORMS, pilot_fragment])
def test_losses_are_told_in_the_unit_of_the_task(form: Any) -> None:
    """A text that is classified as a whole has one label: losses are per example, all others per token."""
    classified = form(_of_task(Task.SEQUENCE_CLASSIFICATION))
    assert "nats per example" in classified
    assert "per token" not in classified
    for task in set(Task) - {Task.SEQUENCE_CLASSIFICATION}:
        assert "nats per token" in form(_of_task(task))
        assert "per example" not in form(_of_task(task))


def test_the_verdict_comes_first() -> None:
    """On a page the sentence stands before any number of an arm; on a terminal it ends what is printed."""
    found = sample_analysis()
    page = pilot_page(found)
    assert page.index(found.verdict.sentence) < page.index("43,520")
    assert _in_terminal(found).rstrip().endswith(found.verdict.sentence)


def test_a_page_needs_nothing_else() -> None:
    """No script, no link, no image from elsewhere, and a policy that forbids them."""
    tags = _Tags(pilot_page(sample_analysis())).found
    assert {"script", "link", "img", "iframe", "a"}.isdisjoint(tag for tag, _ in tags)
    assert any("default-src 'none'" in str(attrs.get("content")) for tag, attrs in tags if tag == "meta")


@pytest.mark.parametrize("name", [r"re:.*\.[qv]_proj", "re:(a|[/b])"])
def test_a_set_with_brackets_is_shown_whole(name: str) -> None:
    """Brackets of an expression are no markup of the terminal's."""
    said = sample_analysis()
    rows = tuple(replace(row, candidate=name) if row.place == 2 else row for row in said.leaderboard)
    others = tuple(replace(each, second=name) for each in said.comparisons)
    found = replace(said, leaderboard=rows, comparisons=others)
    assert _in_terminal(found, width=200).count(name) >= 2


def test_hostile_text_is_shown_harmlessly() -> None:
    """Whatever names, paths and messages hold, no form obeys it."""
    found = _hostile()
    page = pilot_page(found)
    assert "script" not in {tag for tag, _ in _Tags(page).found}
    for text in (page, pilot_fragment(found), _in_terminal(found), pilot_markdown(found), pilot_csv(found)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(pilot_markdown(found))
    inline = [child for token in tokens for child in token.children or []]
    assert not [
        child.type for child in inline if child.type in {"html_inline", "link_open", "em_open", "image"}
    ]
    kinds = [token.type for token in tokens]
    assert (kinds.count("heading_open"), kinds.count("html_block"), kinds.count("fence")) == (1, 0, 1)
    assert kinds.count("table_open") == 2


def test_a_fragment_is_the_head_of_the_page() -> None:
    """A notebook shows verdict and table without a document around them."""
    fragment = pilot_fragment(sample_analysis())
    assert fragment.startswith('<div class="lora-probe">')
    assert "<html" not in fragment
    assert sample_analysis().verdict.sentence in fragment


def test_nothing_measured_is_shown_as_such() -> None:
    """A pilot that has just begun has a page, a table and a text, which say that it is not complete."""
    found = analyse(sample_plan(), ())
    for form in FORMS:
        assert found.verdict.sentence in " ".join(form(found).split())
    assert "not complete" in pilot_page(found)
    assert forest(found) is None
    assert tuning_chart(loss_curves(found), {}) is None
    assert pareto_chart(pareto(found), {}) is None
    assert rate_chart(learning_rate_curves(found), {}) is None


def test_a_real_analysis_has_every_part() -> None:
    """What the protocol measured and the analysis says fills every chart of the page."""
    found = analyse(sample_plan(), sample_results())
    page = pilot_page(found)
    for title in ("How much worse", "Held-out loss", "Quality against", "Learning rates", "Training loss"):
        assert f"<h2>{title}" in page
    assert "Dropped on the way" in page
    assert "torch 2.13.0" in page
    assert "Failed" in page
    assert str(escape(found.verdict.sentence)) in page


def test_peft_reads_what_is_handed_over(tmp_path: Any) -> None:
    """The block for the winner is an `adapter_config.json` that PEFT loads, with the winner's numbers."""
    from peft import LoraConfig

    plan = sample_plan()
    (tmp_path / "adapter_config.json").write_text(adapter_config(plan.candidates[2], plan))
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (7, 14.0, {"mlp_proj"})
    assert config.base_model_name_or_path == "somebody/a-model"
    assert not config.inference_mode


def test_other_trainers_are_named_for_what_they_train() -> None:
    """A page hands over a command for another trainer where that trains such models."""
    for task in Task:
        page = pilot_page(_of_task(task))
        assert '"peft_type"' in page or "&#34;peft_type&#34;" in page
        assert ("lora-probe export" in page) is (task is Task.CAUSAL_LM)


@pytest.mark.parametrize("task", Task)
def test_each_task_has_peft_s_word(task: Task) -> None:
    """PEFT knows the task of every pilot, or is told none."""
    from peft import TaskType

    plan = sample_plan()
    plan = replace(plan, data=replace(plan.data, task=task))
    said = json.loads(adapter_config(plan.candidates[1], plan))["task_type"]
    assert said is None or said in TaskType.__members__


def test_how_it_was_done_is_what_the_protocol_did() -> None:
    """The rule of halving, and what intervals are made of: with fewer than three seeds, items alone."""
    found = sample_analysis()
    told = " ".join(how(found))
    assert "of the sets beyond the best 50% those were dropped that lay more than 2 standard errors" in told
    assert "10,000 bootstrap resamples of the items and Student's t over the seeds" in told
    two = replace(found.plan, protocol=replace(found.plan.protocol, seeds=(0, 1)))
    assert "bootstrap resamples of the items alone, Holm" in " ".join(how(replace(found, plan=two)))


def test_commands_are_quoted() -> None:
    """Words that a shell would read otherwise are quoted, and control characters are shown as such."""
    plan = sample_plan()
    words = ["lora-probe", "pilot", "my model", "--data", "a;b.jsonl", "\x1b"]
    said = pilot_command(replace(plan, command=tuple(words)))
    assert shlex.split(said) == [*words[:-1], "\\x1b"]
    odd = replace(plan.candidates[1], targets="attention+mlp$")
    assert "'attention+mlp$'" in export_command(odd, plan)


def test_python_s_call_is_given_where_python_asked() -> None:
    """Without a command line the call is shown, with everything that is not a default."""
    said = pilot_command(sample_plan())
    assert said.startswith(
        "lora_probe.pilot('somebody/a-model', 'notes.jsonl', out=…, candidates=['all-linear'"
    )
    for argument in ("steps=60", "max_length=128", "learning_rate=0.0004", "full=True", "engine='stacked'"):
        assert argument in said
    assert "batch_size" not in said
    assert "task=" not in said


def test_python_s_call_names_every_file() -> None:
    """Several files are given as the list that they came as."""
    plan = sample_plan()
    data = replace(plan.data, source="a.jsonl, b.jsonl", sources=("a.jsonl", "b.jsonl"))
    said = pilot_command(replace(plan, data=data))
    assert said.startswith("lora_probe.pilot('somebody/a-model', ['a.jsonl', 'b.jsonl'], out=…")


def test_python_s_call_quantizes_nothing_that_is_stored_so() -> None:
    """How a checkpoint came is no option: only what was asked for is asked for again."""
    plan = sample_plan()
    for stored, asked in (("gptq", False), ("8bit", True)):
        said = pilot_command(replace(plan, model=replace(plan.model, quantization=stored)))
        assert ("quantization=" in said) is asked


def test_python_s_call_says_how_model_and_data_were_read() -> None:
    """Task, commit, element type, device, columns and split are given where they are no defaults."""
    plan = sample_plan()
    read = {"columns": {"text": "body", "label": "label"}, "train_on": "auto", "split": "test[:5%]"}
    data = replace(plan.data, task=Task.SEQUENCE_CLASSIFICATION, options=read, retention="old.txt")
    sets = tuple(
        replace(each, lora={**each.lora, "bias": "all", "modules_to_save": ["score"]}) if each.lora else each
        for each in plan.candidates
    )
    model = replace(plan.model, dtype="bfloat16", quantization="4bit")
    said = pilot_command(replace(plan, model=model, data=data, candidates=sets, device="cuda"))
    given = {
        word.arg: ast.literal_eval(word.value)
        for word in ast.parse(said.replace("out=…", "out=''")).body[0].value.keywords  # type: ignore[attr-defined]
    }
    assert given["task"] == "sequence-classification"
    assert given["revision"] == plan.model.revision
    assert (given["dtype"], given["quantization"], given["device"]) == ("bfloat16", "4bit", "cuda")
    assert given["columns"] == {"text": "body"}
    assert (given["data_split"], given["retention"]) == ("test[:5%]", "old.txt")
    assert given["lora"] == {"bias": "all"}
    assert given.keys() <= {"out", "candidates", *PilotOptions.__annotations__}


def test_csv_is_exact() -> None:
    """One line an arm, nothing rounded, unknown values empty."""
    rows = list(csv.DictReader(StringIO(pilot_csv(sample_analysis()))))
    assert [row["candidate"] for row in rows] == [row.candidate for row in sample_analysis().leaderboard]
    by_name = {row["candidate"]: row for row in rows}
    assert float(by_name["mlp"]["test_loss"]) == BASE_LOSS - 0.78
    assert by_name["qv"]["test_loss"] == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (47, "47 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (-1, "0 s"),
    ],
)
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    """Seconds, minutes or hours, never a negative time."""
    assert duration(seconds) == said


def test_differences_have_a_sign() -> None:
    """Better is below 0, exactly nothing has no sign, and what is not known is not shown."""
    assert [signed(each) for each in (0.0, 0.01, -0.01, None)] == ["0", "+0.0100", "-0.0100", ""]


def test_a_narrow_terminal_keeps_figures_whole() -> None:
    """At 80 columns no number is broken over two lines."""
    text = _in_terminal(sample_analysis(), width=80)
    for row in sample_analysis().leaderboard:
        assert exact(row.trainable_parameters) in text
        assert loss_text(row.test_loss) in text


def test_alpha_and_what_is_left_over_are_told() -> None:
    """How a pilot was done includes alpha by rank, and what whole ranks leave of the common budget."""
    found = sample_analysis()
    sets = [
        replace(each, left_over=43_520 - each.trainable_parameters) if each.rank else each
        for each in found.plan.candidates
    ]
    told = " ".join(how(replace(found, plan=replace(found.plan, candidates=tuple(sets)))))
    assert "Alpha is 2 times the rank." in told
    unspent = "mlp 512, attention 1,088, qv 512, o+down 512"
    assert f"Parameters of the common budget that whole ranks leave unspent: {unspent}." in told
