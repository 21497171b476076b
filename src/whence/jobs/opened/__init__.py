"""A finished run, opened again: what was asked, and the answers, read from disk without the model.

answers     what was asked and where its scores lie      shown    documents kept token by token
run         the object that a person holds               document, groups, tail    what it is asked for
"""

from whence.jobs.opened.answers import Answers, answers_of, by_document
from whence.jobs.opened.document import Document
from whence.jobs.opened.run import Run, Stage
from whence.jobs.views import TokenView, View

__all__ = ["Answers", "Document", "Run", "Stage", "TokenView", "View", "answers_of", "by_document"]
