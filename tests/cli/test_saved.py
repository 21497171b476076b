"""Documents of saved datasets go by the dataset's name: its files are called alike in all of them."""

from __future__ import annotations

import csv

import pyarrow as pa
import pytest
from tests.cli.conftest import SENTENCE

from whence.data.rows import file_name, short_name


@pytest.fixture
def saved(tmp_path):
    """A folder of two datasets, and of one in two files, as `save_to_disk` leaves them."""
    words = SENTENCE.split()
    files = [
        ("corpora/news/data-00000-of-00001.arrow", 0),
        ("corpora/tales/data-00000-of-00001.arrow", 6),
        ("corpora/two/train/data-00000-of-00002.arrow", 12),
        ("corpora/two/train/data-00001-of-00002.arrow", 18),
    ]
    for name, first in files:
        table = pa.table(
            {"text": [" ".join(words[(n + k) % len(words)] for k in range(8)) for n in range(first, first + 6)]}
        )
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(tmp_path / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return tmp_path / "corpora"


def test_two_datasets_are_told_apart_wherever_a_document_is_named(whence, basics, saved, tmp_path):
    done = whence("run", tmp_path / "run", *basics(train=saved), "--curvature", "diagonal", "--top", "24")
    assert done.code == 0, done.err
    assert "news, row 1  " in done.out
    assert "tales, row 1  " in done.out
    assert "two/train/data-00001-of-00002.arrow, row 6" in done.out

    page = (tmp_path / "run/report.html").read_text()
    assert "tales, row " in page
    assert "data-00000-of-00001.arrow, row" not in page

    assert whence("export", tmp_path / "run", "--out", tmp_path / "scores.csv").code == 0
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["place"] for row in rows}) == 24
    # the file itself is beside it, and is found there
    assert {row["source"] for row in rows if row["place"].startswith("news, ")} == {
        str(saved / "news/data-00000-of-00001.arrow")
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data-00000-of-00001.arrow", "data-00000-of-00001.arrow"),
        ("train/data-00000-of-00001.arrow", "train"),
        ("a/tales/test/data-00000-of-00001.arrow", "tales/test"),
        ("a/tales/other.arrow", "other.arrow"),
        ("a/tales/train.jsonl", "train.jsonl"),
    ],
)
def test_a_name_is_short_and_still_counts_rows(source, name):
    assert file_name(source) == name
    assert short_name(source, 1) == f"{name}, {'line' if name.endswith('jsonl') else 'row'} 2"
