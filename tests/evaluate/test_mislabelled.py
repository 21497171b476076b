"""Finding flipped labels: metrics by their definitions, and baselines that are what their names say."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting, ModelError
from whence.evaluate.mislabelled import flip_labels, found, label_losses, margins
from whence.evaluate.models import at, example_losses, mapped, parameters_of, stacked
from whence.tasks import Classification
from whence.testing import tiny
from whence.types import TENSORS, Batch


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12))
def test_auc_is_the_chance_that_a_flipped_one_is_suspected_more(pairs):
    suspicion, flipped = np.array([float(s) for s, _ in pairs]), np.array([f for _, f in pairs])
    if flipped.all() or not flipped.any():
        with pytest.raises(DataError):
            found(suspicion, flipped)
        return
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(suspicion[flipped], suspicion[~flipped])
    ]

    assert found(suspicion, flipped).auc == pytest.approx(np.mean(wins))


def test_precision_counts_the_most_suspected_and_breaks_ties_in_expectation():
    suspicion = np.array([9.0, 8.0, 7.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    flipped = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)

    assert found(suspicion, flipped, share=0.1).precision == 1.0
    assert found(suspicion, flipped, share=0.3).precision == pytest.approx(2 / 3)
    assert found(suspicion, flipped, share=0.5).precision == pytest.approx((2 + 2 * 0.25) / 5)
    assert found(np.zeros(10), flipped, share=0.1).precision == pytest.approx(0.3)


def test_flipped_labels_are_other_classes_and_as_many_as_asked():
    labels = torch.arange(200) % 4

    wrong, flipped = flip_labels(labels, 4, fraction=0.1, seed=3)

    assert int(flipped.sum()) == 20
    assert torch.equal(wrong != labels, flipped)
    assert set(wrong.tolist()) == {0, 1, 2, 3}
    assert torch.equal(flip_labels(labels, 4, fraction=0.1, seed=3)[0], wrong)
    assert not torch.equal(flip_labels(labels, 4, fraction=0.1, seed=4)[0], wrong)
    with pytest.raises(InvalidSetting):
        flip_labels(labels, 1)


def test_baselines_are_the_loss_and_the_margin_of_each_example():
    model, x, y = tiny.mlp(4, 5, 3), torch.randn(7, 4, dtype=torch.float64), torch.arange(7) % 3
    data = TensorData(x, y, batch_size=3, units=2)
    logits = model(x).detach()

    losses, gaps = label_losses(model, Classification(), data), margins(model, Classification(), data)

    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, y, reduction="none"))
    for row in range(7):
        others = [logits[row, c] for c in range(3) if c != y[row]]
        assert float(gaps[row]) == pytest.approx(float(logits[row, y[row]] - max(others)))


def test_a_padded_text_classifier_is_asked_with_its_mask():
    """Loss and margin of each text are those of the text alone, also at many models at once."""
    model, ids, lengths = tiny.text_classifier(), tiny.token_ids(4, 6), [6, 4, 3, 5]
    real = torch.arange(6)[None] < torch.tensor(lengths)[:, None]
    labels = torch.tensor([0, 1, 2, 1])
    data = TensorData(ids.where(real, torch.tensor(7)), labels, real=real, batch_size=4)
    alone = [model(ids[row : row + 1, :length]).logits.detach()[0] for row, length in enumerate(lengths)]
    expected = torch.stack([-row.log_softmax(-1)[label] for row, label in zip(alone, labels, strict=True)])

    losses, gaps = label_losses(model, Classification(), data), margins(model, Classification(), data)

    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    others = [torch.cat([row[:label], row[label + 1 :]]).max() for row, label in zip(alone, labels, strict=True)]
    gap = torch.stack([row[label] - other for row, label, other in zip(alone, labels, others, strict=True)])
    torch.testing.assert_close(gaps, gap, rtol=1e-5, atol=1e-6)

    (batch,) = data.batches(0)
    stack = stacked(parameters_of(model), 2)
    found = mapped(lambda own: example_losses(Classification(), at(model, own), batch), stack)
    torch.testing.assert_close(found.detach(), expected.expand(2, 4), rtol=1e-5, atol=1e-6)

    each = [getattr(batch, name)[:2, None] for name in TENSORS]
    one_each = mapped(
        lambda own, *one: example_losses(Classification(), at(model, own), Batch(*one)).sum(), stack, *each
    )
    torch.testing.assert_close(one_each.detach(), expected[:2], rtol=1e-5, atol=1e-6)  # its mask stops vmap


def test_chance_in_a_forward_pass_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), Noise())
    batch = next(iter(TensorData(torch.randn(4, 3), torch.tensor([0, 1, 0, 1])).batches(0)))

    with pytest.raises(ModelError, match="draws random numbers"):
        mapped(lambda own: example_losses(Classification(), at(model, own), batch), stacked(parameters_of(model), 2))


class Noise(torch.nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)
