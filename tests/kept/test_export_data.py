"""The user's own data with a score column: every other byte, row and field as it was, in each kind of file."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import whence as wh
from whence.data.documents import read_documents
from whence.data.spec import parse_spec
from whence.errors import DataError, StorageError
from whence.jobs.export import export
from whence.jobs.export.data import Scored
from whence.jobs.export.job import write_data

TEXTS = ["a cat", "naïve — 猫", "=1+1", "line\nbreak", 'quote "me"']


def scored(spec, names=("influence",), columns=None, limit=None):
    """What the rows of a spec would get: their numbers in order, a tenth of them, a column's number added."""
    hashes = [document.hash for document in read_documents(str(spec), limit, columns)]
    values = np.array([[k / 10 + c for k in range(len(hashes))] for c in range(len(names))])
    return Scored(tuple(names), values, pa.chunked_array([hashes]), parse_spec(str(spec)).start, columns or {})


def added(spec, into, **more):
    write_data(parse_spec(str(spec)), into, scored(spec, **more))
    return into


def test_json_lines_keep_every_other_byte(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [json.dumps({"text": text, "n": 1.50}, ensure_ascii=k % 2 == 0) for k, text in enumerate(TEXTS)]
    lines[1] = '{ "text" :"spaced",  "big": 123456789012345678901234567890, "e": 1E5 }  '
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines[:2], "", *lines[2:]]).encode())
    out = added(path, tmp_path / "scored.jsonl")
    before, after = path.read_bytes().split(b"\r\n"), out.read_bytes().split(b"\r\n")
    assert len(before) == len(after)
    rows = [k for k, line in enumerate(before) if line]
    for place, number in enumerate(rows):
        assert after[number].replace(b', "influence": ' + str(place / 10).encode(), b"") == before[number]
        assert json.loads(after[number].decode("utf-8-sig"))["influence"] == place / 10
    assert after[2] == b""


def test_packed_lines_with_several_questions_and_rows_outside_the_range(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode()))
    out = added(f"{path}#[1:4]", tmp_path / "scored.jsonl.gz", names=("s.q1", "s.q2"))
    rows = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["s.q1"] for row in rows] == [None, 0.0, 0.1, 0.2, None]
    assert [row["s.q2"] for row in rows] == [None, 1.0, 1.1, 1.2, None]


@pytest.mark.parametrize(("end", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_cells_keep_every_other_byte(tmp_path, end, delimiter):
    texts = [text for text in TEXTS if end == "csv" or "\n" not in text]
    cell = {"csv": lambda text: '"' + text.replace('"', '""') + '"', "tsv": str}[end]
    lines = [delimiter.join(["text", "id"]), *(f"{cell(text)}{delimiter}{k}" for k, text in enumerate(texts))]
    path = tmp_path / f"train.{end}"
    path.write_bytes("\r\n".join([*lines[:2], "", *lines[2:]]).encode())
    out = added(path, tmp_path / f"scored.{end}")
    expected = [f"{lines[0]}{delimiter}influence"]
    expected += [f"{line}{delimiter}{k / 10}" for k, line in enumerate(lines[1:])]
    assert out.read_bytes().decode() == "\r\n".join([*expected[:2], "", *expected[2:]])


def test_a_json_list_stays_a_list(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"text": text, "deep": {"a": [1]}} for text in TEXTS], indent=2))
    rows = json.loads(added(path, tmp_path / "scored.json").read_text())
    assert rows == [{"text": text, "deep": {"a": [1]}, "influence": k / 10} for k, text in enumerate(TEXTS)]


def test_parquet_keeps_types_and_features(tmp_path):
    features = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}
    schema = pa.schema(
        [("text", pa.string()), ("when", pa.timestamp("s")), ("tags", pa.list_(pa.string()))],
        metadata={"huggingface": json.dumps(features), "own": "kept"},
    )
    table = pa.table([TEXTS, [0] * 5, [["a"], None, [], ["b", "c"], ["d"]]], schema=schema)
    parquet.write_table(table, tmp_path / "train.parquet")
    found = parquet.read_table(added(tmp_path / "train.parquet", tmp_path / "scored.parquet"))
    assert found.drop(["influence"]).equals(parquet.read_table(tmp_path / "train.parquet"))
    assert found["influence"].to_pylist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found.schema.metadata[b"own"] == b"kept"
    page = json.loads(found.schema.metadata[b"huggingface"])
    assert page["info"]["features"]["influence"] == {"dtype": "float64", "_type": "Value"}


def test_a_saved_dataset_becomes_one(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"content": TEXTS, "label": [0, 1, 0, 1, 0]}
    names = datasets.Features({"content": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=names)}).save_to_disk(tmp_path / "saved")
    out = added(f"{tmp_path / 'saved'}#train", tmp_path / "scored", columns={"text": "content"})
    found = datasets.load_from_disk(str(out))
    assert found.features["label"].names == ["no", "yes"]
    assert found.remove_columns("influence").to_dict() == rows
    assert found["influence"][:] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_several_files_become_a_folder_of_the_same_names(tmp_path):
    for name, some in (("a/one.jsonl", TEXTS[:2]), ("b/two.jsonl", TEXTS[2:])):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text("".join(json.dumps({"text": t}) + "\n" for t in some))
    out = added(tmp_path / "data", tmp_path / "scored")
    found = [json.loads(line) for path in sorted(out.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jsonl")) == ["a/one.jsonl", "b/two.jsonl"]
    assert [row["influence"] for row in found] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_refusals_leave_nothing_behind(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": text, "influence": 1}) + "\n" for text in TEXTS))
    (tmp_path / "story.txt").write_text("once upon a time")
    right = scored(path)
    cases = [
        (lambda: added(path, tmp_path / "scored.jsonl"), DataError, 'line 1 has a column "influence" already'),
        (lambda: added(path, tmp_path / "scored.csv", names=("s",)), DataError, "does not end as"),
        (lambda: added(path, path, names=("s",)), StorageError, "is the training data itself"),
        (lambda: added(path, tmp_path, names=("s",)), StorageError, "is there already"),
        (lambda: added(tmp_path / "story.txt", tmp_path / "s.txt"), DataError, "has no rows"),
    ]
    for attempt, kind, words in cases:
        with pytest.raises(kind, match=words):
            attempt()
    lines = path.read_text().splitlines()
    changed = [*lines[:3], lines[3].replace("line", "other"), lines[4]]
    for text, words in ((changed, "line 4 is not what was scored"), (lines[:-1], "1 row fewer than were scored")):
        path.write_text("\n".join(text) + "\n")
        with pytest.raises(DataError, match=words):
            write_data(
                parse_spec(str(path)), tmp_path / "scored.jsonl", Scored(("s",), right.values, right.hashes, 0, {})
            )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["story.txt", "train.jsonl"]


def test_a_run_gives_its_own_data_their_scores(home, tmp_path):
    export(home / "a", into=tmp_path / "scored.jsonl", questions=["q2"])
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    run = wh.open(home / "a")
    assert [row.pop("influence") for row in rows] == (run.raw(1) / run.train_size).tolist()
    assert rows == [json.loads(line) for line in (home / "train.jsonl").read_text().splitlines()]


def test_the_command(home, tmp_path, monkeypatch, capsys):
    from whence.cli import main

    def command(*words):
        with pytest.raises(SystemExit) as ended:
            main(["export", str(home / "a"), *map(str, words)])
        return ended.value.code, *capsys.readouterr()

    code, out, _ = command("--into", tmp_path / "s.jsonl", "--score-column", "s", "--question", "q1", "--json")
    assert code == 0
    assert json.loads(out) == {
        "path": str(tmp_path / "s.jsonl"), "rows": 24, "questions": ["q1"], "columns": ["s"], "unit": "nats per copy",
    }  # fmt: skip
    (home / "train.jsonl").rename(home / "moved.jsonl")
    try:
        code, out, err = command("--into", tmp_path / "t.jsonl")
        assert (code, out) == (1, "")
        assert "hint: --train says where" in err
        code, out, err = command("--into", tmp_path / "t.jsonl", "--train", home / "moved.jsonl")
        assert code == 0
        assert out.startswith(f"{tmp_path / 't.jsonl'}: 24 rows, 3 questions")
    finally:
        (home / "moved.jsonl").rename(home / "train.jsonl")
