"""Run the benchmarks and write their two reports: ``python -m tests.benchmarks.report``."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lora_probe.report.wording import TIMES
from tests.benchmarks.bench_targets import WAYS
from tests.benchmarks.pilot_subjects import LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports"
COMMAND = "python -m tests.benchmarks.report"
PACKAGES = ("torch", "transformers", "peft", "click", "rich")
LARGEST = "cold scan of "
AIMS: Mapping[str, str] = {
    "cold scan": f"≤ 1.15{TIMES} the bare script",
    "repeated scan": "≤ 0.5 s",
    LARGEST: f"≤ 1.3{TIMES} the cold scan, < 1.2 GiB",
}
PILOT_WAYS = (
    "engine",
    "one stack",
    "PEFT loops",
    "two PEFT processes",
    "two stacking processes",
    "frozen base",
)
PILOT_AIMS = {
    (1, 16, LAYERS): f"≥ 2.7{TIMES}",
    (1, 64, LAYERS): f"≥ 2.0{TIMES}",
    (2, 128, LAYERS): f"≥ 1.3{TIMES}",
    (4, 256, LAYERS): "within 3% of the faster rival",
    (2, 128, LAYERS // 4): f"≥ 2.0{TIMES}",
}


def main() -> None:
    """Measure and write both reports, or the one that is named."""
    parts = {"benchmarks": _benchmarks, "pilot_benchmarks": _pilots}
    for name in sys.argv[1:] or parts:
        load = os.getloadavg()[0]
        records = measure(pilots=name == "pilot_benchmarks")
        report = REPORTS / f"{name}.md"
        report.parent.mkdir(exist_ok=True)
        report.write_text("\n".join([*_head(name, load), *parts[name](records), ""]), encoding="utf-8")
        sys.stdout.write(f"wrote {report.relative_to(ROOT)}\n")


def measure(*, pilots: bool) -> list[dict[str, Any]]:
    """Run the benchmarks of one report and return what pytest-benchmark recorded of each."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        files = sorted(Path(__file__).parent.glob("bench_*.py"))
        chosen = [str(path) for path in files if (path.name == "bench_pilot.py") is pilots]
        options = ["-q", "-m", "bench", "-p", "no:xdist", f"--benchmark-json={record}"]
        subprocess.run([sys.executable, "-m", "pytest", *options, *chosen], cwd=ROOT, check=True)
        benchmarks: list[dict[str, Any]] = json.loads(record.read_text())["benchmarks"]
        return benchmarks


def _head(name: str, load: float) -> Iterator[str]:
    yield "# Benchmarks of pilots" if name == "pilot_benchmarks" else "# Benchmarks"
    yield ""
    yield f"Written by `make bench` (`{COMMAND} {name}`), all in one run on one machine:"
    yield ""
    yield from (f"- {fact}" for fact in _machine(load))
    yield ""


def _benchmarks(records: list[dict[str, Any]]) -> Iterator[str]:
    yield from _commands(records)
    yield ""
    yield from _walks(records)
    yield ""
    yield from _budgets(records)
    yield ""
    yield from _counts(records)
    yield ""
    yield from _emissions(records)


def _machine(load: float) -> Iterator[str]:
    processor = re.search(r"model name\s*: (.*)", _text("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", _text("/proc/meminfo"))
    size = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    name = processor[1] if processor else platform.machine()
    yield f"{name}, {os.cpu_count()} cores{size}, {platform.system()}"
    yield f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield f"{datetime.now(timezone.utc):%Y-%m-%d}; load average at the start {load:.1f}"


def _commands(records: list[dict[str, Any]]) -> Iterator[str]:
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[str, list[float]] = defaultdict(list)
    peaks: dict[str, int] = {}
    for record in records:
        facts = record["extra_info"]
        if "subject" in facts:
            seconds[facts["subject"]].append(record["stats"]["min"])
            cpu[facts["subject"]].append(facts["cpu_seconds"])
        if "peak_kib" in facts:
            peaks[facts["subject"]] = facts["peak_kib"]
    middle = {subject: median(times) for subject, times in seconds.items()}
    bare, cold = middle["bare script"], middle["cold scan"]
    rounds = len(seconds["cold scan"])
    yield "## Commands"
    yield ""
    yield (
        f"Medians of {rounds} rounds of fresh processes, every subject once a round. The bare script imports "
        "torch and transformers and builds meta-llama/Llama-3.1-8B on the meta device; the scans without a "
        "name are of the same model. No network is used. Ratios are of the medians; processor time tells how "
        "much of the time was work. Memory is the largest resident size, in a run apart."
    )
    yield ""
    yield "| what | median | range | to the bare script | to the cold scan | processor | memory | aim |"
    yield "|:--|--:|--:|--:|--:|--:|--:|:--|"
    for subject, times in seconds.items():
        aim = AIMS.get(subject) or (AIMS[LARGEST] if subject.startswith(LARGEST) else "")
        yield (
            f"| {subject} | {middle[subject]:.2f} s | {min(times):.2f} to {max(times):.2f} s "
            f"| {middle[subject] / bare:.2f}{TIMES} | {middle[subject] / cold:.2f}{TIMES} "
            f"| {median(cpu[subject]):.2f} s | {peaks[subject] / 1024:.0f} MiB | {aim} |"
        )


def _walks(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Walking a model that is already built"
    yield ""
    yield (
        "`lora_probe.scan` of a live Llama on the meta device with 1, 4 and 16 times as many layers; linear "
        "means that the time for each module stays the same."
    )
    yield ""
    yield "| layers | modules | median | for each module |"
    yield "|--:|--:|--:|--:|"
    for facts, stats in _of(records, "layers"):
        layers, modules, seconds = facts["layers"], facts["modules"], stats["median"]
        yield f"| {layers} | {modules:,} | {1e3 * seconds:.1f} ms | {1e6 * seconds / modules:.1f} µs |"


def _budgets(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Budgets of a model that is already scanned"
    yield ""
    yield "Rows of `lora_probe.budget` for meta-llama/Llama-3.1-8B, each with the exact bytes of its file."
    yield ""
    yield "| what | rows | median | range | aim for 1,000 rows |"
    yield "|:--|--:|--:|--:|--:|"
    for facts, stats in _of(records, "budget"):
        yield (
            f"| {facts['budget']} | {facts['rows']:,} | {stats['median']:.2f} s "
            f"| {stats['min']:.2f} to {stats['max']:.2f} s | < 1 s |"
        )


def _counts(records: list[dict[str, Any]]) -> Iterator[str]:
    times: defaultdict[str, dict[str, float]] = defaultdict(dict)
    trained: defaultdict[str, set[int]] = defaultdict(set)
    for facts, stats in _of(records, "counted"):
        times[facts["counted"]][facts["way"]] = stats["median"]
        trained[facts["counted"]].add(facts["parameters"])
    yield "## One target set beside a dry run of PEFT"
    yield ""
    yield (
        "meta-llama/Llama-3.1-8B: resolved and counted from the graph, with all that is worked out for it; "
        "and injected by PEFT into the same model on the meta device and counted there. Medians."
    )
    yield ""
    yield "| targets | parameters | resolved and counted | injected by PEFT | ratio | aim |"
    yield "|:--|--:|--:|--:|--:|--:|"
    for targets, by_way in times.items():
        ours, theirs = (by_way[way] for way in WAYS)
        found = " or ".join(f"{count:,}" for count in sorted(trained[targets]))
        yield (
            f"| `{targets}` | {found} | {1e3 * ours:.1f} ms | {1e3 * theirs:.0f} ms "
            f"| {theirs / ours:.0f}{TIMES} | at least 50{TIMES} |"
        )


def _emissions(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "## From weights back to what PEFT is told"
    yield ""
    yield (
        "`lora_probe.emit` for the largest models of the catalogue, the proof by a second resolution over "
        "the whole graph included. Medians."
    )
    yield ""
    yield "| model | targets | weights | told as | median | worst | aim |"
    yield "|:--|:--|--:|:--|--:|--:|--:|"
    for facts, stats in _of(records, "emitted"):
        yield (
            f"| {facts['model']} | `{facts['emitted']}` | {facts['sites']:,} | {', '.join(facts['told'])} "
            f"| {1e3 * stats['median']:.0f} ms | {1e3 * stats['max']:.0f} ms | < 1 s |"
        )


def _of(records: list[dict[str, Any]], key: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the facts and the timings of each record that has the fact `key`."""
    return ((each["extra_info"], each["stats"]) for each in records if key in each["extra_info"])


def _pilots(records: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Trials of a pilot at once"
    yield ""
    yield (
        "One step of all trials of a Llama of 30 million parameters in float32, mixed target sets at rank "
        "8. PEFT loops train one trial after another in one process, with a fused AdamW, over one copy of "
        "the base; two PEFT processes of one thread each share the trials; two stacking processes do so with "
        "the engine. *Frozen base* is one forward and backward of the batch of all trials through the model "
        "alone: no adapter, no optimizer. Medians of five rounds in which every way has its turn, the first "
        "step of a turn left out; ratios are to the PEFT loops."
    )
    yield ""
    yield f"| trials, batch | {' | '.join(PILOT_WAYS)} | aim for the engine |"
    yield f"|:--|{'--:|' * len(PILOT_WAYS)}:--|"
    for record in records:
        if "pilot" in (facts := record["extra_info"]):
            load = facts["pilot"]
            middle = {way: median(times) for way, times in facts["seconds"].items()}
            shape = f"{load['trials']} trials, {load['rows']} {TIMES} {load['tokens']}"
            top = "" if load["top"] == LAYERS else f", top {load['top']} of {LAYERS} layers"
            loops = middle["PEFT loops"]
            cells = " | ".join(
                f"{1e3 * middle[way]:.0f} ms, {loops / middle[way]:.2f}{TIMES}" if way in middle else ""
                for way in PILOT_WAYS
            )
            yield f"| {shape}{top} | {cells} | {PILOT_AIMS[load['rows'], load['tokens'], load['top']]} |"
    yield ""
    for record in records:
        if "pilot" in (facts := record["extra_info"]):
            load = facts["pilot"]
            yield f"- {load['trials']} trials, {load['rows']} {TIMES} {load['tokens']}: {facts['choice']}."
    yield ""
    for record in records:
        if "alone" in (facts := record["extra_info"]):
            ours, bare = median(facts["seconds"]["engine"]), median(facts["seconds"]["bare"])
            yield (
                f"- A whole step of one trial of {facts['alone']} takes {ours / bare:.2f}{TIMES} the bare "
                f"forward and backward of PEFT's model (aim: under 1.05{TIMES})."
            )


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
