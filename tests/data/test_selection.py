"""Some sequences of a store as data of their own: each is read once, under the number that it has in the store."""

import pytest
import torch
from tests.laws.test_packing import store_of

from whence.data.selection import Selection
from whence.types import Data


@pytest.fixture(scope="module", params=["none", "segments", "windows"])
def store(request, tmp_path_factory):
    return store_of(tmp_path_factory.mktemp("store") / "s", request.param)


def read(data):
    return [int(number) for unit in data.units for batch in data.batches(unit.number) for number in batch.ids]


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids", "inputs", "real", "scored"))


def test_every_sequence_that_was_chosen_is_read_once(store):
    chosen = [s for document in (1, 2, 7, 9) for s in store.sequences_of(document)]
    some = Selection(store, chosen)
    assert isinstance(some, Data)
    assert sorted(read(some)) == chosen
    assert len(some.units) <= len(store.units)
    assert some.sequences == store.sequences
    assert some.name(chosen[0]) == store.name(chosen[0])
    for unit in some.units:
        for batch in some.batches(unit.number):
            for number, row, real in zip(batch.ids.tolist(), batch.inputs, batch.real, strict=True):
                assert row[real].tolist() == store.tokens(number).tolist()


def test_all_of_it_is_the_store_s_own_batches(store):
    every = Selection(store, range(store.sequences))
    assert len(every.units) == len(store.units)
    for unit in store.units:
        ours, theirs = list(every.batches(unit.number)), list(store.batches(unit.number))
        assert len(ours) == len(theirs)
        assert all(map(same, ours, theirs))


def test_other_sequences_are_another_selection(store):
    prints = {Selection(store, some).fingerprint for some in ([0], [1], [0, 1], range(store.sequences))}
    assert len(prints | {store.fingerprint}) == 5
    assert Selection(store, [1, 0, 0]).fingerprint == Selection(store, [0, 1]).fingerprint


def test_fewer_rows_than_units_are_fewer_units(store):
    assert [unit.sequences for unit in Selection(store, [0]).units] == [1]
