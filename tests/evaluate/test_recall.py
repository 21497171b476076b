"""Recall with ties: exact against every way of breaking them, and chance for a method that knows nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import NumericalError
from whence.evaluate.recall import RecallTable, bootstrap, found_within, recall_at, recall_table, reciprocal_ranks


def by_every_order(k, row, true):
    """Average over all orders of the file that a stable sort by score could have met."""
    hits = [
        true in sorted(order, key=lambda document: -row[document])[:k]
        for order in itertools.permutations(range(len(row)))
    ]
    return sum(hits) / len(hits)


@given(row=st.lists(st.integers(0, 3), min_size=1, max_size=5), k=st.integers(1, 6), data=st.data())
def test_ties_are_broken_at_random_in_expectation(row, k, data):
    true = data.draw(st.integers(0, len(row) - 1))

    found = found_within(k, np.array([row], dtype=float), np.array([true]))

    assert found[0] == pytest.approx(by_every_order(k, row, true))


@pytest.mark.parametrize("k", [1, 10, 50, 80])
def test_a_method_that_scores_everything_alike_gets_what_chance_gets(k):
    assert recall_at(k, np.zeros((4, 50)), np.array([0, 3, 20, 49])) == pytest.approx(min(k / 50, 1))


def test_without_ties_it_counts_ranks():
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [1.0, 2.0, 3.0]])

    assert [recall_at(k, scores, np.array([1, 2, 0])) for k in (1, 2, 3)] == [1 / 3, 1 / 3, 1.0]


def test_documents_that_were_never_scored_come_last():
    scores = np.array([[-np.inf, -5.0, -np.inf]])

    assert recall_at(1, scores, np.array([1])) == 1.0
    assert recall_at(2, scores, np.array([0])) == 0.5


def test_a_nan_has_no_rank():
    with pytest.raises(NumericalError, match="document 1 for question 0"):
        recall_at(1, np.array([[1.0, np.nan]]), np.array([0]))


@pytest.mark.parametrize(("k", "truth"), [(0, [0]), (1, [2]), (1, [-1]), (1, [])])
def test_a_question_that_cannot_be_asked_is_refused(k, truth):
    with pytest.raises(ValueError):
        recall_at(k, np.zeros((len(truth), 2)), np.array(truth, dtype=int))


def test_the_interval_covers_the_true_rate_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = bootstrap((draw.random(60) < 0.7).astype(float), resamples=400, seed=seed)
        covered += interval.low <= 0.7 <= interval.high

    assert 0.88 <= covered / 200 <= 0.99


def test_the_interval_is_the_same_again_and_draws_nothing_from_the_global_generator():
    found = np.array([1.0, 0.0, 1.0, 0.5])
    np.random.seed(3)
    before = np.random.get_state()[1].copy()

    assert bootstrap(found) == bootstrap(found)
    assert (np.random.get_state()[1] == before).all()


def test_the_table_holds_every_method_at_every_k():
    truth = np.array([2, 0])
    good, poor = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])

    table = recall_table({"good": good, "poor": poor}, truth, ks=(1, 3))

    assert isinstance(table, RecallTable)
    assert (table.methods, table.ks, table.questions, table.documents) == (["good", "poor"], [1, 3], 2, 3)
    assert table.at(1) == {"good": 1.0, "poor": 0.0}
    assert table.at(3) == {"good": 1.0, "poor": 1.0}
    assert len({len(line) for line in table.lines()}) == 1


def test_methods_that_scored_other_documents_are_not_compared():
    with pytest.raises(ValueError, match="one shape"):
        recall_table({"a": np.zeros((1, 3)), "b": np.zeros((1, 4))}, np.array([0]))


def test_the_reciprocal_rank_is_its_expectation_over_the_orders_of_ties():
    scores, truth = np.array([[2.0, 1.0, 1.0, 1.0, 0.0]]), np.array([2])
    orders = [order.index(2) + 2 for order in itertools.permutations([1, 2, 3])]

    assert reciprocal_ranks(scores, truth)[0] == pytest.approx(np.mean([1 / rank for rank in orders]))
    assert reciprocal_ranks(np.zeros((1, 4)), np.array([0]))[0] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    with pytest.raises(NumericalError):
        reciprocal_ranks(np.array([[np.nan, 1.0]]), np.array([0]))
