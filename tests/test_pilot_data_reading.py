"""Rows out of files as people have them, and one sentence for each way in which a file is broken."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.errors import LoraProbeError
from lora_probe.piloting.data.contents import Contents, read_contents
from lora_probe.piloting.data.reading import read_files
from lora_probe.piloting.data.rows import Rows
from lora_probe.piloting.data.sources import find_sources
from lora_probe.piloting.errors import BadDataOption, BadExample, DataNotFound, MissingColumn, UnreadableData
from lora_probe.piloting.records import Task
from tests.trl_cases import turn

if TYPE_CHECKING:
    from pathlib import Path

ROWS: tuple[dict[str, Any], ...] = ({"text": "2024-01-31", "note": "NA"}, {"text": "null", "note": "a, b\nc"})


def read(path: Path, *, task: Task = Task.CAUSAL_LM, unit: str = "paragraph", **mapped: str) -> Contents:
    """Return what the rows of a file or a folder say."""
    found = find_sources(str(path))
    assert not isinstance(found, str)
    return read_contents(
        read_files(found, limit=1000, text_unit=unit), task=task, mapped=mapped, source="data"
    )


def texts(contents: Contents) -> list[str]:
    """Return the text of each row."""
    return [content.cells["text"] for content in contents.contents]


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write a Parquet file."""
    from datasets import Dataset

    Dataset.from_dict(columns).to_parquet(path)


def json_lines(*rows: Any) -> bytes:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def refusal_of(path: Path) -> str:
    """Return the one sentence with which reading a file is refused."""
    with pytest.raises(LoraProbeError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_format_says_the_same(tmp_path: Path) -> None:
    """Texts that look like dates, or like no value, are the same texts out of every format, packed or not."""
    (tmp_path / "a.jsonl").write_bytes(json_lines(*ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json_lines(*ROWS)))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "lines.json").write_bytes(json_lines(*ROWS))
    (tmp_path / "a.csv").write_text('text,note\n2024-01-31,NA\nnull,"a, b\nc"\n')
    (tmp_path / "a.tsv").write_text('text\tnote\n2024-01-31\tNA\nnull\t"a, b\nc"\n')
    (tmp_path / "mark.csv").write_text("text\n2024-01-31\nnull\n", encoding="utf-8-sig")
    (tmp_path / "mark.jsonl").write_bytes("\ufeff".encode() + json_lines(*ROWS))
    (tmp_path / "a.txt").write_text("2024-01-31\n\nnull")
    (tmp_path / "odd [name]*.jsonl").write_bytes(json_lines(*ROWS))
    write_parquet(tmp_path / "a.parquet", {name: [row[name] for row in ROWS] for name in ("text", "note")})
    files = sorted(tmp_path.iterdir())
    assert {file.name: texts(read(file)) for file in files} == {
        file.name: ["2024-01-31", "null"] for file in files
    }


def test_numbers_in_a_table_are_text(tmp_path: Path) -> None:
    """A column of CSV that holds nothing but digits is still text."""
    (tmp_path / "a.csv").write_text("text,label\n007,1\n8,0\n")
    assert texts(read(tmp_path / "a.csv")) == ["007", "8"]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", ["a", "b", "c"]),
        ("paragraph", ["a\nb", "c\n"]),
        ("document", ["a\nb\n\nc\n"]),
    ],
)
def test_plain_text_is_cut_into_units(tmp_path: Path, unit: str, expected: list[str]) -> None:
    """Plain text becomes lines, paragraphs or whole files."""
    (tmp_path / "a.txt").write_text("a\nb\n\nc\n")
    assert texts(read(tmp_path / "a.txt", unit=unit)) == expected


def test_one_object_over_many_lines_is_one_row(tmp_path: Path) -> None:
    """A folder may hold one document a file, written for people to read."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"text": name}, indent=2))
    assert texts(read(tmp_path)) == ["one", "two"]


def test_rows_of_a_table_may_be_shorter_or_quoted(tmp_path: Path) -> None:
    """Missing cells at the end are empty, quotes keep lines and commas, and blank lines are no rows."""
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext,label\r\n"a ""b"", c"\r\n\r\n"d\ne",1\r\nf "g",2\r\n')
    assert texts(read(tmp_path / "a.csv")) == ['a "b", c', "d\ne", 'f "g"']


def test_a_folder_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    """All files of rows below a folder are read once, by name; its README, hidden files and loops are not."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "b.jsonl").write_bytes(json_lines({"text": "three"}))
    (tmp_path / "a.csv").write_text("text\none\n")
    (tmp_path / "sub" / "c.jsonl").write_bytes(json_lines({"text": "four"}))
    (tmp_path / ".cache" / "d.jsonl").write_bytes(json_lines({"text": "no"}))
    (tmp_path / "README.md").write_text("About this data")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.jsonl").symlink_to("self.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    assert texts(read(tmp_path)) == ["one", "three", "four"]
    assert sorted(tmp_path.rglob("*")) == before


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    """No more rows are read than asked for, and it is known whether there were more."""
    (tmp_path / "a.jsonl").write_bytes(json_lines(*({"text": str(n)} for n in range(10))))
    files = find_sources(str(tmp_path))
    assert not isinstance(files, str)
    some, all_of_them = (read_files(files, limit=limit, text_unit="line") for limit in (4, 10))
    assert (len(some.rows), some.more, len(all_of_them.rows), all_of_them.more) == (4, True, 10, False)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "there is no row"),
        ("a.jsonl", b"\n \n", "there is no row"),
        ("a.csv", b"", "there is no row"),
        ("a.csv", b"text\n", "there is no row"),
        ("a.parquet", b"", "there is no row"),
        ("a.txt", b"", "there is no row"),
        ("a.json", b"[]", "there is no row"),
        (
            "a.jsonl",
            b'{"text": "a"}\n\n{"text": b}\n',
            "a.jsonl, line 3: no valid JSON: Expecting value at column 10",
        ),
        ("a.jsonl", b'{"text": "\0"}\n', "line 1: no valid JSON: Invalid control character at column 11"),
        ("a.json", b'[{"text": "a"}, ]', "a.json: no valid JSON"),
        ("a.jsonl", b'["a"]\n', 'line 1: a row must be an object like {"text": …}, not an array'),
        ("a.jsonl", b"5\n", "not a number"),
        ("a.jsonl", b"[" * 100_000, "line 1: its JSON is nested too deeply"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "line 1: no valid JSON"),
        ("a.jsonl", b'{"text": "\xff"}\n', "it is not UTF-8 text (byte 0xff)"),
        ("a.txt", b"a\xff", "it is not UTF-8 text (byte 0xff)"),
        ("a.csv", b"text\n\xff\n", "it is not UTF-8 text (byte 0xff)"),
        ("a.csv", b"text,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
        ("a.csv", b"text,b\n1,2,3\n1,2,3\n", "its rows hold more cells than its heading"),
        ("a.tsv", b"text\n1\t\n", "its rows hold more cells than its heading"),
        ("a.parquet", b"PAR1 or not", "no valid Parquet"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: no valid JSON Lines: Not a gzipped file"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """Whatever is wrong with a file is said once, with the line or the row where it stands."""
    (tmp_path / name).write_bytes(content)
    assert said in refusal_of(tmp_path / name)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a"}, {"text": 5}], "a.jsonl, line 2: its text is 5, not a text"),
        ([{"text": {"a": [1]}}], "line 1: its text is {'a': [1]}, not a text"),
        ([{"text": "\ud800"}], "line 1: it holds half of a surrogate pair"),
        ([{"text": None}, {"text": " "}], "every row is empty"),
        (
            [{"txt": "a", "id": 5}],
            "no column prompt and completion, or messages, or text (for causal-lm): the columns are id, txt;",
        ),
        (
            [{"text": "a"}, {"messages": [turn("user", "b")]}],
            "line 1: it is a row of text among rows of conversation; all rows must be of one kind",
        ),
        ([{"messages": "hi"}], "line 1: its messages is 'hi', not a list of messages"),
        ([{"messages": ["hi"]}], "its messages[0] is 'hi', not a message"),
        ([{"messages": [{"content": "hi"}]}], "messages[0] is a message without a role"),
        ([{"messages": [{"role": "user", "content": 5}]}], "messages[0].content is 5, not a text"),
        ([{"prompt": "a", "completion": [turn("user", "")]}], "not both texts or both"),
    ],
)
def test_rows_that_do_not_fit_are_one_sentence(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    """A cell of the wrong kind, or a row of another layout, is refused with its line."""
    (tmp_path / "a.jsonl").write_bytes(json_lines(*rows))
    assert said in refusal_of(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing.jsonl", "no such file or folder"),
        ("", "no such file or folder"),
        ("a\0b", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("model.bin", "its suffix '.bin' says no format that can be read; files end in .jsonl"),
        ("data.pkl", "its suffix '.pkl' says no format"),
        ("Makefile", "it has no suffix"),
        ("empty", "the folder holds no data; files end in .jsonl"),
    ],
)
def test_what_is_no_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """A name that is no file of a known format, no folder of such and no dataset id is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for file in ("model.bin", "data.pkl", "Makefile"):
        (tmp_path / file).write_bytes(b"\x80\x04")
    with pytest.raises(DataNotFound) as caught:
        find_sources(f"./{name}" if len(name) > 100 else name)
    assert said in str(caught.value)


def test_names_of_datasets_are_told_from_paths() -> None:
    """OWNER/NAME and NAME are ids where no file has that name; with others, an id is refused."""
    assert find_sources("acme/talk-2") == "acme/talk-2"
    assert find_sources(["imdb"]) == "imdb"
    with pytest.raises(DataNotFound, match="must be the only source"):
        find_sources(["imdb", "acme/talk"])
    with pytest.raises(DataNotFound, match="nothing was named"):
        find_sources([])


def test_an_unknown_unit_is_refused() -> None:
    """The units of plain text are a closed set."""
    with pytest.raises(BadDataOption, match="'word' is none of line, paragraph, document"):
        read_files((), limit=1, text_unit="word")


def test_columns_can_be_mapped(tmp_path: Path) -> None:
    """A column of any name can be told to be the text, and it wins over one that is called so."""
    (tmp_path / "a.jsonl").write_bytes(
        json_lines({"text": "no", "body": "yes", "question": "q", "answer": "a"})
    )
    assert texts(read(tmp_path / "a.jsonl", text="body")) == ["yes"]
    asked = read(tmp_path / "a.jsonl", prompt="question", completion="answer").contents[0]
    assert asked.cells == {"prompt": "q", "completion": "a"}
    with pytest.raises(MissingColumn, match=r"no column bod: .* close names: body"):
        read(tmp_path / "a.jsonl", text="bod")
    with pytest.raises(BadDataOption, match=r"column 'txt' means nothing for causal-lm; known are .*text"):
        read(tmp_path / "a.jsonl", txt="body")


def test_repetitions_and_empty_rows_are_counted(tmp_path: Path) -> None:
    """Rows that repeat another one or say nothing are left out, and counted."""
    (tmp_path / "a.jsonl").write_bytes(
        json_lines({"text": "a"}, {"text": ""}, {"id": 1, "text": "a"}, {"text": "b"})
    )
    contents = read(tmp_path / "a.jsonl")
    assert (texts(contents), contents.empty, contents.duplicates) == (["a", "b"], 1, 1)


def test_a_bad_parquet_cell_is_named(tmp_path: Path) -> None:
    """Typed columns of another type are refused with the row."""
    write_parquet(tmp_path / "a.parquet", {"text": [1, 2]})
    with pytest.raises(BadExample, match="row 1: its text is 1, not a text"):
        read(tmp_path / "a.parquet")


def test_a_file_that_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file system refuses is told in its words, and blames no format."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(*ROWS))

    def refuse(*_args: object, **_told: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(UnreadableData, match=r"a\.jsonl: Permission denied$"):
        read(path)


def test_many_columns_are_not_all_listed(tmp_path: Path) -> None:
    """A table of a thousand columns still gives a sentence that can be read."""
    (tmp_path / "a.jsonl").write_bytes(json_lines({f"column{number:04}": 1 for number in range(1000)}))
    with pytest.raises(MissingColumn, match="column0019, …; say which") as caught:
        read(tmp_path / "a.jsonl")
    assert len(caught.value.columns) == 1000
    assert len(str(caught.value)) < 500


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["text", "prompt", "completion", "messages", "label", "tokens", "labels", "x"]),
            JUNK,
            max_size=4,
        ),
        max_size=4,
    ),
    task=st.sampled_from(list(Task)),
)
def test_junk_is_read_or_refused(rows: list[dict[str, Any]], task: Task) -> None:
    """Any JSON at all either has contents, or is refused by an error of the package."""
    made = Rows(rows=tuple(rows), places=tuple(f"row {at}" for at in range(len(rows))))
    with suppress(LoraProbeError):
        contents = read_contents(made, task=task, mapped={}, source="junk")
        assert len(contents.contents) + contents.empty + contents.duplicates == len(rows)
