"""Finding flipped labels: metrics by their definitions, and baselines that are what their names say."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting
from whence.evaluate.mislabelled import flip_labels, found, label_losses, margins
from whence.tasks import Classification
from whence.testing import tiny


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
