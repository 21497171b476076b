"""Cheap filters that say which documents share words with a query, so that only those need be scored.

A filter restricts which documents are *scored*, never which the curvature is fitted on. Both filters here
prefer documents that repeat the query's tokens: what an influence says about such a document is safe, but influential
documents in other words, or in another language, are lost. Say so wherever a filter is used.

To add one, write ``data/filters/<name>.py``, a subclass of `Filter`, and a line in `FILTERS`.
"""

from whence.data.filters.bm25 import BM25
from whence.data.filters.postings import Filter
from whence.data.filters.tfidf import TFIDF

FILTERS: dict[str, type[Filter]] = {"tfidf": TFIDF, "bm25": BM25}

__all__ = ["BM25", "FILTERS", "TFIDF", "Filter"]
