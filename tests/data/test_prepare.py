"""The job: RUN/data is made once, said aloud, gone on with, and refused to another run."""

from __future__ import annotations

import io
import json

import pytest

from whence.data import TokenStore
from whence.errors import ArtifactMismatch, DataError, InvalidSetting
from whence.jobs.log import Log
from whence.jobs.prepare import prepare
from whence.world import World

WORDS = "the cat sat on a mat"


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate([WORDS, "", "cat", WORDS]))
    )
    return path


@pytest.fixture
def run(tmp_path, train, make_fast):
    def run(folder="run", tokenizer=None, **options):
        options = {"train": str(train), "context": 4, "batch_tokens": 64, "world": World()} | options
        return prepare(tmp_path / folder, tokenizer=tokenizer or make_fast(WORDS), **options)

    return run


def test_it_says_what_could_surprise(run):
    said = io.StringIO()
    store = run(log=Log(stream=said))
    assert isinstance(store, TokenStore)
    assert "4 documents" in said.getvalue()
    assert "2 documents, the longest of 7 tokens" in said.getvalue()
    assert "nothing to predict, so no score: 1 document (" in said.getvalue()
    assert "train.jsonl, line 2" in said.getvalue()
    assert 'rows: {"text"} 4; metadata: n\n' in said.getvalue()


def test_it_says_how_rows_were_read_and_what_was_odd_in_them(run, tmp_path):
    rows = [
        {"body": "<s> the cat", "kind": "a"},
        {"body": "the </s> cat", "kind": None},
        {"body": "the cat", "year": 1},
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = io.StringIO()
    run(train=str(path), columns={"text": "body"}, log=Log(stream=said))
    assert 'rows: {"text"} 3; metadata: kind, year\n' in said.getvalue()
    assert f"so one of the two was dropped: 1 document ({path}, line 1)" in said.getvalue()
    assert f"read as such, as trainers do: 2 documents ({path}, line 1, {path}, line 2)" in said.getvalue()
    with pytest.raises(ArtifactMismatch, match=r"columns = "):
        run(train=str(path), columns={"text": "kind"})
    with pytest.raises(InvalidSetting, match="no 'txt' to point out"):
        run("new", train=str(path), columns={"txt": "body"})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("pack", "says"),
    [
        ("windows", "(16 scored), 6 windows of 4 tokens in 6 work units"),
        ("segments", "sequences kept apart in shared rows in"),
    ],
)
def test_it_says_how_documents_share_rows(run, pack, says):
    said = io.StringIO()
    store = run(pack=pack, log=Log(stream=said))
    assert says in said.getvalue()
    assert ("in several windows: 2 documents" in said.getvalue()) == (pack == "windows")
    assert store.pack == pack
    with pytest.raises(ArtifactMismatch, match=rf"pack = \"{pack}\""):
        run()


def test_it_goes_on_with_what_is_there(run, tmp_path, train):
    before = run().fingerprint
    changed = (tmp_path / "run/data/tokens-00000.safetensors").stat().st_mtime_ns
    moved = train.rename(tmp_path / "moved.jsonl")
    said = io.StringIO()
    assert run(train=str(moved), log=Log(stream=said)).fingerprint == before
    assert (tmp_path / "run/data/tokens-00000.safetensors").stat().st_mtime_ns == changed
    assert "as prepared before" in said.getvalue()


def test_another_runs_data_is_refused_naming_both(run, train, make_fast):
    run()
    with pytest.raises(ArtifactMismatch, match=r"context = 4\n.*context = 5"):
        run(context=5)
    with pytest.raises(ArtifactMismatch, match=r"limit = null\n.*limit = 2"):
        run(limit=2)
    with pytest.raises(ArtifactMismatch, match="this tokenizer"):
        run(tokenizer=make_fast("other words"))
    with pytest.raises(ArtifactMismatch, match=r"rows = \[0,null\]"):
        run(train=f"{train}#[1:]")
    train.write_text(train.read_text().replace("mat", "hat"))
    with pytest.raises(ArtifactMismatch, match="this data"):
        run()


def test_other_processes_open_what_the_first_one_wrote(run, monkeypatch):
    first = run()
    monkeypatch.setattr(World, "barrier", lambda self: None)
    assert run(world=World(1, 2)).fingerprint == first.fingerprint


def test_limits_and_empty_data(run, tmp_path):
    assert run(limit=1).documents == 1
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl holds no documents"):
        run("other", train=str(tmp_path / "empty.jsonl"))
