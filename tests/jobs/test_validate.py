"""Validating a run in miniature: what is refused first, what is written, what is used again."""

import io
import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import whence.jobs.validation.estimates as estimating
import whence.jobs.validation.points as jobs
from whence.errors import ArtifactError, InvalidSetting
from whence.evaluate.examples import collect
from whence.evaluate.training import Recipe, train
from whence.jobs.chosen import Chosen
from whence.jobs.log import Log
from whence.jobs.refine import make_inverse
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.validation.estimates import estimates
from whence.jobs.validation.job import validate
from whence.jobs.validation.judged import judged
from whence.jobs.validation.protocol import Protocol
from whence.jobs.validation.told import validated
from whence.world import World

RECIPE = """
start = "{start}"
{more}
[recipe]
optimiser = "adamw"
learning_rate = 0.01
epochs = 1
batch_size = 16
"""


WHOLE = "[recipe]\nlearning_rate = 1\nepochs = 1\nbatch_size = 1"
"""All that a recipe must have."""


@pytest.fixture
def settings(toy):
    return RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), layers=("mlp",)
    )


@pytest.fixture
def recipe(toy, tmp_path):
    def write(more="", text=RECIPE):
        path = tmp_path / "recipe.toml"
        path.write_text(text.format(start=toy / "model", more=more))
        return path

    return write


@pytest.fixture
def few_steps(monkeypatch):
    """Solves cut short: how well they do is for tests/evaluate to say, and this untrained model is no help in that."""
    monkeypatch.setattr(jobs, "pbrf", partial(jobs.pbrf, most=8, tolerance=1e-9))


def test_pbrf_needs_nothing_beside_the_run(settings, few_steps, tmp_path):
    told = io.StringIO()

    found = validate(tmp_path / "run", settings, "pbrf", count=4, log=Log(stream=told))

    assert re.search(r"solve: bregman, gradients at most: [2-7] of \d+\n", told.getvalue())  # while they are solved

    result = json.loads((tmp_path / "run" / "checks" / "pbrf.json").read_text())
    assert result == found.to_dict()
    assert set(result["agreement"]) == {"ekfac", "gradient dot", "cosine"}
    assert np.array(result["pbrf"]["response"]).shape == (3, 4)
    assert result["agreement"]["ekfac"]["pearson"]["queries"] == 3
    assert not result["pbrf"]["gradient_norm"]["converged"]
    assert "8 of 8 solves stopped short, and what is compared is where they stopped" in found.text()
    assert "Pearson" in found.text()
    assert "checks/pbrf.json" in found.text()

    (read,) = validated(tmp_path / "run", method="ekfac", damping="0.1", questions=result["questions"])
    assert read.text == "The proximal Bregman response of 4 training sequences, 3 questions."
    assert [row.method for row in read.rows] == ["EK-FAC", "gradient dot", "cosine"]
    for row, of in zip(read.rows, result["agreement"].values(), strict=True):
        assert (row.mean.value, list(row.each)) == (of["pearson"]["value"], of["pearson"]["per_query"])
        assert row.second.value == of["spearman"]["value"]
    assert [row.seconds for row in read.rows] == list(result["seconds"].values())
    assert [plot.question for plot in read.scatters] == [1, 2, 3]
    assert list(read.asked) == result["asked"]
    assert all(" → " in one for one in read.asked)
    assert read.scatters[1].dots[2] == (result["pbrf"]["response"][1][2], result["scores"]["ekfac"][1][2])
    page = (tmp_path / "run" / "checks" / "pbrf.html").read_text()
    assert "<script" not in page
    assert page.count('<figure class="scatter">') == 3
    assert "checks/pbrf.html" in found.text()
    assert read.figure.startswith("Pearson correlation: EK-FAC ")
    assert read.notes[0].startswith("8 of 8 solves stopped short")
    assert "8 of 8 solves stopped short" in page


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """The toy's model after 60 steps on its own text."""
    settings = RunSettings(model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"))
    session = Session(tmp_path_factory.mktemp("training") / "run", settings, Log.silent(), World())
    examples = collect(session.store)
    recipe = Recipe(learning_rate=0.02, epochs=60, batch_size=len(examples))
    made = train(session.model, session.task, examples, recipe, torch.ones(1, len(examples)))
    session.model.load_state_dict({name: tensor[0] for name, tensor in made.items()}, strict=False)
    folder = tmp_path_factory.mktemp("trained") / "model"
    session.model.save_pretrained(folder)
    session.tokenizer.save_pretrained(folder)
    return settings.replace(model=str(folder), layers=("model.layers.1.mlp.down_proj",))


def test_pbrf_converges_on_a_text_run_and_the_exact_solve_says_the_same(trained, tmp_path):
    found = validate(tmp_path / "run", trained.replace(solver="cg"), "pbrf", count=4).to_dict()

    assert found["pbrf"]["gradient_norm"]["converged"]
    assert found["pbrf"]["control_drift"] < 1e-3
    assert found["agreement"]["cg"]["pearson"]["value"] > 0.9  # EK-FAC has 0.56 here
    assert found["agreement"]["cg"]["pearson"]["value"] > found["agreement"]["gradient dot"]["pearson"]["value"] + 0.1
    (read,) = validated(tmp_path / "run", method="cg", damping="0.1", questions=found["questions"])
    assert read.figure.startswith("Pearson correlation: CG ")
    assert read.notes == ()


def test_how_well_the_judged_scores_were_solved_is_said_everywhere(settings, few_steps, tmp_path):
    found = validate(tmp_path / "run", settings.replace(solver="lissa", damping=10), "pbrf", count=4)

    (solved,) = found.to_dict()["solved"]
    assert solved["solver"] == "lissa"
    assert solved["steps"] > 1
    assert f"relative residual {solved['residual']:.2g} (worst" in found.text()
    (read,) = validated(tmp_path / "run", method="lissa", damping="10", questions=found.to_dict()["questions"])
    assert any("3 questions solved by lissa: relative residual" in value for _, value in read.settings)
    assert dict(read.settings)["damping"] == "10"
    assert "solved by lissa" in found.page.read_text()


def test_a_rung_that_was_not_solved_is_not_blamed_on_the_estimator(settings, recipe, few_steps, monkeypatch, tmp_path):
    monkeypatch.setattr(estimating, "make_inverse", lambda *a, **k: replace(make_inverse(*a, **k), most=1))

    found = validate(tmp_path / "run", settings.replace(damping=1e-3), "retrain", count=3, recipe=recipe())

    assert found.to_dict()["linearised"][0]["residual"] > 0.3
    assert "the linearised rung is not solved: conjugate gradient left a residual of" in found.text()
    assert "The linearised rung is not solved" in found.page.read_text()


def test_checks_of_one_recipe_share_their_models(settings, recipe, tmp_path):
    first = validate(tmp_path / "run", settings, "lds", count=4, recipe=recipe("fraction = 0.6"))
    again = validate(tmp_path / "run", settings, "lds", count=4, recipe=recipe("fraction = 0.6"))
    removal = validate(tmp_path / "run", settings, "removal", count=2, recipe=recipe())

    assert first.to_dict()["retrained_here"] == 5  # four subsets, and everything
    assert again.to_dict()["retrained_here"] == 0
    assert again.to_dict()["lds"] == first.to_dict()["lds"]
    assert removal.to_dict()["retrained_here"] <= 3 * 3 + 2  # a model a question and method, and the random ones
    assert len(list((tmp_path / "run" / "checks").glob("models-*"))) == 1
    assert first.to_dict()["settings"]["fraction"] == 0.6
    assert first.to_dict()["protocol"]["recipe"]["batch_size"] == 16

    subsets, removed = validated(tmp_path / "run", method="kfac", damping="0.2", questions="others")
    assert (subsets.name, removed.name) == ("lds", "removal")
    assert removed.rows[0].mean.value == pytest.approx(np.mean(removed.rows[0].each))
    assert "4 random subsets of 60% of the training sequences (1 seed each)" in subsets.text
    assert "beside 2 random removals" in removed.text
    assert [row.method for row in removed.rows] == ["EK-FAC", "gradient dot", "cosine"]
    assert subsets.notes[:3] == (
        "Checked scores by EK-FAC, not by K-FAC as here.",
        "Checked at damping 0.1, not at 0.2 as here.",
        "Checked with other questions than those here.",
    )
    assert subsets.notes[3] == (  # as the terminal says it
        "The start is the run's own model: give the checkpoint from before training as `start` in the recipe."
    )
    assert "give the checkpoint from before training" in first.text()


def test_a_run_without_checks_was_not_validated_and_a_broken_one_is_named(tmp_path):
    assert validated(tmp_path, method="ekfac", damping="0.1", questions="") == []

    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "lds.json").write_text('{"check": "lds"}')
    with pytest.raises(ArtifactError, match=r"lds\.json is not the result of a check"):
        validated(tmp_path, method="ekfac", damping="0.1", questions="")


def test_scores_of_chosen_sequences_are_those_of_the_whole(settings, tmp_path):
    of = judged(tmp_path / "run", settings, Log.silent(), World())
    session = Session(tmp_path / "run", settings, Log.silent(), World())

    few = estimates(of, Chosen(of.data, [7, 2, 20])).scores
    every = estimates(of, of.data).scores

    for name, values in few.items():
        torch.testing.assert_close(values, every[name][:, [7, 2, 20]], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(every["ekfac"], session.scores.total, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_done_is_refused_before_anything(settings, recipe, tmp_path):
    with pytest.raises(InvalidSetting, match="lds retrains models"):
        validate(tmp_path / "run", settings, "lds")
    with pytest.raises(InvalidSetting, match="pbrf solves near"):
        validate(tmp_path / "run", settings, "pbrf", recipe=recipe())
    with pytest.raises(InvalidSetting, match="--count 2 is too few for pbrf"):
        validate(tmp_path / "run", settings, "pbrf", count=2)
    with pytest.raises(InvalidSetting, match="no damping"):
        validate(tmp_path / "run", settings.replace(curvature="identity"), "pbrf")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("start = 3", "recipe"),
        ("strt = 3", "strt"),
        ("start = 'x'\nseeds = 0\n[recipe]\nlearning_rate = 1\nepochs = 1\nbatch_size = 1", "seeds"),
        ("start = 'x'\n[recipe]\nlearning_rate = 1\nepochs = 1\nbatch_size = 1\nlr = 2", "lr"),
        ("start = 'x'\ntogether = 0\n[recipe]\nlearning_rate = 1\nepochs = 1\nbatch_size = 1", "together"),
        ("start = ", "cannot be read"),
        ("start = 'x'\nfraction = 'half'\n" + WHOLE, "fraction must be a number between 0 and 1, not 'half'"),
        ("start = 'x'\nshare = 1\n" + WHOLE, "share must be a number between 0 and 1"),
        ("start = 'x'\nseeds = true\n" + WHOLE, "seeds must be a whole number"),
        ("start = 'x'\n" + WHOLE + "\nbetas = 0.9", "betas must be two numbers, not 0.9"),
        ("start = 'x'\n" + WHOLE + "\nbetas = [0.9]", "betas must be two numbers"),
        ("start = 'x'\n" + WHOLE + "\nclip = '1'", "clip must be a number, not '1'"),
        ("start = 'x'\n" + WHOLE + "\nweight_decay = -1", "weight_decay must not be negative"),
        ("start = 'x'\n" + WHOLE.replace("epochs = 1", "epochs = 1.5"), "epochs must be a whole number, not 1.5"),
        ("start = 'x'\n" + WHOLE.replace("rate = 1", "rate = 'x'"), "learning_rate must be a number, not 'x'"),
        ("start = 'x'\n[recipe]\nepochs = 1", "lacks learning_rate, batch_size"),
    ],
)
def test_a_recipe_file_names_its_mistake(recipe, text, named):
    with pytest.raises(InvalidSetting, match=named):
        Protocol.read(recipe(text=text))


def test_a_start_of_another_shape_is_refused(settings, recipe, toy, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    small = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=24)
    LlamaForCausalLM(small).save_pretrained(tmp_path / "small")
    path = recipe()
    path.write_text(path.read_text().replace(str(toy / "model"), str(tmp_path / "small")))

    with pytest.raises(InvalidSetting, match="other parameters"):
        validate(tmp_path / "run", settings, "lds", count=4, recipe=path)


def test_leaving_out_walks_down_the_whole_ladder(settings, recipe, few_steps, tmp_path):
    found = validate(tmp_path / "run", settings, "retrain", count=3, recipe=recipe())

    result = found.to_dict()
    steps = result["decomposition"]
    assert [gap["gap"] for gap in steps["gaps"]] == [
        "warm start",
        "proximity",
        "non-convergence",
        "linearisation",
        "solver",
    ]
    assert np.isfinite([np.array(rung).shape == (3, 3) and np.sum(rung) for rung in steps["rungs"].values()]).all()
    (read,) = validated(tmp_path / "run", method="ekfac", damping="0.1", questions=result["questions"])
    assert [(gap.name, gap.difference) for gap in read.gaps] == [
        (gap["gap"], gap["difference_nats"]) for gap in steps["gaps"]
    ]
    assert [row.method for row in read.rungs] == list(steps["pearson_with_retraining"])
    page = (tmp_path / "run" / "checks" / "retrain.html").read_text()
    assert all(
        f'<th scope="row">{gap.name}<span class="fine between">{gap.above} → {gap.below}</span>' in page
        for gap in read.gaps
    )
    assert result["distance_from_model"] is None  # training began at the model itself
    assert "the start is the run's own model" in found.text()
    assert "bregman: 6 of 6 solves stopped short" in found.text()
    assert len(list((tmp_path / "run" / "checks").glob("models-*"))) == 1  # start and model are one here
