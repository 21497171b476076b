"""The whole job on a miniature: what it leaves behind, what it does not do twice, and on how many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from whence.artifacts.tensors import load_tensors
from whence.errors import ArtifactError, ArtifactMismatch, InvalidSetting
from whence.jobs.explain import explain, full_rank_query
from whence.jobs.run import run
from whence.jobs.settings import RunSettings


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), top=4, batch_tokens=64
    )


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("run") / "r", settings)


def parts(folder, pattern):
    return {path.name: load_tensors(path) for path in sorted(folder.rglob(pattern))}


def same(ours, theirs):
    assert ours
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[f][k], theirs[f][k]) for f in ours for k in ours[f])


def test_a_run_leaves_a_report_and_tables(done):
    assert "<html" in done.report.read_text()[:200].lower()
    table = done.to_pandas()
    assert len(table) == 3 * 24
    assert np.allclose(table.raw / done.train_size, table.per_copy)
    best = table[table.question == 0].sort_values("raw", ascending=False).iloc[0]
    assert done.top(1)[0]["document"] == best.document
    assert done.top(1)[0]["metadata"]["group"].startswith(("g", "long"))


def test_a_contrastive_question_is_the_difference_of_its_parts(settings, done, toy, tmp_path):
    import whence as wh

    single = [wh.ask("the capital of france is", answer, id=answer) for answer in (" paris", " madrid")]
    apart = run(tmp_path / "r", replace(settings, query=None), questions=single, stop_after="score")

    assert np.allclose(apart.documents[0] - apart.documents[1], done.documents[2], rtol=1e-3, atol=1e-3)


def test_sizes_out_of_range_are_said_on_the_terminal_as_in_the_report(settings, done):
    """Where next to nothing is damped, a copy would make an answer likelier than certain."""
    far = run(done.folder, replace(settings, damping="abs:1e-7"))
    near = run(done.folder, replace(settings, damping=1e4), stop_after="score")

    told = far.to_dict()["questions"]
    assert told[0]["out_of_range"] > 0 == told[2]["out_of_range"]  # a difference of two has no ceiling
    assert told[0]["out_of_range"] == int((far.documents[0] / far.train_size > -far.answers.measurement[0]).sum())
    assert far.text().count("read these as a ranking, their size is out of range: log p(answer) is") == sum(
        one["out_of_range"] > 0 for one in told
    )
    assert "The sizes here are out of range" in far.report.read_text()
    assert "ranking" not in near.text()
    assert [one["out_of_range"] for one in near.to_dict()["questions"]] == [0, 0, 0]


def test_a_document_of_several_windows_is_their_sum(done):
    store = done.session.store
    windows = store.sequences_of(23)
    assert len(windows) > 1
    total = done.session.scores.total[:, list(windows)].sum(1)
    assert np.allclose(done.documents[:, 23], total.double().numpy())


@pytest.mark.parametrize("question", [0, 2])
def test_what_is_shown_adds_up_to_the_score(done, question):
    session = done.session
    full = full_rank_query(session.curvature, session.model, session.parts_of(question), session.task)
    for shown in explain(session.curvature, session.model, full, session.store, [0, 23], session.task):
        scale = np.abs(shown.by_layer_token).sum()
        assert abs(shown.raw - done.documents[question, shown.document]) < 1e-4 * scale
        assert abs(shown.output_tokens.sum() - shown.raw) < 1e-4 * scale
        assert len(shown.tokens) == shown.by_layer_token.shape[1] == len(shown.scored) == len(shown.input_tokens)


def test_a_second_call_computes_nothing_again(settings, done):
    times = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.safetensors")}

    again = run(done.folder, settings)

    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.safetensors")} == times
    assert np.array_equal(again.documents, done.documents)


def test_new_questions_use_the_same_fit(settings, done):
    fitted = {path: path.stat().st_mtime_ns for path in (done.folder / "curvature").iterdir()}

    other = run(done.folder, replace(settings, query=None, ask="a cat sat on", answer=" mat"), stop_after="score")

    assert other.documents.shape == (1, 24)
    assert {path: path.stat().st_mtime_ns for path in (done.folder / "curvature").iterdir()} == fitted


def test_a_folder_of_another_fit_is_refused(settings, done):
    with pytest.raises(ArtifactMismatch, match="seed"):
        run(done.folder, replace(settings, seed=7), stop_after="fit")


def test_a_folder_of_another_model_is_refused(settings, done, toy, tmp_path):
    import shutil

    other = tmp_path / "model"
    shutil.copytree(toy / "model", other)
    tensors = load_tensors(other / "model.safetensors")
    name = next(name for name in tensors if "q_proj" in name)
    from safetensors.torch import save_file

    save_file({**tensors, name: tensors[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactMismatch, match="model"):
        run(done.folder, replace(settings, model=str(other)))


def test_a_foreign_folder_is_left_alone(settings, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"thesis\.tex"):
        run(tmp_path, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_nothing_asked_is_refused_before_anything_is_written(settings, tmp_path):
    with pytest.raises(InvalidSetting, match="nothing was asked"):
        run(tmp_path / "r", replace(settings, query=None))
    assert not (tmp_path / "r").exists()


def test_low_rank_winners_are_rescored_at_full_rank(settings, done, tmp_path):
    cut = run(tmp_path / "r", replace(settings, rank=4), stop_after="score")
    from whence.jobs.explain import rescore

    session = cut.session
    assert session.queries.rank == 4
    full = full_rank_query(session.curvature, session.model, session.parts_of(0), session.task)
    again = rescore(session.curvature, session.model, full, session.store, range(24), session.task)
    scale = np.abs(done.documents[0]).max()
    assert np.allclose([again[d] for d in range(24)], done.documents[0], atol=1e-4 * scale)


def test_self_influence_is_positive_and_names_documents(settings, done):
    result = run(done.folder, settings, stop_after="self")
    assert bool((result.session.self_influence >= 0).all())
    assert len(result.suspects(3)) == 3


def test_units_computed_apart_come_together_with_the_same_bits(settings, done, tmp_path):
    folder = tmp_path / "r"
    run(folder, settings, stop_after="prepare")
    units = len(done.session.store.units)
    for stage in ("moments", "squares"):
        for start in (units // 2, 0):
            part = run(folder, settings, stop_after="fit", units=range(start, min(start + units // 2 + 1, units)))
        assert stage
    whole = run(folder, settings, stop_after="fit")

    assert part is not None
    assert same(parts(whole.folder / "curvature", "*.safetensors"), parts(done.folder / "curvature", "*.safetensors"))


def test_two_processes_give_the_same_bits(settings, done, tmp_path):
    """Gloo, two ranks on one machine: curvature, queries and scores are the single process's, bit for bit."""
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    code = (
        "import sys, torch; torch.set_num_threads(2)\n"
        "from whence.jobs.run import run; from whence.jobs.settings import RunSettings\n"
        f"run({str(tmp_path / 'r')!r}, RunSettings.from_toml({str(tmp_path / 'settings.toml')!r}))\n"
    )
    script = tmp_path / "job.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    threads = os.environ["OMP_NUM_THREADS"]
    result = subprocess.run(
        [*command, str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for folder in ("curvature", "queries", "scores"):
        ours, theirs = parts(tmp_path / "r" / folder, "*.safetensors"), parts(done.folder / folder, "*.safetensors")
        theirs = {name: theirs[name] for name in ours}
        assert same(ours, theirs)
