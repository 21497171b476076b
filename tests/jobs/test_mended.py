"""A command that is refused changes nothing, and the mistake mended as its hint says is accepted in the same folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from whence.data.store import TokenStore
from whence.errors import ArtifactMismatch, DataError, InvalidSetting, LayerError, ModelError
from whence.jobs.fit import fit
from whence.jobs.run import run
from whence.jobs.settings import RunSettings
from whence.jobs.stream import small_batch
from whence.models.hf import load_model, load_tokenizer
from whence.tasks import CausalLM


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), top=4, batch_tokens=64
    )


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("run") / "r", settings, stop_after="score")


@pytest.mark.parametrize("changed", [{"layers": ("mlp",)}, {"samples": 2}, {"curvature": "kfac"}, {"limit": 3}])
@pytest.mark.parametrize("stage", ["prepare", "fit", "score"])
def test_settings_that_are_refused_are_not_kept(settings, done, changed, stage):
    before = (done.folder / "settings.toml").read_text()

    with pytest.raises(ArtifactMismatch, match=next(iter(changed))):
        run(done.folder, replace(settings, **changed), stop_after=stage)

    assert (done.folder / "settings.toml").read_text() == before
    again = run(done.folder, RunSettings.from_toml(done.folder / "settings.toml"), stop_after="score")
    assert np.array_equal(again.documents, done.documents)


def test_scores_split_otherwise_are_computed_beside_the_others(settings, done):
    split = run(done.folder, replace(settings, by=("token", "layer")), stop_after="score")

    assert split.session.scores.by_layer is not None
    assert split.session.scores.by_token is not None
    assert np.allclose(split.documents, done.documents, rtol=1e-4, atol=1e-3)
    assert np.array_equal(run(done.folder, settings, stop_after="score").documents, done.documents)


def test_a_glob_mended_is_accepted(settings, tmp_path):
    with pytest.raises(LayerError, match="up_prj"):
        run(tmp_path / "r", replace(settings, layers=("model.layers.*.mlp.up_prj",)), stop_after="fit")
    assert not (tmp_path / "r").exists()

    run(tmp_path / "r", replace(settings, layers=("model.layers.*.mlp.up_proj",)), stop_after="fit")


def test_layers_refused_by_the_check_may_be_left_out_in_the_same_folder(settings, tmp_path, monkeypatch):
    import whence.jobs.fit as fitting

    def refuse(*_):
        raise LayerError("the gradient of model.layers.0.mlp.up_proj is not whole", hint="leave it out with --layers")

    with monkeypatch.context() as broken:
        broken.setattr(fitting, "checked_layers", refuse)
        with pytest.raises(LayerError):
            run(tmp_path / "r", settings, stop_after="fit")

    run(tmp_path / "r", replace(settings, layers=("model.layers.*.mlp.down_proj",)), stop_after="fit")


def test_a_line_mended_is_accepted(settings, toy, tmp_path):
    good = (toy / "train.jsonl").read_text()
    train = tmp_path / "train.jsonl"
    train.write_text(good + '{"text": \n')
    mine = replace(settings, train=str(train))
    with pytest.raises(DataError, match="line 25"):
        run(tmp_path / "r", mine, stop_after="prepare")

    train.write_text(good)
    assert run(tmp_path / "r", mine, stop_after="prepare").session.store.documents == 24


def test_finished_data_outlive_an_error_in_other_data(settings, done, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": \n')
    with pytest.raises(ArtifactMismatch, match="data"):
        run(done.folder, replace(settings, train=str(bad)), stop_after="prepare")
    assert run(done.folder, settings, stop_after="prepare").session.store.documents == 24


def store_of(toy, folder, lengths, batch_tokens):
    from whence.data.documents import Document

    words = ["cat", "dog", "paris", "red", "house"]
    texts = [" ".join(words[(n + k) % 5] for k in range(length - 1)) for n, length in enumerate(lengths)]
    documents = (Document("here", row, text=text) for row, text in enumerate(texts))
    tokenizer = load_tokenizer(toy / "model")
    return TokenStore.write(folder, documents, tokenizer, context=16, batch_tokens=batch_tokens, units=2)


@pytest.mark.parametrize(
    ("lengths", "unlike"),
    [([3, 3, 4, 4, 16], True), ([3, 3, 3, 16], False), ([15, 16, 3, 3, 4], True)],
    ids=["unlike", "alike", "order"],
)
def test_batch_mates_that_mix_are_seen_where_shortest_and_longest_share_no_batch(toy, tmp_path, lengths, unlike):
    model = load_model(toy / "model", device="cpu")
    store = store_of(toy, tmp_path / "data", lengths, batch_tokens=16)
    pair = small_batch(store).real.sum(1)
    assert len(pair) == 2
    assert (pair[0] != pair[1]) == unlike

    fit(model, store, task=CausalLM(), layers="mlp", curvature="identity")
    for share, says in ((lambda out: out.mean(0), "not the sum of"), (lambda out: out.detach().mean(0), "batch-mates")):
        mixed = model.model.layers[0].mlp.register_forward_hook(lambda _, __, out, share=share: out + share(out) / 2)
        with pytest.raises(ModelError, match=says):
            fit(model, store, task=CausalLM(), layers="mlp", curvature="identity")
        mixed.remove()


def test_sequences_that_are_never_batched_are_one_by_one(toy, tmp_path):
    store = store_of(toy, tmp_path / "data", [9, 12, 16], batch_tokens=16)
    assert [len(batch) for unit in store.units for batch in store.batches(unit.number)] == [1, 1, 1]
    assert len(small_batch(store)) == 1


@pytest.mark.parametrize("stage", ["fit", "score", "self"])
def test_units_that_are_not_there_are_refused_before_any_work(settings, done, tmp_path, stage):
    count = len(done.session.store.units)
    for folder in (done.folder, tmp_path / "r"):
        with pytest.raises(InvalidSetting, match=f"there are {count} units, 0:{count}"):
            run(folder, settings, stop_after=stage, units=range(0, 99))
    assert not (tmp_path / "r" / "curvature").exists()


def test_units_that_are_not_there_are_refused_without_a_folder(done):
    from whence.jobs.score import score, self_influence

    of = done.session
    common = {"model": of.model, "task": of.task, "units": range(0, 99)}
    with pytest.raises(InvalidSetting, match="there are"):
        fit(of.model, of.store, task=of.task, units=range(0, 99))
    with pytest.raises(InvalidSetting, match="there are"):
        score(of.curvature, of.queries, of.store, **common)
    with pytest.raises(InvalidSetting, match="there are"):
        self_influence(of.curvature, of.store, **common)


def test_questions_made_in_python_are_kept(settings, done):
    import whence as wh

    asked = [wh.ask("a cat sat on", " mat"), wh.ask("a cat sat on", " red", rather_than=" house", id="two\n")]
    first = run(done.folder, replace(settings, query=None), questions=asked, stop_after="score")
    kept = RunSettings.from_toml(done.folder / "settings.toml")
    again = run(done.folder, kept)

    assert [query.parts for query in again.questions] == [query.parts for query in asked]
    assert [query.id for query in again.questions] == ["q1", "two\n"]
    assert np.array_equal(again.documents, first.documents)
    assert again.report.exists()


def test_questions_with_one_id_are_kept_in_their_order(settings, done):
    import whence as wh

    asked = [wh.ask("a cat sat on", " mat"), wh.ask("a dog ran", " far")]
    run(done.folder, settings, questions=asked, stop_after="fit")
    again = run(done.folder, RunSettings.from_toml(done.folder / "settings.toml"), stop_after="query")

    assert [query.parts for query in again.questions] == [query.parts for query in asked]


def test_questions_that_no_row_can_say_are_said_not_to_be_kept():
    from whence.data.queries import Part, Query, ask
    from whence.jobs.questions import as_jsonl

    assert as_jsonl([ask("a", " b"), Query("half", (Part("a", " b", 0.5),))]) is None
    assert as_jsonl([Query("two", (Part("a", " b"), Part("c", " d", -1.0)))]) is None
    assert as_jsonl([Query("m", (Part("a", " b"),), {"chosen": 1, "fact": 2})]) == (
        '{"id": "m", "prompt": "a", "completion": " b", "fact": 2}\n'
    )


def test_a_refusal_says_what_the_digests_are_of(settings, done, toy, tmp_path):
    model = toy / "model"
    with pytest.raises(ArtifactMismatch) as refused:
        run(done.folder, replace(settings, dtype="float64"), stop_after="score")
    assert f"made with: {model}, float32 (" in str(refused.value)
    assert f"used with: {model}, float64 (" in str(refused.value)

    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "the cat sat"}\n')
    with pytest.raises(ArtifactMismatch) as refused:
        run(done.folder, replace(settings, train=str(other)), stop_after="score")
    assert f"made with: {toy / 'train.jsonl'} (" in str(refused.value)
    assert f"used with: {other} (" in str(refused.value)


def test_equal_content_under_another_name_is_the_same(settings, done, toy, tmp_path):
    import shutil

    shutil.copytree(toy / "model", tmp_path / "copy")
    shutil.copy(toy / "train.jsonl", tmp_path / "copy.jsonl")
    moved = replace(settings, model=str(tmp_path / "copy"), train=str(tmp_path / "copy.jsonl"))
    assert np.array_equal(run(done.folder, moved, stop_after="score").documents, done.documents)
