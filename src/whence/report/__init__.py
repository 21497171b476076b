"""Scores become one HTML file that opens from disk, asks the network for nothing and explains itself.

    ReportData ──► pages     compressed: an index of each question's documents, and their texts, opened on demand
               ──► excerpt   what is read without JavaScript: the coloured text about the peak
               ──► pieces    tokens as they are shown: bytes joined, controls made visible
               ──► html      the template, with a content-security policy that names its own two scripts and style

`model`, `shape`, `trust` and `checked` hold the words that a job fills in; `words` and `overlap` compare texts with
each other; `check_page` is one check by itself.
Nothing here imports torch.
"""

from whence.report.checked import Agreement, Estimate, Gap, Scatter, Validation
from whence.report.html import render
from whence.report.model import AnswerToken, Doc, Question, ReportData, Shared
from whence.report.pieces import surface, vocabulary_style
from whence.report.shape import Against, Fit, GroupRow, GroupTotals, Matrix, Tail
from whence.report.trust import CheckRow, CoverageRow, Lost, Recall, RecallRow, Swept, Trust, WouldKeep

__all__ = [
    "Against",
    "Agreement",
    "AnswerToken",
    "CheckRow",
    "CoverageRow",
    "Doc",
    "Estimate",
    "Fit",
    "Gap",
    "GroupRow",
    "GroupTotals",
    "Lost",
    "Matrix",
    "Question",
    "Recall",
    "RecallRow",
    "ReportData",
    "Scatter",
    "Shared",
    "Swept",
    "Tail",
    "Trust",
    "Validation",
    "WouldKeep",
    "render",
    "surface",
    "vocabulary_style",
]
