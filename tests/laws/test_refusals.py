"""Resuming never returns another run's numbers."""

from __future__ import annotations

import pytest
import torch
from tests.cases import Interrupted, lm

from whence.errors import ArtifactMismatch
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.testing import tiny, toys

CASE = lm()
DATA = toys.TinyData(CASE.examples)
OTHER_DATA = toys.TinyData(toys.sequences(seed=9))


def fitted(folder=None, model=CASE.model, data=DATA, **settings):
    return fit(model, data, task=CASE.task, layers=settings.pop("layers", CASE.layers), folder=folder, **settings)


def asked(curvature, number=0):
    parts = [QueryBatch(CASE.examples[number], torch.tensor([0]), torch.ones(1))]
    return query_gradients(curvature, CASE.model, parts, task=CASE.task, rank=None)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": tiny.language_model(seed=1)},
        {"data": OTHER_DATA},
        {"seed": 1},
        {"samples": 2},
        {"labels": "true"},
        {"curvature": "kfac"},
        {"layers": "mlp"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_fit_of_something_else_is_refused(changed, tmp_path):
    fitted(tmp_path)
    with pytest.raises(ArtifactMismatch):
        fitted(tmp_path, **changed)


def test_a_started_fit_of_something_else_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, data=Interrupted(CASE.examples).killed_after(3))
    with pytest.raises(ArtifactMismatch):
        fitted(tmp_path, model=tiny.language_model(seed=1))
    fitted(tmp_path)


def test_another_damping_needs_no_other_fit(tmp_path):
    first = fitted(tmp_path)
    again = fitted(tmp_path, damping=0.5)
    for layer, damping in first.dampings.items():
        assert again.dampings[layer] == pytest.approx(5 * damping)


@pytest.mark.parametrize("curvature", ["identity", "ekfac"])
def test_a_finished_fit_read_again_solves_the_same(curvature, tmp_path):
    gradients = CASE.oracle().gradients()
    first, again = (fitted(tmp_path, curvature=curvature).solve(gradients) for _ in range(2))
    for layer, expected in first.items():
        assert torch.equal(again[layer], expected)


@pytest.mark.parametrize("changed", ["model", "data", "curvature", "queries", "damping", "by_layer"])
def test_scores_of_something_else_are_refused(changed, tmp_path):
    curvature = fitted()
    options = {"model": CASE.model, "task": CASE.task, "folder": tmp_path}
    score(curvature, asked(curvature), DATA, **options)
    data = OTHER_DATA if changed == "data" else DATA
    other = {"curvature": fitted(seed=3), "damping": curvature.with_damping(1.0)}.get(changed, curvature)
    queries = asked(curvature, 1) if changed == "queries" else asked(other)
    if changed == "model":
        options["model"] = tiny.language_model(seed=1)
    with pytest.raises(ArtifactMismatch):
        score(other, queries, data, by_layer=changed == "by_layer", **options)


@pytest.mark.parametrize("changed", ["model", "data", "curvature", "damping"])
def test_self_influence_of_something_else_is_refused(changed, tmp_path):
    curvature = fitted()
    options = {"model": CASE.model, "task": CASE.task, "folder": tmp_path}
    self_influence(curvature, DATA, **options)
    other = {"curvature": fitted(seed=3), "damping": curvature.with_damping(1.0)}.get(changed, curvature)
    if changed == "model":
        options["model"] = tiny.language_model(seed=1)
    with pytest.raises(ArtifactMismatch):
        self_influence(other, OTHER_DATA if changed == "data" else DATA, **options)


def test_a_model_of_other_sizes_is_refused():
    curvature = fitted()
    with pytest.raises(ArtifactMismatch):
        query_gradients(
            curvature,
            tiny.language_model(hidden=4),
            [QueryBatch(CASE.examples[0], torch.tensor([0]), torch.ones(1))],
            task=CASE.task,
            rank=None,
        )
