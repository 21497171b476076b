"""A run whose questions are solved on the exact Gauss-Newton matrix: scores, parts and what is said of the solve."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from math import ceil
from typing import get_args

import numpy as np
import pytest
import torch

from whence.counted import counted
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import INVERSES, ConjugateGradient
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.jobs.opened.run import Run
from whence.jobs.plan import plan
from whence.jobs.refine import query_vectors
from whence.jobs.run import run
from whence.jobs.settings import RunSettings, SolverName
from whence.jobs.solved import read_solved
from whence.jobs.validation.estimates import estimates
from whence.jobs.validation.job import validate
from whence.jobs.validation.judged import judged
from whence.solvers.algebra import damped, residual
from whence.world import World


@pytest.fixture(scope="module")
def settings(toy):
    return RunSettings(
        model=str(toy / "model"),
        train=str(toy / "train.jsonl"),
        query=str(toy / "ask.jsonl"),
        layers=("model.layers.1.mlp.*",),
        solver="cg",
        top=2,
    )


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("solved") / "r", settings)


def test_the_directions_solve_the_run_s_own_equations(done):
    """(G + Λ) x = ∇f on the whole training text, prompts unscored, contrastive question included."""
    session = done.session
    tracked = session.curvature.tracked(session.model)
    operator = GaussNewton(session.model, tracked, session.task, session.store)
    grads, _ = query_vectors(session.model, tracked, session.parts, range(3), session.task)
    product = damped(operator.matvec, session.curvature.dampings)
    solution = {name: session.queries.dense(name) for name in grads}

    assert float(residual(product, grads, solution).max()) < 1.1e-3
    assert session.queries.rank is None


def test_scores_differ_from_the_fitted_curvature_s_and_both_are_kept(settings, done):
    fitted = run(done.folder, replace(settings, solver="fitted"), stop_after="score")

    assert not np.allclose(fitted.documents, done.documents, rtol=0.01)
    assert [answers.method for answers in (fitted.answers, done.answers)] == ["ekfac", "cg"]
    assert fitted.answers.solved == ()
    again = run(done.folder, settings, stop_after="score")
    assert np.array_equal(again.documents, done.documents)


def test_terminal_json_and_report_say_how_well_it_was_solved(done):
    (solved,) = done.answers.solved
    assert solved.questions == 3
    assert solved.worst < 1.1e-3
    assert solved.epochs > 0

    assert "3 questions solved by cg: relative residual" in done.text()
    assert json.loads(json.dumps(done.to_dict()))["solved"][0]["solver"] == "cg"
    page = done.report.read_text()
    assert "Gauss-Newton (conjugate gradient) influence of" in page
    assert "3 questions solved by cg" in page
    assert "preconditioned by EK-FAC" in page


def test_parts_add_up_to_the_solved_score_also_in_a_run_opened_later(done):
    later = Run.open(done.folder)
    for document in (later.top(1)[0]["document"], 17):  # one that the report shows, and one that is computed now
        parts = sum(row["per_copy"] for row in later.document(document).layers())
        assert parts == pytest.approx(done.documents[0, document] / done.train_size, rel=1e-4)


def test_validation_judges_the_solver(settings, done):
    of = judged(done.folder, settings, Log.silent(), World())

    found = estimates(of, of.data)
    scores, seconds = found.scores, found.seconds

    assert list(scores) == ["cg", "gradient dot", "cosine"] == list(seconds)
    torch.testing.assert_close(scores["cg"], done.session.scores.total, rtol=1e-3, atol=1e-5)


def test_a_solve_that_stops_short_says_so(settings, monkeypatch, tmp_path):
    """Products are counted while they are made, and what was not reached stands beside what was."""
    monkeypatch.setitem(INVERSES, "cg", partial(ConjugateGradient, most=7, tolerance=1e-9))
    told = io.StringIO()

    found = run(tmp_path / "short", settings, log=Log(stream=told), stop_after="score")

    lines = told.getvalue().splitlines()
    announced = next(line for line in lines if line.startswith("solve: cg takes"))
    assert "at most 35 epochs of training for 3 questions" in announced  # 7 products of (3 + 4 · 3)/3
    assert lines.index(announced) < next(n for n, line in enumerate(lines) if line.startswith("solve: epochs"))
    assert "solve: epochs of training: 35 of 35" in told.getvalue()
    assert "; stopped at 7 products, short of the tolerance of 1e-09" in found.text()


@pytest.mark.parametrize("name", ["sampled", "exact", "astra"])
def test_what_a_solver_costs_is_said_before_it_begins_and_is_what_it_costs(settings, done, name):
    told = io.StringIO()

    found = run(done.folder, replace(settings, solver=name), log=Log(stream=told), stop_after="query")

    (solved,) = read_solved(found.folder / "queries" / found.session.asked)
    lines = told.getvalue().splitlines()
    said = next(n for n, line in enumerate(lines) if line.startswith(f"solve: {name} takes about "))
    assert f"about {counted(solved.epochs, 'epoch')} of training for 3 questions" in lines[said]
    assert f"solve: epochs of training: {ceil(solved.epochs):,} of {ceil(solved.epochs):,}" in "\n".join(lines[said:])


@pytest.mark.parametrize("check", ["run", "pbrf"])
def test_an_exact_solve_of_a_large_model_is_refused_before_the_fit(settings, monkeypatch, tmp_path, check):
    monkeypatch.setattr("whence.curvature.inverse.exact.FEW", 1000)
    told, asked = io.StringIO(), replace(settings, solver="exact")

    job = partial(validate, check="pbrf") if check == "pbrf" else run

    with pytest.raises(InvalidSetting, match="at most 1,000 weights, or 1,000 rows .* here are 1,152 weights") as error:
        job(tmp_path / "r", asked, log=Log(stream=told))

    assert "--solver cg" in error.value.hint
    assert "fit" not in told.getvalue()
    assert not (tmp_path / "r" / "curvature").exists()


def test_a_residual_that_says_the_scores_are_worse_than_unsolved_comes_with_advice(done):
    (settled,) = done.answers.solved
    assert settled.advice is None

    far = replace(settled, solver="ekfac_refined", residual=3.9).advice
    assert "raise --damping (10, then 100)" in far
    assert "--solver cg" in far
    assert "--solver cg" not in replace(settled, solver="cg", residual=3.9).advice


def test_the_names_are_those_of_the_estimators():
    assert get_args(SolverName) == ("fitted", *INVERSES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curvature": "identity"}, "nothing to solve with"),
        ({"dtype": "bfloat16"}, "float32"),
        ({"rank": 8}, "keeps whole directions"),
        ({"by": ("answer",)}, "takes whole ones"),
        ({"solver": "newton"}, '"cg"'),
    ],
)
def test_what_a_solver_cannot_honour_is_refused(settings, changes, message):
    with pytest.raises(InvalidSetting, match=message):
        replace(settings, **changes)


@pytest.mark.parametrize("changes", [{"labels": "expected", "solver": "fitted"}, {"solver": "cg"}])
def test_a_plan_that_cannot_know_the_cost_says_so(settings, changes):
    with pytest.raises(InvalidSetting, match="cannot be planned"):
        plan(replace(settings, **changes))


def test_expected_labels_from_a_settings_file_leave_no_sampling_noise(settings, tmp_path):
    """24 words × the longest sequence's positions: a pass for each. Another seed changes nothing."""
    few = replace(settings, solver="fitted", labels="expected", layers=("model.layers.1.mlp.down_proj",), limit=2)
    one, other = (run(tmp_path / str(seed), replace(few, seed=seed), stop_after="fit") for seed in (0, 1))

    (name,) = one.session.curvature.blocks
    torch.testing.assert_close(one.session.curvature.dense(name), other.session.curvature.dense(name))
    assert not any("sampling noise" in note for note in one.session.curvature.notes)
