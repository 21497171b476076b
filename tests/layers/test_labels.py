"""Expected labels: the Fisher without sampling, where labels are few enough to be taken one by one."""

from __future__ import annotations

import pytest
import torch
from tests.cases import OURS, lm, pictures, table
from torch.testing import assert_close

from whence.curvature import CURVATURES
from whence.errors import InvalidSetting
from whence.jobs.fit import fit
from whence.testing import convnets, tiny, toys

FEW = [name for name in OURS if not name.startswith("lm")] + ["lm"]


def fitted(case, curvature="ekfac", labels="expected", **settings):
    data = toys.TinyData(case.examples, batch_size=settings.pop("batch_size", 3))
    return fit(case.model, data, task=case.task, layers=case.layers, curvature=curvature, labels=labels, **settings)


@pytest.mark.parametrize("curvature", [name for name in CURVATURES if name != "identity"])
@pytest.mark.parametrize("name", FEW)
def test_the_curvature_is_that_of_the_exact_expectation(name, curvature):
    """Moments, eigenvalues and squares against the oracle that sums over labels; nothing is drawn."""
    case = OURS[name]()
    oracle, found = case.oracle(), fitted(case, curvature)
    for layer in case.layers:
        block = found.blocks[layer]
        if curvature == "ekfac":
            basis = block.output_basis, block.input_basis
            for moment, q in zip((oracle.output_moment(layer), oracle.input_moment(layer)), basis, strict=True):
                assert_close(q @ (q.T @ moment @ q).diagonal().diag() @ q.T, moment)
            assert_close(block.eigenvalues, oracle.eigenvalues(layer, basis))
        else:
            assert_close(found.dense(layer), getattr(oracle, curvature)(layer))


@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_squares_of_the_losses_gradients_sum_to_the_fisher(name):
    """Σ over labels of g gᵀ is E[g gᵀ], cross terms between weights included."""
    case = OURS[name]()
    oracle = case.oracle()
    count = case.task.label_count(case.model, case.examples[0])
    for layer in case.layers:
        total = 0.0
        for one in case.examples:
            for sample in range(count):
                loss = case.task.loss(case.model, one, labels="expected", sample=sample).sum()
                module = case.model.get_submodule(layer)
                weight, bias = torch.autograd.grad(loss, list(module.parameters()))
                gradient = torch.cat([weight, bias[:, None]], dim=1).flatten()
                total = total + torch.outer(gradient, gradient) / len(case.examples)
        assert_close(total, oracle.fisher(layer))


def test_the_fisher_of_a_regression_is_its_gauss_newton_matrix():
    """E[x xᵀ] for each output of a linear map, to the last digit and at any target."""
    case = table(3, 2, bias=False, regression=True)
    x = torch.cat([one.inputs for one in case.examples])
    assert_close(fitted(case, "kfac").dense("0"), torch.kron(torch.eye(2, dtype=x.dtype), x.T @ x / len(x)))


def test_neither_seed_nor_batch_size_changes_anything():
    case = pictures(convnets.tiny_resnet())
    one, other = fitted(case, seed=0, batch_size=1), fitted(case, seed=7, batch_size=6)
    for layer in case.layers:
        assert_close(one.blocks[layer].eigenvalues.sum(), other.blocks[layer].eigenvalues.sum())
        assert_close(one.dense(layer), other.dense(layer), rtol=1e-7, atol=1e-10)


def test_samples_approach_the_expectation():
    case = table(3, 3, 3)
    exact = fitted(case, "diagonal").dense("0")
    few, many = (fitted(case, "diagonal", "sampled", samples=k, batch_size=8).dense("0") for k in (1, 64))
    assert (many - exact).norm() < 0.3 * (few - exact).norm()


def test_a_language_model_takes_a_pass_for_each_word_at_each_position_of_its_longest_sequence():
    case = lm()
    longest = max(int(one.scored.sum()) for one in case.examples)
    batch = toys.collate(case.examples)

    assert case.task.label_count(case.model, batch) == 7 * longest
    losses = [case.task.loss(case.model, batch, labels="expected", sample=k) for k in range(7 * longest)]
    counted = torch.stack([loss > 0 for loss in losses]).sum(0)
    assert counted.tolist() == [7 * int(scored) for scored in batch.scored.sum(1)]


def test_a_vocabulary_of_too_many_words_is_refused_with_what_it_would_cost(monkeypatch):
    case = lm()
    monkeypatch.setattr("whence.jobs.fit.checked_layers", pytest.fail)  # before the first pass
    monkeypatch.setattr("whence.tasks.causal_lm.MOST_LABELS", 20)
    with pytest.raises(InvalidSetting, match=r"vocabulary of 7 × \d positions = \d\d passes(.|\n)*sampled"):
        fitted(case)


@pytest.mark.parametrize("labels", ["expected", "true"])
def test_samples_of_what_is_not_sampled_are_refused(labels):
    with pytest.raises(InvalidSetting, match="samples"):
        fitted(table(), labels=labels, samples=2)


def test_labels_of_no_kind_are_refused():
    with pytest.raises(InvalidSetting, match="'guessed'"):
        fitted(table(), labels="guessed")


def test_a_sequence_classifier_of_transformers_is_read_with_its_padding_masked():
    """Its curvature does not depend on how far a sequence was padded, and the pooled layers are found."""
    from whence.data import TensorData
    from whence.tasks import Classification

    model, ids, lengths = tiny.text_classifier(), tiny.token_ids(5, 6), [6, 4, 3, 6, 5]

    def found(padding):
        wide = torch.nn.functional.pad(ids, (0, padding), value=7)
        real = torch.arange(6 + padding)[None] < torch.tensor(lengths)[:, None]
        data = TensorData(wide, torch.tensor([0, 1, 2, 1, 0]), real=real)
        return fit(model, data, task=Classification(), curvature="kfac", labels="expected", layers="*")

    one, other = found(0), found(3)
    assert set(one.pooled) == {"bert.pooler.dense", "classifier"}
    assert one.counts["positions"] == sum(lengths)
    assert one.counts["positions.classifier"] == 5
    for layer in one.blocks:
        assert_close(one.dense(layer), other.dense(layer), rtol=1e-4, atol=1e-5 * float(one.dense(layer).abs().max()))
