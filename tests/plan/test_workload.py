"""What will be read is known from lengths alone, and is what the token store then has."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from whence.data.documents import read_documents
from whence.data.store import TokenStore
from whence.jobs.plan import workload
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.workload import Workload, from_lengths, read_lengths
from whence.testing import toys


class Letters:
    """A token a character, and one that begins every text."""

    bos_token_id = 1

    def encode(self, text, *, add_special_tokens=True):
        return [1] * add_special_tokens + [2 + ord(c) % 50 for c in text]

    def decode(self, tokens):
        return ""


@pytest.fixture
def text(tmp_path):
    rows = [{"text": "abcdefgh" * (1 + n % 9), "group": f"g{n % 3}", "place": n} for n in range(300)]
    rows += [{"prompt": "what is it? ", "completion": " a cat"}, {"text": "one very long text " * 30}]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("weighed", [4096, 100])
@pytest.mark.parametrize("limit", [None, 150])
def test_reading_lengths_gives_the_stores_batches_and_bytes(text, tmp_path, monkeypatch, weighed, limit):
    monkeypatch.setattr(workload, "WEIGHED", weighed)
    planned = read_lengths(text, Letters(), context=64, batch_tokens=256, limit=limit).batched(256)
    store = TokenStore.write(
        tmp_path / "data", read_documents(str(text), limit), Letters(), context=64, batch_tokens=256
    )
    there = Workload.of(store)
    assert planned.batches == there.batches
    for name in ("documents", "sequences", "tokens", "scored", "units"):
        assert getattr(planned, name) == getattr(there, name), name
    some = [0, 7, 8, 100, store.sequences - 1]
    assert planned.chosen(some).batches == there.chosen(some).batches
    assert planned.sample(20).batches == there.sample(20).batches
    assert planned.windowed == store.facts["windowed"]
    size = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*"))
    assert planned.disk == pytest.approx(size, rel=0.1 if weighed > 302 else 0.25)


@pytest.mark.parametrize("pack", ["segments", "windows"])
@pytest.mark.parametrize("limit", [None, 60])
def test_packed_documents_are_planned_as_the_store_packs_them(text, tmp_path, pack, limit):
    """What curvature is of and what scores are of, and the rows that the model reads of either."""
    sizes = {"context": 64, "batch_tokens": 512}
    planned = read_lengths(text, Letters(), limit=limit, pack=pack, **sizes).batched(sizes["batch_tokens"])
    store = TokenStore.write(tmp_path / "data", read_documents(str(text), limit), Letters(), pack=pack, **sizes)
    for mine, there in ((planned, Workload.of(store.trained)), (planned.asked, Workload.of(store))):
        assert mine.batches == there.batches
        assert mine.read.batches == there.read.batches
        assert (mine.sequences, mine.tokens, mine.scored) == (there.sequences, there.tokens, there.scored)
        some = [0, 7, 8, mine.sequences // 2, mine.sequences - 1]
        assert mine.chosen(some).batches == there.chosen(some).batches
    assert planned.windowed == store.facts["windowed"]
    assert planned.documents == store.documents
    assert sum(shape.n for shape in planned.asked.read.batches) < sum(shape.n for shape in planned.asked.batches)
    size = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*"))
    assert planned.disk == pytest.approx(size, rel=0.15)


def test_nothing_is_left_behind(text, monkeypatch, tmp_path):
    places = tmp_path / "temporary"
    places.mkdir()
    monkeypatch.setattr(workload, "TemporaryDirectory", lambda: _Here(places / "x"))
    read_lengths(text, Letters(), context=64, batch_tokens=256)
    assert not list(places.iterdir())


class _Here:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return str(self.path)

    def __exit__(self, *_):
        import shutil

        shutil.rmtree(self.path)


def test_a_stream_in_memory_is_read_for_its_shapes():
    data = toys.TinyData(toys.sequences(6), batch_size=3)
    found = Workload.of(data)
    assert found.sequences == found.documents == 6
    assert found.scored == sum(int(one.scored.sum()) for one in data.examples)
    assert found.units == len(data.units)


def test_typical_shapes_stand_for_equal_shares():
    work = Workload(Counter({Shape(8, 4): 10, Shape(4, 8): 10, Shape(1, 32): 10}), 130, 130, 960, 900)
    assert work.typical(3) == [Shape(8, 4), Shape(4, 8), Shape(1, 32)]
    assert work.typical(1) == [Shape(4, 8)]
    assert work.padded == 960
    assert Shape(1, 32) in work.heaviest


def test_a_sample_is_spread_over_the_stream():
    work = from_lengths(range(2, 102), range(1, 101), 1000, documents=50)
    few = work.sample(10)
    assert few.sequences == 10
    assert few.documents == 5
    assert few.tokens == round(work.tokens / 10)
    assert max(shape.t for shape in few.batches) == 92
    assert work.sample(1000).sequences == 100


def test_a_batch_is_as_wide_as_its_longest_sequence():
    work = from_lengths([3, 9, 3, 4], [2, 8, 2, 3], 8, documents=4)
    assert sum(shape.n * count for shape, count in work.batches.items()) == 4
    assert sum(shape.scored * count for shape, count in work.batches.items()) == 15
    assert Shape(1, 9, 8) in work.batches
