"""A prompt and its completion as tokens in the two ways there are: read together, or each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whence.data.documents import Document
from whence.data.encode import encode_all
from whence.jobs.stream import device_of

LONGEST = 512
"""Tokens of a pair that is looked at: seconds are promised."""
BETTER = 0.1
"""Nats a token by which other tokens must be likelier before they are taken for those of the training."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The tokens of a prompt and its completion, in the two ways."""

    joined: list[int]
    apart: list[int]
    first: int
    """Where the completion begins, in either."""

    @classmethod
    def of(cls, document: Document, tokenizer: Any) -> Pair:
        (piece,) = encode_all([document], tokenizer, 10**9)[0].pieces
        ids, first = piece.tokens.tolist(), int(piece.scored.argmax())
        return cls(ids, [*ids[:first], *tokenizer.encode(document.completion, add_special_tokens=False)], first)


def pairs_of(documents: Sequence[Document], tokenizer: Any, context: int) -> list[Pair]:
    """Of those documents that are a prompt and its completion, and short enough to be looked at.

    Args:
        context: Tokens a sequence may have.
    """
    both = [Pair.of(d, tokenizer) for d in documents if d.shape == "pair" and d.prompt]
    return [pair for pair in both if max(len(pair.joined), len(pair.apart)) < min(context, LONGEST)]


def log_p(model: nn.Module, ids: Sequence[int], first: int) -> list[float]:
    """The log-probability of each token from ``first`` on."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]], device=device_of(model))).logits[0, first - 1 :].float()
    wanted = torch.tensor(ids[first:], device=logits.device)
    return [float(one) for one in logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]]
