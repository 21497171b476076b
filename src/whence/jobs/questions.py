"""Questions: those that settings name, and those made in Python, kept in the run as a file that ``--query`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from whence.data.answer_tokens import AnswerTokens, by_answer
from whence.data.queries import Query, QueryBatch, ask, read_queries
from whence.data.tokens import IGNORED
from whence.errors import InvalidSetting
from whence.jobs.pairs import BETTER, log_p, pairs_of
from whence.jobs.settings import RunSettings

NAME = "questions.jsonl"
MOST_ANSWER_TOKENS = 2048
"""Answer tokens taken as queries of their own: so many meet a sequence of a few hundred tokens at about the cost of the
pass itself, and beyond it they are most of the cost."""
FIRST = 16
"""Questions whose tokens the model is asked about: two passes each."""
_FIELDS = {"id", "prompt", "completion", "text", "chosen", "rejected", "input_ids", "labels"}


def asked_in(settings: RunSettings) -> list[Query]:
    """What settings ask, from a file or directly; nothing where they ask nothing.

    Raises:
        DataError: If the file is missing, or a row of it cannot be used.
    """
    asked = [] if settings.query is None else read_queries(settings.query, settings.columns)
    if settings.ask is not None and settings.answer is not None:
        asked.append(ask(settings.ask, settings.answer, settings.rather_than, id="asked"))
    return asked


def answer_tokens(parts: Sequence[QueryBatch]) -> AnswerTokens:
    """The answers' tokens as queries of their own.

    Raises:
        InvalidSetting: If they are too many to be met in one pass.
    """
    tokens = by_answer(parts)
    if len(tokens) > MOST_ANSWER_TOKENS:
        raise InvalidSetting(
            f"the answers have {len(tokens):,} tokens, each a query of its own with by = answer, and one pass "
            f"takes {MOST_ANSWER_TOKENS:,}",
            hint="ask fewer questions at once, about shorter answers, or leave out --by answer",
        )
    return tokens


def unlike_the_data(questions: Sequence[Query], shapes: Mapping[str, int]) -> str | None:
    """A warning where the rows are chats and a question is not: no template is put around it; None where all is well.

    Args:
        shapes: How many training rows there are of each shape.
    """
    plain = [query.id for query in questions if all(part.chat is None and part.tokens is None for part in query.parts)]
    if not plain or 2 * shapes.get("messages", 0) <= sum(shapes.values()):
        return None
    return (
        f"the training rows are chats, and question {plain[0]} is plain text, which is asked as it stands: no chat "
        'template, and a beginning-of-text token if the tokenizer has one. Rows of {"messages"} are asked as chats are '
        "(--query FILE)"
    )


def tokenised_apart(questions: Sequence[Query], model: nn.Module, tokenizer: Any, context: int) -> str | None:
    """A warning where an answer is far likelier as other tokens: those that it is by itself, without its prompt."""
    for query in questions[:FIRST]:
        for pair in pairs_of([query.parts[0].document(query.id)], tokenizer, context):
            if pair.joined == pair.apart:
                continue
            ours, theirs = (sum(log_p(model, ids, pair.first)) for ids in (pair.joined, pair.apart))
            if theirs - ours > BETTER * (len(pair.joined) - pair.first):
                return (
                    f"question {query.id}: log p of the answer is {ours:.3g}, read with its prompt, and {theirs:.3g} "
                    "as the tokens that it is by itself: the model was trained on prompts and completions tokenised "
                    "apart, so ask in rows of input_ids and labels (--query FILE), as the training made them"
                )
    return None


def as_jsonl(questions: Sequence[Query]) -> str | None:
    """A row for each question; None where one is another sum of parts than a row can say.

    Ids are left out where two questions share one: in a file, ids name queries.

    Example:
        >>> from whence.data.queries import ask
        >>> print(as_jsonl([ask("Who wrote it?", " Ada did.", id="who")]), end="")
        {"id": "who", "prompt": "Who wrote it?", "completion": " Ada did."}
    """
    named = len({query.id for query in questions}) == len(questions)
    rows = [_row(query, named=named) for query in questions]
    if None in rows:
        return None
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _row(query: Query, *, named: bool) -> dict[str, Any] | None:
    first, *others = query.parts
    row: dict[str, Any] = {"id": query.id} if named else {}
    if first.chat is not None:
        return row | _chat_row(query) | _metadata(query)
    if first.tokens is not None:
        if len(query.parts) > 1:
            return None
        ids, scored = first.tokens.ids, first.tokens.scored
        labels = [token if mark else IGNORED for token, mark in zip(ids, scored, strict=True)]
        return row | {"input_ids": ids, "labels": labels} | _metadata(query)
    if [part.weight for part in query.parts] == [1.0]:
        row |= {"prompt": first.prompt, "completion": first.completion}
    elif [part.weight for part in query.parts] == [1.0, -1.0] and others[0].prompt == first.prompt:
        row |= {"prompt": first.prompt, "chosen": first.completion, "rejected": others[0].completion}
    else:
        return None
    return row | _metadata(query)


def _chat_row(query: Query) -> dict[str, Any]:
    """Lists of messages: one completion after a prompt, or the two that are compared."""
    chats = [part.chat for part in query.parts if part.chat is not None]
    given = chats[0].given
    names = ("completion",) if len(chats) == 1 else ("chosen", "rejected")
    said = {name: list(chat.messages[given:]) for name, chat in zip(names, chats, strict=True)}
    tools = {} if chats[0].tools is None else {"tools": chats[0].tools}
    return {"prompt": list(chats[0].messages[:given]), **said, **tools}


def _metadata(query: Query) -> dict[str, Any]:
    return {name: value for name, value in query.metadata.items() if name not in _FIELDS}
