"""Correlations are scipy's, rows without one are left out, and a paired bootstrap sees what an unpaired one cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import DataError
from whence.evaluate.statistics import kendall, mean_over_queries, paired, pearson, ranks, spearman

numbers = st.integers(-4, 4).map(float) | st.floats(-1e3, 1e3, width=32)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_correlations_are_those_of_scipy_ties_included(pairs):
    stats = pytest.importorskip("scipy.stats")
    a, b = np.array(pairs).T

    assert ranks(a) == pytest.approx(stats.rankdata(a))
    if len(set(a)) > 1 and len(set(b)) > 1:
        assert spearman(a[None], b[None])[0] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
        assert kendall(a[None], b[None])[0] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-9)
        if np.std(a) > 1e-6 and np.std(b) > 1e-6:
            assert pearson(a[None], b[None])[0] == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-7)


def test_ranks_share_ties_row_by_row():
    assert ranks(np.array([[1.0, 1.0, 0.0], [2.0, 3.0, 1.0]])).tolist() == [[2.5, 2.5, 1.0], [2.0, 3.0, 1.0]]


def test_a_monotone_change_leaves_spearman_at_one():
    a = np.array([[0.1, 3.0, 2.0, -1.0]])

    assert spearman(a, np.exp(a))[0] == pytest.approx(1.0)
    assert spearman(a, -(a**3))[0] == pytest.approx(-1.0)


def test_a_constant_row_has_no_correlation_and_is_not_averaged():
    a = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    values = spearman(a, np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))

    mean = mean_over_queries(values)

    assert np.isnan(values[1])
    assert (mean.value, mean.queries) == (pytest.approx(1.0), 1)
    assert mean_over_queries(values[1:]).to_dict() == {"value": None, "interval": None, "queries": 0}


def test_the_interval_holds_the_mean_and_covers_it_as_often_as_it_says():
    draw = np.random.default_rng(0)
    means = [mean_over_queries(draw.normal(0.3, 1, 40), resamples=400) for _ in range(200)]

    covered = np.mean([mean.interval.low <= 0.3 <= mean.interval.high for mean in means])

    assert all(mean.interval.low <= mean.value <= mean.interval.high for mean in means)
    assert 0.88 < covered < 0.99


def test_the_paired_difference_is_that_of_the_same_queries():
    draw = np.random.default_rng(0)
    hard = draw.normal(0, 1, 30)  # queries differ far more than methods do
    better, worse = hard + 0.1 + draw.normal(0, 0.02, 30), hard

    found = paired(better, worse, seed=1)

    assert found.value == pytest.approx((better - worse).mean())
    assert 0.08 < found.interval.low < found.value < found.interval.high < 0.12
    assert found.p < 0.01
    assert paired(worse, worse).p == 1.0
    assert paired(better, worse, seed=1) == found


def test_the_paired_p_agrees_with_scipy_s_permutation_test():
    stats = pytest.importorskip("scipy.stats")
    gap = np.random.default_rng(3).normal(0.25, 1, 25)

    theirs = stats.permutation_test(
        (gap,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    ).pvalue

    assert paired(gap, np.zeros(25)).p == pytest.approx(theirs, abs=0.05)


def test_methods_without_a_query_in_common_cannot_be_compared():
    with pytest.raises(DataError):
        paired(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))
    with pytest.raises(DataError):
        spearman(np.zeros((3, 1)), np.zeros((3, 1)))


def test_no_resampling_makes_much_of_few_queries():
    """Of n differences of one sign 2 · 2⁻ⁿ is the least that a two-sided test can say."""
    for n in (1, 2, 3, 5):
        assert paired(np.full(n, 0.8), np.zeros(n)).p == 2 * 0.5**n
    assert "[" not in str(paired(np.array([0.8]), np.array([0.0])))
