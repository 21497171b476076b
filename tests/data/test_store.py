"""The token store gives back what was written, in units that depend on nothing but the data and its settings."""

from __future__ import annotations

import errno
import os
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.spelling import Characters

from whence.artifacts import verify
from whence.data import Document, TokenStore, encode
from whence.errors import ArtifactError, DataError, StorageError
from whence.types import TENSORS, Data

TEXTS = ["once upon a time", "", "a", "the end of a rather long story", "hop", "hop"]


def documents(texts=TEXTS, **metadata) -> list[Document]:
    return [Document("a.jsonl", n, text=text, metadata={"n": n, **metadata}) for n, text in enumerate(texts)]


def write(folder, texts=TEXTS, tokenizer=None, **options) -> TokenStore:
    options = {"context": 8, "batch_tokens": 32} | options
    return TokenStore.write(folder, documents(texts), tokenizer or Characters(), **options)


@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=12).filter(any),
    st.integers(2, 9),
    st.integers(1, 64),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=40)
def test_every_scored_token_is_in_one_batch_of_one_unit(texts, context, batch_tokens, shard_tokens):
    with TemporaryDirectory() as folder:
        store = write(folder, texts, context=context, batch_tokens=batch_tokens, shard_tokens=shard_tokens)
        assert isinstance(store, Data)
        found: dict[tuple[int, int], int] = {}
        sequences = []
        for unit in store.units:
            for batch in store.batches(unit.number):
                sequences += batch.ids.tolist()
                for row, t in batch.scored.nonzero().tolist():
                    key = int(batch.document[row]), int(batch.offset[row]) + t
                    assert key not in found  # what a sampled label is keyed by
                    found[key] = int(batch.targets[row, t])
        assert sorted(sequences) == list(range(store.sequences))
        whole = [Characters().encode(text) for text in texts]
        expected = {(d, t): tokens[t + 1] for d, tokens in enumerate(whole) for t in range(len(tokens) - 1)}
        if not any("^" in text or "\x01" in text for text in texts):
            assert found == expected


def test_a_store_gives_back_its_sequences(tmp_path):
    store = write(tmp_path, shard_tokens=16)
    expected = [(d, piece) for d, document in enumerate(documents()) for piece in encode(document, Characters(), 8)]
    assert store.sequences == len(expected)
    assert store.documents == len(TEXTS)
    for number, (document, piece) in enumerate(expected):
        assert store.document_of[number] == document
        assert store.tokens(number).tolist() == piece.tokens.tolist()
        assert store.piece(number).scored.tolist() == piece.scored.tolist()
        assert store.length(number) == len(piece)
        assert number in store.sequences_of(document)
    assert store.name(0) == "a.jsonl, line 1, tokens 0 to 7"
    assert store.name(store.sequences - 1) == "a.jsonl, line 6"
    with pytest.raises(IndexError):
        store.tokens(store.sequences)


def test_gather_gives_the_chosen_rows_as_the_units_do(tmp_path):
    store = write(tmp_path)
    chosen = [5, 0, 3, 5]
    rows = {int(i): (batch.inputs[n][batch.real[n]]) for batch in store.gather(chosen) for n, i in enumerate(batch.ids)}
    assert sorted(rows) == [0, 3, 5]
    assert all(row.tolist() == store.tokens(number).tolist() for number, row in rows.items())
    assert list(store.gather([])) == []
    assert all(batch.inputs.numel() <= 32 for batch in store.gather(range(store.sequences)))


def test_the_same_data_gives_the_same_store(tmp_path):
    first, again = write(tmp_path / "1"), write(tmp_path / "2", shard_tokens=5)
    assert first.fingerprint == again.fingerprint
    assert len(first.fingerprint) == 16
    for unit in first.units:
        for a, b in zip(first.batches(unit.number), again.batches(unit.number), strict=True):
            assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        {"texts": [*TEXTS[:-1], "hip"]},
        {"texts": TEXTS[:-1]},
        {"texts": ["once upon a ", "time", *TEXTS[1:]]},
        {"context": 7},
        {"batch_tokens": 16},
        {"units": 3},
        {"tokenizer": Characters(start=False)},
    ],
)
def test_other_data_or_another_plan_has_another_fingerprint(tmp_path, change):
    assert write(tmp_path / "1", units=2).fingerprint != write(tmp_path / "2", **{"units": 2} | change).fingerprint


def test_what_was_counted_is_kept(tmp_path):
    facts = write(tmp_path).facts
    assert facts["documents"] == 6
    assert facts["windowed"] == 2
    assert facts["unscored"] == 1
    assert facts["unscored_names"] == ["a.jsonl, line 2"]
    assert facts["tokens"] == sum(map(len, TEXTS)) + 6
    assert facts["scored"] == sum(map(len, TEXTS))
    assert facts["longest"] == 31


def test_every_metadata_column_survives(tmp_path):
    metadata = [
        {
            "kind": "tale",
            "year": 1812,
            "weight": 1,
            "good": True,
            "tags": ["a", "b"],
            "id": "x7",
            "odd": "\ud800",
            "none": None,
            "half \ud800 a key": 1,
        },
        {"kind": "poem", "year": 2**70, "weight": 0.5, "good": False, "mixed": 3, "deep": {"a": [None]}},
        {"kind": None, "mixed": "three"},
    ]
    written = [Document("a.jsonl", n, text="abc", metadata=m, offset=10 * n, size=9) for n, m in enumerate(metadata)]
    store = TokenStore.write(tmp_path, written, Characters(), context=8)
    for n, found in enumerate(metadata):
        row = store.row(n)
        expected = {name.replace("\ud800", r"\ud800"): value for name, value in found.items() if value is not None}
        assert row["metadata"] == expected
        assert (row["id"], row["source"], row["row"], row["offset"], row["bytes"]) == (n, "a.jsonl", n, 10 * n, 9)
    assert {"metadata.kind", "metadata.id", "hash"} <= set(store.to_arrow().column_names)
    assert str(store.to_arrow().schema.field("metadata.weight").type) == "double"


def test_many_documents_are_read_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr("whence.data.table.ROWS_AT_ONCE", 7)
    store = write(tmp_path, [f"text {n}" for n in range(50)])
    assert [store.row(n)["metadata"]["n"] for n in (49, 0, 6, 7, 13, 48)] == [49, 0, 6, 7, 13, 48]
    with pytest.raises(IndexError):
        store.row(50)


@pytest.mark.parametrize("operation", range(12))
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_store_cut_short_does_not_open_and_can_be_written_again(tmp_path, monkeypatch, operation, failure):
    real, count = os.fsync, iter(range(operation))

    def fails(number):
        if next(count, None) is None:
            raise failure
        return real(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            write(tmp_path / "data", made_from={"data": "1"}, shard_tokens=24)
    with pytest.raises(ArtifactError):
        TokenStore.open(tmp_path / "data")
    store = write(tmp_path / "data", made_from={"data": "1"}, shard_tokens=24)
    assert store.fingerprint == write(tmp_path / "whole").fingerprint
    verify(tmp_path / "data")
    assert not [path for path in (tmp_path / "data").iterdir() if path.name.endswith(".tmp")]


def test_a_finished_store_is_opened_not_read_again(tmp_path):
    write(tmp_path, made_from={"data": "1"})

    def unread():
        raise AssertionError("read again")
        yield

    store = TokenStore.write(tmp_path, unread(), Characters(), context=8, batch_tokens=32, made_from={"data": "1"})
    assert store.documents == 6
    with pytest.raises(ArtifactError, match="does not belong to this data"):
        write(tmp_path, made_from={"data": "2"})
    with pytest.raises(ArtifactError):
        write(tmp_path)


def test_without_fingerprints_a_store_is_never_taken_for_another(tmp_path):
    write(tmp_path)
    with pytest.raises(ArtifactError, match="already holds data"):
        write(tmp_path, ["other"])


def test_a_shard_cut_short_is_refused_by_name(tmp_path):
    write(tmp_path)
    path = tmp_path / "tokens-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"tokens-00000\.safetensors"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_learn_from_is_refused(tmp_path, texts):
    with pytest.raises(DataError):
        write(tmp_path, texts)
    with pytest.raises(ArtifactError):
        TokenStore.open(tmp_path)


def test_memory_does_not_grow_with_the_text(tmp_path):
    import tracemalloc

    def peak(count: int) -> int:
        tracemalloc.start()
        stream = (Document("a.jsonl", n, text="word " * 200) for n in range(count))
        TokenStore.write(tmp_path / str(count), stream, Characters(), context=512, shard_tokens=100_000)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(2000) < 1.3 * peak(600)


def test_batches_are_the_same_for_any_reader(tmp_path):
    """Two openings of one store, read in different orders."""
    write(tmp_path)
    one, two = TokenStore.open(tmp_path), TokenStore.open(tmp_path)
    forward = {u.number: [b.inputs for b in one.batches(u.number)] for u in one.units}
    for unit in reversed(two.units):
        for a, b in zip(forward[unit.number], two.batches(unit.number), strict=True):
            assert np.array_equal(a, b.inputs)
