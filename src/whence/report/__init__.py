"""Scores become one HTML file that opens from disk, asks the network for nothing and explains itself.

    ReportData ──► pieces    tokens as they are shown: bytes joined, controls made visible
               ──► excerpt   what is read without JavaScript: facts, and the coloured text about the peak
               ──► pages     one compressed island a question: all tokens, values, layers × tokens
               ──► charts    the tail, as SVG
               ──► html      the template, with a content-security policy that names its own two scripts and style

`model` holds the words that a job fills in; nothing here imports torch.
"""

from whence.report.html import render
from whence.report.model import CoverageRow, Doc, Question, Recall, RecallRow, ReportData, Tail, Trust
from whence.report.pieces import surface, vocabulary_style

__all__ = [
    "CoverageRow",
    "Doc",
    "Question",
    "Recall",
    "RecallRow",
    "ReportData",
    "Tail",
    "Trust",
    "render",
    "surface",
    "vocabulary_style",
]
