"""What a filter lost: right on average and within its interval, exact where nothing is left to estimate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.evaluate.filter_recall import _clopper_pearson, filter_recall


def made(documents=2000, kept=200, seed=0):
    """Scores, of which a filter keeps the higher ones rather than the lower, but by no means only those."""
    draw = np.random.default_rng(seed)
    scores = draw.standard_normal(documents)
    order = np.argsort(-(scores + 2 * draw.standard_normal(documents)))
    mask = np.zeros(documents, bool)
    mask[order[:kept]] = True
    return scores, mask


def test_the_truth_is_in_the_interval_as_often_as_it_says():
    scores, kept = made()
    least = np.sort(scores[kept])[-20]
    truth = 20 / (scores >= least).sum()
    assert 0.1 < truth < 0.9
    inside, missing = [], []
    for seed in range(400):
        sample = np.random.default_rng(seed).choice(len(scores), 256, replace=False)
        left = sample[~kept[sample]]
        found = filter_recall(scores[kept], scores[left], int((~kept).sum()), top=20)
        inside.append(found.low <= truth <= found.high)
        missing.append(found.above / found.drawn * found.left_out)
    assert np.mean(inside) >= 0.95
    assert np.mean(missing) == pytest.approx((scores[~kept] >= least).sum(), rel=0.1)


def test_the_whole_of_what_was_left_out_gives_the_truth_and_nothing_left_out_gives_one():
    scores, kept = made(300, 30)
    found = filter_recall(scores[kept], scores[~kept], 270, top=5)
    least = np.sort(scores[kept])[-5]
    assert found.exact
    assert found.low == found.high == found.recall == pytest.approx(5 / (scores >= least).sum())
    every = filter_recall(scores, scores[:0], 0, top=5)
    assert every.exact
    assert every.recall == every.low == every.high == 1
    assert str(every) == "recall 1: nothing was left out"


def test_what_cannot_be_known_is_not_made_up():
    nothing_drawn = filter_recall(np.array([2.0, 1.0]), np.array([]), 3, top=2)
    assert nothing_drawn.recall is None
    assert (nothing_drawn.low, nothing_drawn.high) == (2 / 5, 1.0)
    assert "unknown [0.40, 1.00]" in str(nothing_drawn)
    none_raise = filter_recall(np.array([-1.0, 0.0]), np.array([0.5, -0.5]), 10, top=2)
    assert none_raise.k == 0
    assert none_raise.recall is None
    assert "1 of 2 sampled of the others do" in str(none_raise)


def test_fewer_raise_than_are_shown():
    found = filter_recall(np.array([3.0, 1.0, -1.0]), np.array([2.0, -2.0]), 20, top=10)
    assert found.k == 2
    assert found.above == 1
    assert found.recall == pytest.approx(2 / (2 + 10))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipy_s_exact_one(drawn):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(*drawn).proportion_ci(0.95, method="exact")
    assert _clopper_pearson(*drawn, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-9)
