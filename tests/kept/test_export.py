"""A run's scores as files: every number and column, in each kind of file; nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.kept.conftest import FORMULA, HOSTILE

import whence as wh
from whence.errors import ArtifactError, InvalidSetting, StorageError
from whence.jobs.export import export
from whence.jobs.export.files import FORMULA as STARTS


@pytest.fixture(scope="module")
def tables(home, tmp_path_factory):
    """The same scores in each kind of file, as rows read back."""
    folder = tmp_path_factory.mktemp("tables")
    for end in ("parquet", "csv", "jsonl"):
        export(home / "a", out=folder / f"a.{end}")
    with (folder / "a.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    return parquet.read_table(folder / "a.parquet"), cells, lines


def test_every_score_of_every_question_is_there(tables, opened):
    table, cells, lines = tables
    raw = opened.documents.ravel()
    assert table["raw"].to_pylist() == raw.tolist()
    assert [float(row["raw"]) for row in cells] == raw.tolist()
    assert [row["raw"] for row in lines] == raw.tolist()
    assert table["question"].to_pylist() == [query.id for query in opened.questions for _ in range(24)]
    assert table["document"].to_pylist() == list(range(24)) * 3
    assert table["per_copy"].to_pylist() == (raw / opened.train_size).tolist()


def test_ranks_and_percentiles_follow_from_scores(tables, opened):
    table = tables[0].to_pandas()
    for number, query in enumerate(opened.questions):
        rows = table[table.question == query.id].sort_values("rank")
        assert rows["rank"].tolist() == list(range(1, 25))
        assert (np.diff(rows.raw) <= 0).all()
        assert rows.document.tolist()[:4] == [row["document"] for row in opened.top(4, number)]
        below = [(rows.raw < raw).mean() * 100 for raw in rows.raw]
        assert rows.percentile.tolist() == pytest.approx(below)


def test_rows_say_where_they_come_from_with_all_their_columns(tables, opened):
    table, cells, lines = tables
    stored = opened.store.row(5)
    for row in (table.slice(5, 1).to_pylist()[0], lines[5]):
        assert {name: row[name] for name in ("source", "row", "hash", "tokens", "scored")} == {
            name: stored[name] for name in ("source", "row", "hash", "tokens", "scored")
        }
        assert row["place"] == "train.jsonl, line 6"
    assert lines[5]["metadata"] == {"group": "g2", "note": FORMULA, "nested": {"a": [1, 2]}}
    assert lines[6]["metadata"] == {"group": "g0", "note": HOSTILE}
    assert table["metadata.note"].to_pylist()[5:7] == [FORMULA, HOSTILE]
    assert json.loads(cells[5]["metadata.nested"]) == {"a": [1, 2]}
    about = json.loads(table.schema.metadata[b"whence"])
    assert about["questions"]["q1"] == [["the capital of france is", " paris", 1.0]]
    assert about["train_size"] == opened.train_size


def test_a_spreadsheet_runs_no_cell(tables):
    for row in tables[1]:
        for name, cell in row.items():
            number = name in ("raw", "per_copy", "cosine")
            assert number or not cell.startswith(STARTS), (name, cell)
    assert tables[1][5]["metadata.note"] == f"'{FORMULA}"
    assert any(row["raw"].startswith("-") for row in tables[1])


def test_self_influence_and_cosine_are_there_once_computed(tables, opened):
    table = tables[0].to_pandas()
    assert table.self_influence.tolist() == opened.self_influence.tolist() * 3
    assert (table.cosine.abs() <= 1 + 1e-6).all()
    assert (np.sign(table.cosine) == np.sign(table.raw)).all()


def test_only_the_ends_of_one_question(home, tmp_path, opened):
    made = export(home / "a", out=tmp_path / "ends.jsonl.gz", questions=["q2"], top=3)
    rows = [json.loads(line) for line in pa.input_stream(tmp_path / "ends.jsonl.gz").read().splitlines()]
    best = [row["document"] for row in opened.top(3, 1)]
    worst = [row["document"] for row in opened.bottom(3, 1)]
    assert [row["document"] for row in rows] == best + worst[::-1]
    assert [row["rank"] for row in rows] == [1, 2, 3, 22, 23, 24]
    assert made.to_dict()["rows"] == 6
    assert made.questions == ("q2",)


def test_nothing_is_written_over_unasked(home, tmp_path):
    out = tmp_path / "a.csv"
    out.write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        export(home / "a", out=out)
    assert out.read_text() == "mine"
    export(home / "a", out=out, overwrite=True)
    assert out.read_text().startswith("question,document")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_what_cannot_be_honoured_is_refused(home, tmp_path):
    with pytest.raises(InvalidSetting, match="--out or --into"):
        export(home / "a")
    with pytest.raises(InvalidSetting, match="by its end"):
        export(home / "a", out=tmp_path / "a.xlsx")
    with pytest.raises(InvalidSetting, match='no question "q9"') as refused:
        export(home / "a", out=tmp_path / "a.csv", questions=["q9"])
    assert refused.value.hint == "there are: q1, q2, q3"
    with pytest.raises(ArtifactError, match="is not a run"):
        export(home, out=tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_one_set_of_answers_is_a_run_to_be_opened(home, opened):
    again = wh.open(opened.answers.folder)
    assert again.folder == opened.folder
    assert np.array_equal(again.documents, opened.documents)
