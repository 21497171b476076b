"""Packing moves sequences about and changes none of them; windows are the documents end to end."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.spelling import Characters

from whence.data import Document, TokenStore
from whence.data.tokens import Tokens
from whence.errors import InvalidSetting
from whence.types import Data

texts = st.lists(st.text("abc", max_size=9), min_size=1, max_size=9).filter(lambda said: max(map(len, said)) > 1)
FEW = settings(deadline=None, max_examples=15)


def store_of(folder, said, *, pack, context, start=True, **options) -> TokenStore:
    documents = [Document("a.jsonl", n, text=text) for n, text in enumerate(said)]
    options = {"batch_tokens": 24, "shard_tokens": 13} | options
    return TokenStore.write(folder, documents, Characters(start), context=context, pack=pack, **options)


def by_sequence(data) -> dict[int, dict[str, list[int]]]:
    """Sequence → what a batch has of it, its padding left off, and what the model's rows have in its place."""
    found = {}
    for unit in data.units:
        for batch in data.batches(unit.number):
            seen = batch.inputs if batch.layout is None else batch.layout.unpack(batch.layout.inputs)
            for row, number in enumerate(batch.ids.tolist()):
                assert number not in found
                real = batch.real[row]
                found[number] = {
                    name: getattr(batch, name)[row][real].tolist() for name in ("inputs", "targets", "scored")
                } | {
                    "seen": seen[row][real].tolist(),
                    "key": [int(batch.document[row]), int(batch.offset[row])],
                }
    return found


@given(texts, st.integers(2, 12), st.booleans())
@FEW
def test_segments_are_the_sequences_as_they_are(said, context, start):
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        plain = store_of(one, said, pack="none", context=context, start=start)
        packed = store_of(other, said, pack="segments", context=context, start=start)
        assert isinstance(packed, Data)
        assert packed.content == plain.content
        assert packed.fingerprint != plain.fingerprint
        assert by_sequence(packed) == by_sequence(plain)


@given(texts, st.integers(2, 12))
@FEW
def test_segments_fill_rows_and_begin_again_at_position_nought(said, context):
    with TemporaryDirectory() as folder:
        store = store_of(folder, said, pack="segments", context=context, batch_tokens=1000, units=1)
        (batch,) = store.batches(0)
        layout = batch.layout
        assert layout.inputs.shape[1] <= context
        used = torch.zeros_like(layout.inputs)
        for row in range(len(batch)):
            at = layout.place[row][batch.real[row]]
            assert at.diff().eq(1).all()
            assert layout.position.flatten()[at].tolist() == list(range(len(at)))
            used.view(-1)[at] += 1
        assert used.max() == 1
        taken = used.sum(1).sort().values
        assert all(taken[:-1] + taken[-1:] > context) or len(taken) == 1  # no row would have gone into another
        assert (layout.own == batch.real).all()


@given(texts, st.integers(2, 12), st.booleans())
@FEW
def test_windows_are_the_documents_end_to_end(said, context, start):
    with TemporaryDirectory() as folder:
        store = store_of(folder, said, pack="windows", context=context, start=start)
        stream = [token for text in said for token in Characters(start).encode(text)]
        windows = by_sequence(store.trained)
        assert store.trained.sequences == len(windows)
        whole = [windows[number]["inputs"] for number in range(len(windows))]
        assert [token for n, window in enumerate(whole) for token in window[n > 0 :]] == stream
        assert all(len(window) == context for window in whole[:-1])
        assert len(whole[-1]) <= context
        scored = sum(sum(window["scored"]) for window in windows.values())
        assert scored == len(stream) - 1 == store.facts["scored"]  # every token but the first of all, once
        assert sum(sum(part["scored"]) for part in by_sequence(store).values()) == scored


@given(texts, st.integers(2, 12))
@FEW
def test_a_part_of_a_window_lies_where_its_document_does(said, context):
    with TemporaryDirectory() as folder:
        store = store_of(folder, said, pack="windows", context=context)
        for number, part in by_sequence(store).items():
            document, offset = part["key"]
            own = Characters().encode(said[document])
            assert part["inputs"] == part["seen"]
            borrowed = offset < 0
            assert part["inputs"][borrowed:] == own[offset + borrowed :][: len(part["inputs"]) - borrowed]
            assert part["targets"][:-1] == part["inputs"][1:]
            assert store.document_of[number] == document
        for document, text in enumerate(said):
            pieces = [store.piece(n) for n in store.sequences_of(document)]
            assert [t for p in pieces for t in p.tokens[1 if p.offset < 0 or p is not pieces[0] else 0 :]] == (
                Characters().encode(text)
            )
        keys = [tuple(part["key"]) for part in by_sequence(store).values()]
        assert len(set(keys)) == len(keys)


@given(texts, st.integers(2, 12), st.data())
@FEW
def test_chosen_sequences_are_read_in_their_rows(said, context, data):
    for pack in ("windows", "segments"):
        with TemporaryDirectory() as folder:
            store = store_of(folder, said, pack=pack, context=context)
            chosen = data.draw(st.sets(st.integers(0, store.sequences - 1), min_size=1))
            every = by_sequence(store)
            seen = set()
            for batch in store.gather(sorted(chosen)):
                found = batch.layout.unpack(batch.layout.inputs)
                for row, number in enumerate(batch.ids.tolist()):
                    real = batch.real[row]
                    assert found[row][real].tolist() == batch.inputs[row][real].tolist() == every[number]["inputs"]
                    assert batch.scored[row][real].tolist() == every[number]["scored"]
                    seen.add(number)
            assert seen == chosen


def test_of_a_pair_the_prompt_is_scored_in_no_window(tmp_path):
    rows = [
        Document("a", 0, prompt="ab", completion="c"),
        Document("a", 1, tokens=Tokens([5, 6, 7], [True, False, True])),
        Document("a", 2, text="d"),
    ]
    store = TokenStore.write(tmp_path, rows, Characters(start=False), context=100, pack="windows")
    (batch,) = store.trained.batches(0)
    assert batch.inputs.tolist() == [[97, 98, 99, 5, 6, 7, 100]]
    assert batch.targets[batch.scored].tolist() == [99, 5, 7, 100]
    assert store.name(1) == "a, row 2" or store.name(1).startswith("a")
    assert "from" in store.trained.name(0)


def test_a_batch_on_its_way_keeps_its_layout(tmp_path):
    store = store_of(tmp_path, ["abc", "a", "bb", "cab"], pack="segments", context=8, batch_tokens=100, units=1)
    (batch,) = store.batches(0)
    some = batch.rows([2, 0])
    assert torch.equal(some.layout.unpack(some.layout.inputs)[some.real], some.inputs[some.real])
    assert torch.equal(batch.to("cpu").layout.place, batch.layout.place)
    alone = batch.rows(np.array([False, True, False, False]))
    assert len(alone.layout.inputs) == 1


def test_a_context_without_room_is_refused(tmp_path):
    for pack in ("windows", "segments"):
        with pytest.raises(InvalidSetting, match="context must be at least 2"):
            store_of(tmp_path / pack, ["abc"], pack=pack, context=1)
