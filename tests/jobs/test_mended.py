"""A command that is refused changes nothing, and the mistake mended as its hint says is accepted in the same folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from whence.errors import ArtifactMismatch, DataError, LayerError
from whence.jobs.run import run
from whence.jobs.settings import RunSettings


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
