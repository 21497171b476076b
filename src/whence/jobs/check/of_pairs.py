"""Prompts and completions: whether the model was trained on the tokens that they are read as.

A trainer may tokenise a prompt and its completion together, as we do, or each by itself, which for some tokenizers
gives other tokens; and it may put an end token after them. The rows do not say which. The model does: it learnt one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from whence.counted import counted
from whence.data.documents import Document
from whence.data.queries import Query
from whence.data.special import end_token, special_ids
from whence.jobs.check.findings import Finding, Verdict
from whence.jobs.pairs import BETTER, Pair, log_p, pairs_of

ENDS = 0.5
"""Probability of the end token from which a model is taken to have been trained on one."""


def pairs(model: nn.Module, tokenizer: Any, documents: Sequence[Document], context: int) -> Iterator[Finding]:
    """What the model makes of the first pairs, read in either way; nothing where the rows are no pairs.

    Args:
        context: Tokens a sequence may have: longer pairs are left out.
    """
    both = pairs_of(documents, tokenizer, context)
    if not both:
        return
    read = _Read.of(model, both)
    yield _tokens("completions", read, "wrong", _TRAINED)
    end = end_token(tokenizer)
    if end is not None and not any(pair.joined[-1] in special_ids(tokenizer) for pair in both):
        learnt = [pair.apart if read.gain > BETTER else pair.joined for pair in both]
        yield _end([log_p(model, [*ids, end[0]], len(ids))[0] for ids in learnt], end[1])


def answers(model: nn.Module, tokenizer: Any, queries: Sequence[Query], context: int) -> Iterator[Finding]:
    """The same of what is asked: an answer in tokens that the model never wrote is another question."""
    documents = [part.document(query.id) for query in queries for part in query.parts if part.chat is None]
    both = pairs_of(documents, tokenizer, context)
    if both:
        yield _tokens("answers", _Read.of(model, both), "note", _ASKED)


_TRAINED = (
    "the model was trained on prompts and completions tokenised apart: give rows of input_ids and labels, as the "
    "training made them"
)
_ASKED = (
    "the model knows them tokenised apart from their prompts: ask in rows of input_ids and labels (--query FILE), as "
    "the training made them; a tokenizer that puts a space before every text writes them so after one space more"
)


@dataclass(frozen=True, slots=True)
class _Read:
    """Pairs by the model, in either way."""

    count: int
    unlike: int
    """How many are other tokens by themselves; the rest is of these alone."""
    ours: float
    """Nats a token of those that we read."""
    theirs: float
    """Nats of the others, over as many tokens."""

    @property
    def gain(self) -> float:
        return self.ours - self.theirs

    @classmethod
    def of(cls, model: nn.Module, both: Sequence[Pair]) -> _Read:
        unlike = [pair for pair in both if pair.joined != pair.apart]
        tokens = max(1, sum(len(pair.joined) - pair.first for pair in unlike))
        ours = -math.fsum(sum(log_p(model, pair.joined, pair.first)) for pair in unlike)
        theirs = -math.fsum(sum(log_p(model, pair.apart, pair.first)) for pair in unlike)
        return cls(len(both), len(unlike), ours / tokens, theirs / tokens)


def _tokens(name: str, read: _Read, verdict: Verdict, advice: str) -> Finding:
    if not read.unlike:
        text = f"the same tokens in each of {counted(read.count, 'pair')}, tokenised with its prompt or by itself"
        return Finding(name, "ok", text, 0.0)
    text = (
        f"as read, with their prompts, {name} have {read.ours:.2f} nats a token; by themselves {read.unlike:,} of "
        f"{read.count:,} would be other tokens, of {read.theirs:.2f} nats for each of these"
    )
    good = read.gain <= BETTER
    return Finding(name, "ok" if good else verdict, text, read.gain, None if good else advice)


def _end(logs: Sequence[float], end: str) -> Finding:
    share = math.fsum(map(math.exp, logs)) / len(logs)
    text = f"after a completion the model gives its end token the probability {share:.2f}, in the mean of {len(logs)}"
    if share < ENDS:
        return Finding("end token", "ok", f"{text}; the rows have none", share)
    advice = f'it was trained on one, which the rows lack: end each completion with "{end}", as text'
    return Finding("end token", "note", text, share, advice)
