"""Write ``lora_probe/checks/data/renames.json`` from the conversion rules of the installed transformers.

Run ``python -m tests.check_renames`` after an upgrade; a test says when that is due.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import lora_probe.checks

DATA = Path(lora_probe.checks.__file__).parent / "data" / "renames.json"
_NAME = re.compile(r"[\w.]+")
_STATES = re.compile(r"(norm|Norm|bias|gamma|beta|scale|token|tokens|scale_inv)\d*$")
"""Ends of names that never were modules an adapter goes on."""


def renames() -> dict[str, dict[str, list[str]]]:
    """Return old name -> new names by model type or class: what is a plain renaming or splitting of modules.

    Rules with groups or wildcards are cut down to their ends, as people write them in a list of names.
    """
    from transformers.conversion_mapping import _build_checkpoint_conversion_mapping

    found = {}
    for key, transforms in _build_checkpoint_conversion_mapping().items():
        pairs: dict[str, list[str]] = {}
        for transform in transforms:
            targets = [_plain(pattern) for pattern in _several(transform.target_patterns)]
            for source in map(_plain, _several(transform.source_patterns)):
                if _is_renaming(source, targets):
                    pairs.setdefault(source, targets)
        if pairs:
            found[key] = pairs
    return found


def grouped(by_key: dict[str, dict[str, list[str]]]) -> list[dict[str, object]]:
    """Return the renames with the keys that share them side by side."""
    keys: dict[str, list[str]] = {}
    for key, pairs in by_key.items():
        keys.setdefault(json.dumps(pairs), []).append(key)
    return [{"of": sorted(shared), "names": json.loads(pairs)} for pairs, shared in keys.items()]


def document() -> str:
    """Return the file's text: one group a line."""
    lines = [json.dumps(group) for group in sorted(grouped(renames()), key=lambda group: group["of"])]  # type: ignore[arg-type,return-value]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _several(patterns: str | list[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else patterns


def _plain(pattern: str) -> str:
    """Return the end of `pattern` that is no regular expression, without the parameter's own name."""
    text = re.sub(r"\\?\.(weight|bias)$", "", pattern.lstrip("^").rstrip("$")).replace(r"\.", ".")
    return re.split(r"[^\w.]", text)[-1].strip(".")


def _is_renaming(source: str, targets: list[str]) -> bool:
    names = [source, *targets]
    if not all(names) or not all(map(_NAME.fullmatch, names)) or any(map(_STATES.search, names)):
        return False
    return all(source != target and not source.endswith(f".{target}") for target in targets)


if __name__ == "__main__":
    DATA.write_text(document(), encoding="utf-8")
