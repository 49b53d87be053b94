"""A file in the place of a config.json may be anything: each sort of it ends in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lora_probe.errors import BadConfig, UnreadableFile
from lora_probe.source import locate


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b'{"a": ', "no valid JSON"),
        (b"[1, 2]", "a JSON array"),
        (b"null", "a JSON null"),
        (b"3", "a JSON number"),
        (b'"llama"', "a JSON string"),
        (b"<!doctype html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\x80\x81\x82\xff", "a binary file"),
        (b"PK\x03\x04\0\0\0", "a binary file"),
        (b'{"a":' * 100_000, "nested more than"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than"),
        (b"[" * 100_000, "nested more than"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "no valid JSON"),
    ],
)
def test_what_is_no_config_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    """Each sort of wrong content is named in one line, with the path."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    for model in (tmp_path, path):
        with pytest.raises(BadConfig) as caught:
            locate(model)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_config_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    """A huge file is refused after its first megabytes, whatever it holds."""
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(BadConfig, match="longer than 8 MiB"):
        locate(path)


def test_a_config_with_a_byte_order_mark_or_tagged_floats_is_read(tmp_path: Path) -> None:
    """Editors on Windows add a mark, and transformers writes infinities as tagged strings."""
    path = tmp_path / "config.json"
    path.write_text('{"limit": [0.0, {"__float__": "Infinity"}], "x": {"__float__": "no"}}', "utf-8-sig")
    config: dict[str, Any] = locate(path).config or {}
    assert config == {"limit": [0.0, float("inf")], "x": {"__float__": "no"}}


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A FIFO that nobody writes to, a device and a folder in the place of a file end at once."""
    os.mkfifo(tmp_path / "fifo")
    folder = tmp_path / "model"
    folder.joinpath("config.json").mkdir(parents=True)
    for path in (tmp_path / "fifo", Path("/dev/zero"), folder):
        with pytest.raises(UnreadableFile, match=r"not a regular file|Is a directory"):
            locate(path)


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    """A loop of symbolic links is reported in the system's words."""
    loop = tmp_path / "config.json"
    loop.symlink_to(loop)
    for model in (loop, tmp_path):
        with pytest.raises(UnreadableFile, match="symbolic links"):
            locate(model)


def test_what_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal by the system is one sentence that names the path."""
    tmp_path.joinpath("config.json").write_text("{}")

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableFile, match=r"config\.json: Permission denied") as caught:
        locate(tmp_path)
    assert isinstance(caught.value, OSError)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UnreadableFile, match=f"{tmp_path.name}: Permission denied"):
        locate(tmp_path)
