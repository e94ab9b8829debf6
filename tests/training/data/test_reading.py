import csv
import hashlib
import json
from types import SimpleNamespace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taia.errors import DataError, DownloadError
from taia.training.data import BadRow, Row, RowTurn, Source, read_source
from taia.training.data.source import HubName

ALPACA = [{"instruction": "a", "input": "", "output": "b"}, {"instruction": "c", "output": "d"}]
ROWS = [
    Row((RowTurn("user", "a"), RowTurn("assistant", "b", True))),
    Row((RowTurn("user", "c"), RowTurn("assistant", "d", True))),
]


def lines(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **options):
    return read_source(Source(str(path)), **options)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a.json", Source("a.json")),
        ("a.json:0.8", Source("a.json", 0.8)),
        ("a:b.json:2", Source("a:b.json", 2.0)),
        ("C:\\data\\a.json", Source("C:\\data\\a.json")),
        ("org/name@v1:main/train:0", Source("org/name@v1:main/train", 0.0)),
    ],
)
def test_a_source_is_a_name_and_a_weight(text, source):
    assert Source.parse(text) == source


@pytest.mark.parametrize("text", ["", " ", ":0.5", "a:-1", "a:nan", "a:inf"])
def test_a_source_that_is_none_is_refused(text):
    with pytest.raises(DataError):
        Source.parse(text)


def test_a_path_that_exists_has_no_weight(tmp_path):
    path = write(tmp_path / "a:0.5", "x")
    assert Source.parse(str(path)) == Source(str(path))


@pytest.mark.parametrize(
    "name",
    ["a" * 5000 + ".json", "~nobody-of-that-name/rows.json", "rows\0.json", "a" * 300 + "/b.csv"],
)
def test_a_name_that_no_path_can_be_is_a_file_that_does_not_exist(name):
    for text in (name, f"{name}:0.5"):
        source = Source.parse(text)
        assert (source.given, source.path) == (name, None)
        with pytest.raises(DataError, match="does not exist"):
            read_source(source)


def test_hub_names_have_a_revision_a_configuration_and_a_split():
    assert HubName.parse("org/name") == HubName("org/name", None, None, "train")
    assert HubName.parse("o/n@v1.0:main/test") == HubName("o/n", "v1.0", "main", "test")
    assert HubName.parse("o/n:validation") == HubName("o/n", None, None, "validation")
    assert HubName.parse("/tmp/x") is None
    assert HubName.parse("../x") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", json.dumps(ALPACA)),
        ("bom.json", b"\xef\xbb\xbf" + json.dumps(ALPACA).encode()),
        ("indented.json", json.dumps(ALPACA, indent=2).replace("\n", "\r\n")),
        ("data.json", json.dumps({"data": ALPACA, "version": 1})),
        ("lines.json", lines(ALPACA)),
        ("lines.jsonl", "\n" + lines(ALPACA).replace("\n", "\r\n\r\n") + "\r\n"),
        ("list.jsonl", json.dumps(ALPACA)),
        ("one.json", json.dumps(ALPACA, indent=1)),
        ("indented.jsonl", json.dumps(ALPACA, indent=1)),
        ("table.csv", "instruction,output\r\na,b\r\n\r\nc,d\r\n"),
        ("table.tsv", "output\tinstruction\nb\ta\nd\tc\n"),
    ],
)
def test_every_container_gives_the_same_rows(tmp_path, name, content):
    path = write(tmp_path / name, content)
    rows = read(path)
    assert (rows.rows, rows.format, rows.bad) == (ROWS, "alpaca", ())
    assert rows.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_parquet_saved_data_sets_and_folders_give_the_same_rows(tmp_path):
    pq.write_table(pa.Table.from_pylist(ALPACA), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").rows == ROWS
    datasets.Dataset.from_list(ALPACA).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=datasets.Dataset.from_list(ALPACA)).save_to_disk(tmp_path / "dict")
    assert read(tmp_path / "saved").rows == read(tmp_path / "dict").rows == ROWS
    write(tmp_path / "parts" / "b.jsonl", lines(ALPACA[1:]))
    write(tmp_path / "parts" / "a" / "a.json", json.dumps(ALPACA[:1]))
    write(tmp_path / "parts" / "README.md", "text")
    folder = read(tmp_path / "parts")
    assert (folder.rows, list(folder.places)) == (ROWS, ["a/a.json, row 1", "b.jsonl, line 1"])
    before = folder.sha256
    write(tmp_path / "parts" / "b.jsonl", lines(ALPACA))
    assert read(tmp_path / "parts").sha256 != before
    write(tmp_path / "parts" / "test.jsonl", lines(ALPACA))
    with pytest.raises(DataError, match="not for training"):
        read(tmp_path / "parts")


def test_cells_may_hold_lines_quotes_and_more_than_csv_allows_by_itself(tmp_path):
    answer = 'He said "no",\nthen left. ' + "x" * 200_000
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "completion"], ["a", answer], ["b"], ["c", "d"]])
    before = csv.field_size_limit()
    rows = read(tmp_path / "a.csv", on_bad_row="skip")
    assert rows.rows[0].turns[1].content == answer
    assert rows.bad == (BadRow(4, "1 columns, where 2 are named", "line 4"),)
    assert list(rows.places) == ["line 2", "line 5"]
    assert csv.field_size_limit() == before


BAD = [*ALPACA, {"instruction": "x"}, [], {"instruction": "", "output": "y"}, 3]


def test_bad_rows_are_numbered_and_stop_or_are_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", "\n" + lines(BAD) + "\n{oops\n" + lines(ALPACA))
    rows = read(path, on_bad_row="skip")
    assert rows.rows == ROWS * 2
    assert [bad.number for bad in rows.bad] == [4, 5, 6, 7, 8]
    assert [bad.why for bad in rows.bad[:2]] == ["'output' is missing", "not an object with keys"]
    with pytest.raises(DataError) as caught:
        read(path, limit_shown=2)
    assert caught.value.problem == (
        f"{path}: 5 of 9 rows cannot be used. line 4: 'output' is missing; "
        "line 5: not an object with keys; and 3 more."
    )
    with pytest.raises(DataError, match=r"row 3: 'output' is missing"):
        read(write(tmp_path / "a.json", json.dumps(BAD)))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("empty.json", "", "is empty"),
        ("blank.jsonl", "\ufeff \n\n", "is empty"),
        ("none.json", "[]", "holds no rows"),
        ("number.json", "3", "holds no rows"),
        ("broken.json", '[{"text": "a"},\n{"text" "b"}]', r"is not JSON: .*line 2"),
        ("broken.jsonl", "{oops", r"line 1: not JSON"),
        ("deep.json", "[" * 200_000, "nested too deeply"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "\xe9"}', "line 2 is not UTF-8: byte 0xe9"),
        ("utf16.json", json.dumps(ALPACA).encode("utf-16"), "begins as UTF-16"),
        ("head.csv", "prompt,completion\n", "holds no rows"),
        ("twice.csv", "text,text\na,b\n", "column"),
        ("quote.csv", 'text\n"a\n', "line 2 is not CSV"),
        ("not.parquet", b"PAR1nothing", "is not Parquet"),
        ("rows.txt", "text", "not a kind of file"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, why):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=why) as caught:
        read(path)
    assert name in caught.value.problem
    assert "\n" not in caught.value.problem


def test_a_missing_file_or_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "no.json")
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "no")
    with pytest.raises(DataError, match="holds no data"):
        read(tmp_path)


def test_a_format_that_is_not_certain_is_not_guessed(tmp_path):
    both = write(tmp_path / "both.json", json.dumps([{**ALPACA[1], "text": "all"}]))
    with pytest.raises(DataError, match=r"alpaca or text.*instruction, output, text"):
        read(both)
    assert read(both, format="alpaca").rows == ROWS[1:]
    assert read(both, format="text").rows == [Row((RowTurn("text", "all", True),), chat=False)]
    with pytest.raises(DataError, match=r"no known format\. Their keys: ask, reply"):
        read(write(tmp_path / "x.json", json.dumps([{"ask": "a", "reply": "b"}])))
    with pytest.raises(DataError, match="is not a format"):
        read(both, format="alpacca")


def test_the_keys_of_all_first_rows_count(tmp_path):
    rows = [{"text": None, "messages": [{"role": "assistant", "content": "b"}]}, {"text": "a"}]
    with pytest.raises(DataError, match="messages or text"):
        read(write(tmp_path / "a.json", json.dumps(rows)))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": []}, "not a list of messages"),
        ({"messages": ["a"]}, "message 1 of 'messages' is not an object"),
        ({"messages": [{"role": "user", "content": "a"}]}, "no answer to learn"),
        ({"messages": [{"role": "narrator", "content": "a"}]}, 'role "narrator"'),
        ({"messages": [{"role": "assistant", "content": 3}]}, "not text but 3"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "is empty"),
        ({"messages": [{"role": "assistant", "content": "\ud800"}]}, "surrogate"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "calls tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "other than text"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "entry 1 of 'history'"),
        ({"prompt": "a", "completion": ["b"]}, "'prompt' is not a list of messages"),
        ({"question": "a", "answer": ["b"]}, "'answer' is not text"),
    ],
)
def test_a_bad_row_says_why(tmp_path, row, why):
    good = {"messages": [{"role": "assistant", "content": "b"}]}
    rows = [row, good] if "messages" in row else [row]
    with pytest.raises(DataError) as caught:
        read(write(tmp_path / "a.json", json.dumps(rows)))
    assert f"row 1: {why}" in caught.value.problem or why in caught.value.problem


class Hub:
    """A data set on a hub of one."""

    hash = "0123abcd"

    def __init__(self, name, config, revision):
        if name != "org/name":
            raise ConnectionError("Couldn't reach it")
        assert (config, revision) == ("main", "v1")
        self.info = SimpleNamespace(splits={"train": None})

    def download_and_prepare(self):
        pass

    def as_dataset(self, split):
        return datasets.Dataset.from_list(ALPACA)


def test_a_hub_name_is_read_through_datasets_and_a_path_never_is(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *a, **k: Hub(*a, **k))
    rows = read_source(Source("org/name@v1:main/train"))
    assert (rows.rows, rows.sha256) == (ROWS, "0123abcd")
    with pytest.raises(DataError, match="no split 'test', but train"):
        read_source(Source("org/name@v1:main/test"))
    with pytest.raises(DownloadError, match="Couldn't reach it"):
        read_source(Source("org/other"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "org" / "other" / "a.json", json.dumps(ALPACA))
    assert read_source(Source("org/other")).rows == ROWS
