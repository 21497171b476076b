"""Prompts and completions: whether the model was trained on the tokens that they are read as.

A trainer may tokenise a prompt and its completion together, as we do, or each by itself, which for some tokenizers
gives other tokens; and it may put an end token after them. The rows do not say which. The model does: it learnt one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whence.counted import counted
from whence.data.documents import Document
from whence.data.encode import encode_all
from whence.data.special import end_token, special_ids
from whence.jobs.check.findings import Finding
from whence.jobs.stream import device_of

LONGEST = 512
"""Tokens of a pair that is looked at: seconds are promised."""
BETTER = 0.1
"""Nats a token by which other tokens must be likelier before they are taken for those of the training."""
ENDS = 0.5
"""Probability of the end token from which a model is taken to have been trained on one."""


def pairs(model: nn.Module, tokenizer: Any, documents: Sequence[Document], context: int) -> Iterator[Finding]:
    """What the model makes of the first pairs, read in either way; nothing where the rows are no pairs.

    Args:
        context: Tokens a sequence may have: longer pairs are left out.
    """
    some = [d for d in documents if d.shape == "pair"]
    both = [_Pair.of(d, tokenizer) for d in some]
    both = [pair for pair in both if max(len(pair.joined), len(pair.apart)) < min(context, LONGEST)]
    if not both:
        return
    end = end_token(tokenizer)
    ours = [_log_p(model, pair.joined, pair.first) for pair in both]
    unlike = [n for n, pair in enumerate(both) if pair.joined != pair.apart]
    theirs = [_log_p(model, both[n].apart, both[n].first) if n in unlike else ours[n] for n in range(len(both))]
    tokens = sum(len(both[n].joined) - both[n].first for n in unlike)
    gain = (sum(map(sum, theirs)) - sum(map(sum, ours))) / tokens if unlike else 0.0
    yield _tokens(len(both), len(unlike), gain, [-sum(sum(lp[n]) for n in unlike) for lp in (ours, theirs)], tokens)
    if end is not None and not any(pair.joined[-1] in special_ids(tokenizer) for pair in both):
        read = [pair.apart if gain > BETTER else pair.joined for pair in both]
        yield _end([_log_p(model, [*ids, end[0]], len(ids))[0] for ids in read], end[1])


@dataclass(frozen=True, slots=True)
class _Pair:
    """The tokens of a prompt and its completion, in the two ways."""

    joined: list[int]
    apart: list[int]
    first: int
    """Where the completion begins, in either."""

    @classmethod
    def of(cls, document: Document, tokenizer: Any) -> _Pair:
        (piece,) = encode_all([document], tokenizer, 10**9)[0].pieces
        ids, first = piece.tokens.tolist(), int(piece.scored.argmax())
        return cls(ids, [*ids[:first], *tokenizer.encode(document.completion, add_special_tokens=False)], first)


def _log_p(model: nn.Module, ids: Sequence[int], first: int) -> list[float]:
    """The log-probability of each token from ``first`` on."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]], device=device_of(model))).logits[0, first - 1 :].float()
    wanted = torch.tensor(ids[first:], device=logits.device)
    return [float(one) for one in logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]]


def _tokens(count: int, unlike: int, gain: float, losses: Sequence[float], tokens: int) -> Finding:
    name = "completions"
    if not unlike:
        text = f"of {counted(count, 'pair')} each is the same tokens, the completion read with its prompt or by itself"
        return Finding(name, "ok", text, 0.0)
    ours, theirs = (loss / tokens for loss in losses)
    text = (
        f"as read, with their prompts, completions have {ours:.2f} nats a token; by themselves {unlike:,} of {count:,} "
        f"would be other tokens, of {theirs:.2f} nats for each of these"
    )
    if gain <= BETTER:
        return Finding(name, "ok", text, gain)
    advice = (
        "the model was trained on prompts and completions tokenised apart: give rows of input_ids and labels, as the "
        "training made them"
    )
    return Finding(name, "wrong", text, gain, advice)


def _end(log_p: Sequence[float], end: str) -> Finding:
    share = math.fsum(map(math.exp, log_p)) / len(log_p)
    text = f"after a completion the model gives its end token the probability {share:.2f}, in the mean of {len(log_p)}"
    if share < ENDS:
        return Finding("end token", "ok", f"{text}; the rows have none", share)
    advice = f'it was trained on one, which the rows lack: end each completion with "{end}", as text'
    return Finding("end token", "note", text, share, advice)
