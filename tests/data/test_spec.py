"""Where data may lie and how it is named; what is not there is said, with what is."""

from __future__ import annotations

import builtins
import csv
import gzip
import json
import socket

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_documents import lines

from whence.data import parse_spec, read_documents
from whence.errors import DataError

ROWS = [{"text": " one ", "n": 1}, {"text": 'zwei,\n"drei"', "n": 2}]


def texts(spec) -> list[str | None]:
    return [document.text for document in read_documents(str(spec))]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_a_cell_comes_back_as_it_was_written(tmp_path_factory, rows):
    """Spaces at its ends too: a completion may begin with one."""
    path = tmp_path_factory.mktemp("data") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "note"), *rows])
    documents = list(read_documents(str(path)))
    assert [(d.text, d.metadata["note"]) for d in documents] == rows
    assert documents[0].name == f"{path}, line 2"


def test_cells_and_lists_and_what_they_are_packed_in(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    lines(tmp_path / "b.json", *ROWS)
    lines(tmp_path / "c.jsonl", *ROWS)
    packed = pa.compress((tmp_path / "c.jsonl").read_bytes(), codec="zstd", asbytes=True)
    (tmp_path / "d.jsonl.zst").write_bytes(packed)
    (tmp_path / "e.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    for name in ("a.json", "b.json", "c.jsonl", "d.jsonl.zst", "e.json.gz"):
        assert texts(tmp_path / name) == [" one ", 'zwei,\n"drei"'], name
    assert next(read_documents(f"{tmp_path}/a.json#[1:]")).name.endswith("a.json, row 2")
    (tmp_path / "t.tsv").write_text('text\tn\n"quoted"\t1\n\n long \t2\n')
    assert texts(tmp_path / "t.tsv") == ['"quoted"', " long "]
    assert [d.row for d in read_documents(str(tmp_path / "t.tsv"))] == [1, 3]
    (tmp_path / "s.csv").write_text("text;n\n1,5;2\n")
    assert texts(tmp_path / "s.csv") == ["1,5"]
    (tmp_path / "l.csv").write_text("text\n" + "x" * 300_000 + "\n")
    assert len(texts(tmp_path / "l.csv")[0] or "") == 300_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'[{"text": "a"}, 3]', r"row 2 is a JSON int"),
        ("a.json", b'[{"text": "a"},\n oops]', r"a\.json is not JSON.*line 2, column 2"),
        ("a.csv", b"text,n\na,1\nb\n", "line 3 has 1 cells, the header 2"),
        ("a.csv", b"text,text\na,b\n", "names the column 'text' twice"),
        ("a.csv", b"", "the header is empty"),
        ("a.csv", b"text\n", "holds no documents"),
        ("a.csv", b'text\n"open\n', "cannot be read"),
        ("a.csv", b"text\n\xff\n", "not UTF-8"),
        ("a.arrow", b"not a table", "not a whole Arrow file"),
        ("a.jsonl.zst", b"not packed", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        texts(tmp_path / name)
    assert name in str(caught.value)


def test_of_a_folder_one_rank_of_files_is_data(tmp_path):
    lines(tmp_path / "train.jsonl", {"text": "yes"})
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "labels.csv").write_text("id,name\n1,a\n")
    (tmp_path / "README.md").write_text("about")
    spec = parse_spec(tmp_path)
    assert texts(tmp_path) == ["yes"]
    assert [path.name for path in spec.left_out] == ["README.md", "dataset_infos.json", "labels.csv"]


# --- saved datasets ----------------------------------------------------------------------------------------------


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, its caches in a folder of their own, and no network."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refused(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    library.disable_progress_bars()
    return library


def test_a_saved_dataset_is_what_it_was_when_saved(tmp_path, datasets):
    rows = [{"text": f"t{n}", "n": n, "tags": ["a"] * n} for n in range(30)]
    whole = datasets.Dataset.from_list(rows)
    chosen = whole.shuffle(seed=0).filter(lambda row: row["n"] % 2 == 0)
    chosen.save_to_disk(tmp_path / "one", num_shards=2)
    (tmp_path / "one/cache-0123.arrow").write_bytes(b"what .map leaves")
    documents = list(read_documents(str(tmp_path / "one")))
    assert [(d.text, d.metadata) for d in documents] == [
        (row["text"], {"n": row["n"], "tags": row["tags"]}) for row in chosen
    ]
    assert documents[-1].name.endswith("data-00001-of-00002.arrow, row 7")
    assert texts(f"{tmp_path}/one#[3:5]") == chosen["text"][3:5]


def test_of_a_dictionary_one_split_is_read(tmp_path, datasets):
    whole = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": whole, "dev": whole.select([1])}).save_to_disk(tmp_path / "both")
    datasets.DatasetDict({"train": whole}).save_to_disk(tmp_path / "only")
    assert texts(f"{tmp_path}/both#dev") == [ROWS[1]["text"]]
    assert texts(f"{tmp_path}/both#train[:1]") == [" one "]
    assert len(texts(f"{tmp_path}/only")) == 2
    with pytest.raises(DataError, match="several splits: train, dev") as caught:
        texts(tmp_path / "both")
    assert f"{tmp_path}/both#train" in str(caught.value.hint)
    with pytest.raises(DataError, match="no split 'test'"):
        texts(f"{tmp_path}/both#test")
    with pytest.raises(DataError, match="without splits"):
        texts(f"{tmp_path}/both/train#dev")


def test_a_saved_dataset_needs_no_library(tmp_path, datasets, monkeypatch):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    _forbid(monkeypatch)
    assert len(texts(tmp_path / "one")) == 2
    (next((tmp_path / "one").glob("data-*.arrow"))).unlink()
    with pytest.raises(DataError, match="is missing: state"):
        texts(tmp_path / "one")


# --- names of the hub --------------------------------------------------------------------------------------------


def prepared(datasets, name: str, commit: str, config: str = "default", **splits: list[dict[str, object]]):
    """What `load_dataset` leaves in its cache."""
    short = name.split("/")[-1]
    folder = datasets.config.HF_DATASETS_CACHE / name.replace("/", "___") / config / "0.0.0" / commit
    folder.mkdir(parents=True)
    info = {}
    for split, rows in splits.items():
        data = datasets.Dataset.from_list(rows)
        with datasets.arrow_writer.ArrowWriter(
            features=data.features, path=str(folder / f"{short}-{split}.arrow")
        ) as writer:
            writer.write_table(data.data.table)
            writer.finalize()
        info[split] = {"name": split, "num_examples": len(rows), "dataset_name": short}
    datasets.DatasetInfo(
        features=data.features, splits=info, dataset_name=short, config_name=config, builder_name="json"
    ).write_to_directory(str(folder))


def test_a_name_is_read_from_the_librarys_cache(datasets):
    prepared(datasets, "owner/tales", "abc123", train=ROWS, test=ROWS[1:])
    theirs = datasets.load_dataset("owner/tales", split="train")
    assert texts("owner/tales#train") == theirs["text"] == [row["text"] for row in ROWS]
    assert texts("owner/tales:default@abc1#test[:1]") == [ROWS[1]["text"]]
    assert parse_spec("owner/tales#test").found == "owner/tales:default at commit abc123"
    for spec, says in {
        "owner/tales": "several splits: train, test",
        "owner/tales#dev": "no split 'dev'",
        "owner/tales@fff#train": "no revision 'fff'",
        "owner/tales:en#train": "no configuration 'en'",
    }.items():
        with pytest.raises(DataError, match=says):
            texts(spec)


def test_another_revision_is_never_taken_in_silence(datasets, tmp_path):
    """`load_dataset` offline takes the latest copy, whichever revision is asked for."""
    prepared(datasets, "owner/tales", "abc123", train=ROWS)
    prepared(datasets, "owner/tales", "def456", train=ROWS[:1])
    assert len(datasets.load_dataset("owner/tales", revision="abc123", split="train")) == 1
    assert len(texts("owner/tales@abc123")) == 2
    with pytest.raises(DataError, match="several revisions") as caught:
        texts("owner/tales")
    assert "abc123, def456" in str(caught.value.hint)
    refs = tmp_path / "hub/datasets--owner--tales/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("def456")
    assert len(texts("owner/tales")) == 1


def test_configurations_are_told_apart(datasets):
    prepared(datasets, "owner/tales", "abc123", config="en", train=ROWS)
    prepared(datasets, "owner/tales", "abc123", config="de", train=ROWS[1:])
    assert len(texts("owner/tales:en")) == 2
    with pytest.raises(DataError, match="several configurations: de, en"):
        texts("owner/tales")


def test_a_name_is_read_from_the_hubs_cache(datasets, tmp_path):
    root = tmp_path / "hub/datasets--owner--tales"
    lines(root / "snapshots/abc123/data/train.jsonl", *ROWS)
    lines(root / "snapshots/abc123/data/test.jsonl", ROWS[0])
    (root / "snapshots/abc123/README.md").write_text("about")
    assert texts("owner/tales#train") == [row["text"] for row in ROWS]
    assert parse_spec("owner/tales#test").found == "owner/tales at commit abc123"


def test_what_is_in_no_cache_is_said_with_the_line_that_fetches_it(datasets, tmp_path):
    with pytest.raises(DataError) as caught:
        texts("owner/tales:en@v2#train")
    assert "no dataset owner/tales:en@v2 in the caches" in caught.value.message
    assert str(tmp_path / "cache") in caught.value.message
    assert "datasets.load_dataset('owner/tales', 'en', revision='v2')" in str(caught.value.hint)


def test_what_lies_here_wins_over_a_name(datasets, tmp_path, monkeypatch):
    prepared(datasets, "owner/tales", "abc123", train=ROWS)
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "owner/tales/mine.jsonl", {"text": "mine"})
    assert texts("owner/tales") == ["mine"]
    with pytest.raises(DataError, match="files have no :config or @revision"):
        texts("owner/tales:en")


def test_without_the_library_the_line_that_installs_it_is_given(monkeypatch):
    _forbid(monkeypatch)
    with pytest.raises(DataError, match="not installed") as caught:
        texts("owner/tales")
    assert "pip install 'whence[datasets]'" in str(caught.value.hint)


def _forbid(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "datasets":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
