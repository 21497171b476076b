"""What is read is what was written; what cannot be read is named by file, line and field."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.data import parse_spec, read_documents
from whence.errors import DataError


def lines(path, *rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def parquet(path, rows) -> str:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.Table.from_pylist(rows), path)
    return str(path)


values = st.dictionaries(
    st.text(min_size=1).filter(lambda k: k not in {"text", "prompt", "completion"}),
    st.integers() | st.text() | st.none(),
)


@given(st.lists(st.tuples(st.text(), values), min_size=1, max_size=5))
def test_a_line_comes_back_with_its_place_and_metadata(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("data") / "a.jsonl"
    path.write_text("\n\n".join(json.dumps({"text": text, **metadata}) for text, metadata in rows), newline="\n")
    raw = path.read_bytes()
    documents = list(read_documents(str(path)))
    assert [(d.text, d.metadata) for d in documents] == rows
    assert [d.row for d in documents] == [2 * n for n in range(len(rows))]
    for document in documents:
        assert json.loads(raw[document.offset : document.offset + document.size])["text"] == document.text


def test_every_kind_of_file(tmp_path):
    rows = [{"text": "one", "n": 1}, {"text": "zwei", "n": None}]
    lines(tmp_path / "a.jsonl", *rows)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    parquet(tmp_path / "c.parquet", rows)
    (tmp_path / "d.txt").write_text("\ufeffdrei\nvier")
    (tmp_path / "e.md.gz").write_bytes(gzip.compress(b"five"))
    tables = list(read_documents(str(tmp_path / "[abc].*")))
    assert [d.text for d in tables] == ["one", "zwei"] * 3
    assert [d.metadata for d in tables] == [{"n": 1}, {"n": None}] * 3
    assert [d.name.rpartition("/")[2] for d in tables[1::2]] == [
        "a.jsonl, line 2",
        "b.jsonl.gz, line 2",
        "c.parquet, row 2",
    ]
    texts = list(read_documents(str(tmp_path / "[de].*")))
    assert [d.text for d in texts] == ["drei\nvier", "five"]
    assert texts[0].name == str(tmp_path / "d.txt")
    assert tables[0].hash == tables[2].hash != tables[1].hash


def test_a_folder_is_its_tables_and_a_readme_is_not_data(tmp_path):
    lines(tmp_path / "b/two.jsonl", {"text": "2"})
    lines(tmp_path / "a/one.jsonl", {"text": "1"})
    lines(tmp_path / ".cache/three.jsonl", {"text": "3"})
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "LICENSE").write_text("mine")
    spec = parse_spec(str(tmp_path))
    assert [d.text for d in read_documents(spec)] == ["1", "2"]
    assert [path.name for path in spec.left_out] == ["README.md"]


def test_splits_and_rows(tmp_path):
    lines(tmp_path / "train-0.jsonl", *({"text": f"t{n}"} for n in range(3)))
    lines(tmp_path / "train-1.jsonl", *({"text": f"t{n}"} for n in range(3, 6)))
    lines(tmp_path / "test/x.jsonl", {"text": "x"})

    def read(tail: str, limit: int | None = None) -> list[str | None]:
        return [d.text for d in read_documents(f"{tmp_path}{tail}", limit)]

    assert read("#train") == [f"t{n}" for n in range(6)]
    assert read("#train[2:4]") == ["t2", "t3"]
    assert read("#test") == ["x"]
    assert read("#[6:]") == ["t5"]  # test/x.jsonl comes first
    assert read("#train", limit=2) == ["t0", "t1"]
    assert read("/train-0.jsonl#[:1]") == ["t0"]
    assert read("/*.jsonl#[5:]") == ["t5"]
    with pytest.raises(DataError, match="no split 'dev'") as caught:
        read("#dev")
    assert "test, train" in str(caught.value.hint)
    for tail, says in [
        ("#train[4:4]", "are no rows"),
        ("#train[a:b]", "not a split or a range"),
        ("/train-0.jsonl#x", "one file"),
    ]:
        with pytest.raises(DataError, match=says):
            read(tail)


def test_a_file_may_have_a_hash_in_its_name(tmp_path):
    lines(tmp_path / "c#[1:2].jsonl", {"text": "yes"})
    assert [d.text for d in read_documents(str(tmp_path / "c#[1:2].jsonl"))] == ["yes"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"text": "a"', ["line 3 is not JSON", "column"]),
        ("[1]", ["line 3 is a JSON list"]),
        ('{"txt": "a"}', ['line 3 lacks the column "text"', 'it has "txt"', "--column text=txt"]),
        ("{}", ['lacks the column "text"', "no columns"]),
        ('{"text": null}', ['line 3: the column "text" holds null']),
        ('{"text": 5}', ["holds a number"]),
        ('{"prompt": "a"}', ['line 3 lacks the column "completion"']),
        ('{"completion": "a"}', ['line 3 lacks the column "prompt"']),
        ('{"prompt": "a", "completion": ""}', ['line 3: the column "completion" is empty']),
        (
            '{"prompt": "a", "completion": "b", "text": "ab"}',
            ["could be read in two ways", '"prompt", "completion", "text"', "--column text=text"],
        ),
        ('{"text": "\\ud800"}', ["half a surrogate pair"]),
        ('{"text": ' + "9" * 5000 + "}", ["line 3"]),
        ("[" * 100_000, ["line 3"]),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, says):
    path = lines(tmp_path / "a.jsonl", {"text": "fine"}, "", row)
    with pytest.raises(DataError) as caught:
        list(read_documents(path))
    assert str(caught.value).startswith(path)
    assert all(text in str(caught.value) for text in says), caught.value


def test_a_table_without_the_field_is_named(tmp_path):
    with pytest.raises(DataError, match=r'c\.parquet, row 1 lacks the column "text"'):
        list(read_documents(parquet(tmp_path / "c.parquet", [{"body": "a"}])))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "holds no documents"),
        ("a.jsonl", b"\n \n", "holds no documents"),
        ("a.jsonl", b'{"text": "\xff"}', "line 1 is not UTF-8"),
        ("a.txt", b"one\n\xff", "line 2 is not UTF-8"),
        ("a.jsonl.gz", b"not packed", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)[:-12], "cannot be read"),
        ("a.parquet", b"not a table", "not a whole Parquet file"),
        ("a.bin", b"x", r"ending in \.bin are not read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        list(read_documents(str(tmp_path / name)))
    assert name in str(caught.value)


def test_what_is_missing_is_named_with_what_is_near(tmp_path):
    lines(tmp_path / "train.jsonl", {"text": "a"})
    with pytest.raises(DataError, match=r"trian\.jsonl") as caught:
        parse_spec(str(tmp_path / "trian.jsonl"))
    assert f"did you mean {tmp_path / 'train.jsonl'}?" in str(caught.value.hint)
    with pytest.raises(DataError, match="no file"):
        parse_spec(str(tmp_path / "none/x.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file that can be read"):
        parse_spec(str(tmp_path / "empty"))
