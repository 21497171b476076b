"""Lexical filters: the formulas, document by document and token by token, against the inverted index."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.data.filters import BM25, FILTERS, TFIDF
from whence.errors import DataError, InvalidSetting

tokens = st.lists(st.integers(0, 12), max_size=15)
corpora = st.lists(tokens, min_size=1, max_size=9)


def idf(token, documents):
    n = sum(token in document for document in documents)
    return math.log((len(documents) - n + 0.5) / (n + 0.5) + 1)


def tfidf_by_the_paper(query, document, documents):
    return sum(idf(token, documents) for token in query if token in document)


def bm25_by_the_book(query, document, documents, k1=1.2, b=0.75):
    mean = sum(map(len, documents)) / len(documents)
    times, total = Counter(document), 0.0
    for token in query:
        if token in times:
            f = times[token]
            total += idf(token, documents) * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean))
    return total


BY_HAND = {"tfidf": tfidf_by_the_paper, "bm25": bm25_by_the_book}


def test_one_count_serves_every_filter():
    documents, query = [[1, 2, 2], [], [2, 3], [5]], [2, 5, 5]
    counted = BM25().fit(documents)
    for made in FILTERS.values():
        shared, own = made().counted_by(counted), made().fit(documents)
        assert shared.scores(query).tolist() == own.scores(query).tolist()
        assert shared.documents == 4


def test_every_filter_has_a_formula_to_be_checked_against():
    assert set(BY_HAND) == set(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
@given(documents=corpora, query=tokens)
def test_scores_are_the_formula_for_every_document(name, documents, query):
    scores = FILTERS[name]().fit(iter(documents)).scores(query)

    expected = [BY_HAND[name](query, document, documents) for document in documents]
    np.testing.assert_allclose(scores, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
@given(documents=corpora, query=tokens, k=st.integers(0, 12))
def test_the_top_is_a_sort_by_score_and_then_by_number(name, documents, query, k):
    fitted = FILTERS[name]().fit(documents)

    scores = fitted.scores(query)

    assert fitted.top(query, k).tolist() == sorted(range(len(documents)), key=lambda d: (-scores[d], d))[:k]


@pytest.mark.parametrize("name", FILTERS)
@given(documents=corpora, query=tokens, again=tokens)
def test_queries_add_up(name, documents, query, again):
    """A token given twice counts twice, and what a token adds does not depend on its neighbours."""
    fitted = FILTERS[name]().fit(documents)

    both = fitted.scores(query + again)

    np.testing.assert_allclose(both, fitted.scores(query) + fitted.scores(again), rtol=1e-12, atol=1e-12)


def test_token_arrays_of_any_integer_kind_are_read():
    documents = [np.array([1, 2, 2], dtype=np.uint16), np.array([3], dtype=np.int64), []]

    fitted = TFIDF().fit(documents)

    assert fitted.documents == 3
    assert fitted.lengths.tolist() == [3, 1, 0]
    assert fitted.top(np.array([3], dtype=np.int32), 1).tolist() == [1]


def test_a_token_nobody_wrote_scores_nothing():
    assert TFIDF().fit([[1, 2], [3]]).scores([99, 0]).tolist() == [0.0, 0.0]


def test_fitting_again_forgets_the_documents_before():
    fitted = BM25().fit([[1], [2]]).fit([[5, 5]])

    assert fitted.documents == 1
    assert fitted.scores([1]).tolist() == [0.0]


def test_bm25_without_repeats_or_length_is_tfidf():
    documents = [[1, 1, 2, 3], [2], [3, 3]]

    plain = BM25(k1=0.0).fit(documents).scores([1, 2, 3])

    np.testing.assert_allclose(plain, TFIDF().fit(documents).scores([1, 2, 3]))


@pytest.mark.parametrize("documents", [[], [[0.5, 1.0]], [[-1, 2]], [[[1, 2]]]])
@pytest.mark.parametrize("name", FILTERS)
def test_what_is_no_list_of_token_ids_is_refused(name, documents):
    with pytest.raises(DataError):
        FILTERS[name]().fit(documents)


@pytest.mark.parametrize("settings", [{"k1": -1.0}, {"b": 1.5}, {"b": -0.1}])
def test_bm25_refuses_settings_that_mean_nothing(settings):
    with pytest.raises(InvalidSetting):
        BM25(**settings)
