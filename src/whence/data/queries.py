"""Questions: how likely is this completion after this prompt, or this one rather than that one?

    {"prompt": "Who wrote it?", "completion": " Ada did."}             log p(completion | prompt)
    {"text": "Once upon a time"}                                       log p of the whole text
    {"prompt": "It was", "chosen": " Ada.", "rejected": " Bob."}       the difference of two
    {"messages": [{"role": "user", …}, {"role": "assistant", …}]}      log p(last turn | what comes before)
    {"input_ids": [1, 15, 3], "labels": [-100, 15, 3]}                 log p of the tokens that are labelled

Prompt, completion, chosen and rejected may be lists of messages too. A query is a weighted sum of parts, one for each
completion; the parts of all queries share batches. Each of its scored tokens is a measurement too, and they add up to
the query's: see `answer_tokens`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from whence.data.batches import Piece, collate
from whence.data.documents import Document
from whence.data.encode import Tokenizer, encode_all
from whence.data.messages import Chat, read_messages, read_tools, spells_messages
from whence.data.plan import make_plan
from whence.data.rows import Row, read_rows
from whence.data.shapes import QUESTIONS, Columns, check_columns, roles_of
from whence.data.spec import parse_spec
from whence.data.special import special_ids
from whence.data.texts import take_text
from whence.data.tokens import Tokens, read_tokens
from whence.errors import DataError
from whence.types import Batch


@dataclass(frozen=True, slots=True)
class Part:
    """One completion of a query, and the weight of its log-probability."""

    prompt: str
    completion: str
    weight: float = 1.0
    chat: Chat | None = field(default=None, repr=False)
    """A chat in which the last turn is the completion; ``prompt`` and ``completion`` are then what two messages say."""
    tokens: Tokens | None = field(default=None, repr=False)
    """Tokens as they are given; ``prompt`` and ``completion`` are then for people to read: see `in_words`."""

    @property
    def said(self) -> tuple[str, str, float]:
        """All that decides what is asked."""
        if self.chat is not None:
            return self.chat.canonical, "", self.weight
        if self.tokens is not None:
            return json.dumps([self.tokens.ids, self.tokens.scored]), "", self.weight
        return self.prompt, self.completion, self.weight

    def document(self, name: str) -> Document:
        """As a document that is scored in its completion."""
        if self.chat is not None:
            return Document(name, -1, chat=self.chat)
        if self.tokens is not None:
            return Document(name, -1, tokens=self.tokens)
        return Document(name, -1, prompt=self.prompt, completion=self.completion)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Part:
        """A part from what `dataclasses.asdict` made of it."""
        chat = record.get("chat")
        kept = None if chat is None else Chat(tuple(chat["messages"]), chat["given"], chat["tools"])
        tokens = None if record.get("tokens") is None else Tokens(**record["tokens"])
        return cls(record["prompt"], record["completion"], record["weight"], kept, tokens)

    @classmethod
    def of_chat(cls, chat: Chat, weight: float = 1.0) -> Part:
        """The turns of an assistant after a prompt."""
        said = "\n".join(chat.messages[number]["content"] for number in chat.scored)
        return cls(chat.messages[chat.given - 1]["content"] if chat.given else "", said, weight, chat)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked about. Its measurement is f = Σ weight · log p(completion | prompt) over its parts."""

    id: str
    parts: tuple[Part, ...]
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    name: str = ""
    """Where it was read from, for messages."""

    @property
    def prompt(self) -> str:
        return self.parts[0].prompt

    @property
    def completion(self) -> str:
        return self.parts[0].completion

    @property
    def rather_than(self) -> str | None:
        """The completion it is compared with, of a contrastive query."""
        return self.parts[1].completion if len(self.parts) > 1 else None


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Parts on their way through the model; ``batch.ids`` number the parts of all queries, in their order."""

    batch: Batch
    query: Int64[Tensor, " n"]
    """Which query each row is a part of."""
    weight: Float[Tensor, " n"]

    def select(self, rows: Bool[Tensor, " n"]) -> QueryBatch:
        """Some of the parts, padded as they were."""
        return QueryBatch(self.batch.rows(rows), self.query[rows], self.weight[rows])

    def to(self, device: torch.device | str) -> QueryBatch:
        """The same on another device."""
        return QueryBatch(self.batch.to(device), self.query.to(device), self.weight.to(device))


def ask(
    prompt: str | Sequence[Mapping[str, Any]],
    completion: str,
    rather_than: str | None = None,
    *,
    id: str = "q1",  # noqa: A002
) -> Query:
    """A question put in Python.

    Args:
        prompt: A text; or of a model tuned on chats the messages before the answer, ``[{"role": …, "content": …}]``,
            which the tokenizer's chat template writes as it wrote the training data.
        completion: The answer asked about: the text that follows, its leading space included, or what the assistant
            says.
        rather_than: Another completion: the query then asks what makes the first likelier than this one.

    Raises:
        DataError: If a completion is empty, or both are the same.

    Example:
        >>> ask("Who wrote it?", " Ada did.", rather_than=" Bob did.").parts[1]
        Part(prompt='Who wrote it?', completion=' Bob did.', weight=-1.0)
    """
    name = f"query {id}"
    if isinstance(prompt, str):
        return _query(name, id, prompt, completion, rather_than, {})
    _refuse_empty(name, completion, rather_than)
    said = {"completion": completion} if rather_than is None else {"chosen": completion, "rejected": rather_than}
    turns = {role: [{"role": "assistant", "content": text}] for role, text in said.items()}
    return _from_row(Row(name, -1, {"id": id, "prompt": [dict(one) for one in prompt], **turns}), 0, {})


def read_queries(spec: str | Path, columns: Columns | None = None) -> list[Query]:
    """The queries of a file; an ``id`` in a row becomes the query's, else they are q1, q2, …

    Args:
        columns: Role → column, where it has another name. Those that a row does not have are the training data's.

    Raises:
        DataError: If a row cannot be used (file, line and field are named), an id comes twice, or there are none.
    """
    check_columns(columns or {})
    rows = enumerate(read_rows(parse_spec(spec)), 1)
    queries = [_from_row(row, number, columns or {}) for number, row in rows]
    if not queries:
        raise DataError(f"{spec} holds no queries", hint='write one {"prompt": "…", "completion": "…"} a line')
    seen: dict[str, Query] = {}
    for query in queries:
        if query.id in seen:
            raise DataError(
                f'{query.name}: the id "{query.id}" is also that of {seen[query.id].name}', hint="ids name queries"
            )
        seen[query.id] = query
    return queries


def in_words(query: Query, tokenizer: Tokenizer) -> Query:
    """The query, its tokens spelled out where it was given as tokens: the completion from the first scored one on."""
    if all(part.tokens is None for part in query.parts):
        return query
    return replace(query, parts=tuple(_in_words(part, tokenizer) for part in query.parts))


def _in_words(part: Part, tokenizer: Tokenizer) -> Part:
    if part.tokens is None:
        return part
    ids, special = part.tokens.ids, special_ids(tokenizer)
    first = next((n for n, scored in enumerate(part.tokens.scored) if scored and n), len(ids))
    prompt, said = (
        tokenizer.decode([one for one in some if one not in special]) for some in (ids[:first], ids[first:])
    )
    return replace(part, prompt=prompt, completion=said or tokenizer.decode(ids[first:]))


def encode_query(query: Query, tokenizer: Tokenizer, context: int) -> list[Piece]:
    """The token sequence of each part, whole.

    Raises:
        DataError: If a part is longer than the context (a query is never cut), or nothing in it can be scored.
    """
    name = query.name or f"query {query.id}"
    documents = [part.document(name) for part in query.parts]
    pieces = []
    for encoded in encode_all(documents, tokenizer, context):
        if len(encoded.pieces) > 1:
            raise DataError(
                f"{name} has {encoded.tokens} tokens, and a sequence may have {context}",
                hint="shorten the prompt: a query is never cut",
            )
        if encoded.scored == 0:
            raise DataError(f"{name} has nothing to score: one token with none before it", hint="give it a prompt")
        pieces += encoded.pieces
    return pieces


def encode_queries(
    queries: Sequence[Query], tokenizer: Tokenizer, context: int, batch_tokens: int = 4096
) -> list[QueryBatch]:
    """All parts of all queries in batches, shortest first.

    Args:
        batch_tokens: Padded tokens of a batch.

    Raises:
        DataError: If a part is longer than the context, or nothing in it can be scored, naming the query.
    """
    pieces: list[Piece] = []
    of: list[int] = []
    weights: list[float] = []
    for number, query in enumerate(queries):
        pieces += encode_query(query, tokenizer, context)
        of += [number] * len(query.parts)
        weights += [part.weight for part in query.parts]
    if not pieces:
        return []
    plan = make_plan([len(piece) for piece in pieces], batch_tokens, units=1)
    return [
        QueryBatch(
            collate([pieces[row] for row in rows], ids=rows, documents=rows),
            torch.tensor([of[row] for row in rows]),
            torch.tensor([weights[row] for row in rows]),
        )
        for rows in plan.batches(0)
    ]


def _from_row(row: Row, number: int, columns: Columns) -> Query:
    columns = {role: column for role, column in columns.items() if column in row.fields}
    shape, roles = roles_of(row, columns, QUESTIONS)
    id_ = str(row.fields.get("id", f"q{number}"))
    if shape == "tokens":
        beside = {name: value for name, value in row.fields.items() if name not in {*roles.values(), "id"}}
        return Query(id_, (Part("", "", tokens=read_tokens(row, roles)),), beside, row.name)
    chats = _are_chats(row, shape, roles)
    before = row.fields.get(roles.get("prompt", ""))
    if chats and shape == "contrast" and isinstance(before, str) and not spells_messages(before):
        del roles["prompt"]  # a copy of what the lists begin with
    metadata = {name: value for name, value in row.fields.items() if name not in {*roles.values(), "id"}}
    if shape == "messages" or chats:
        return Query(id_, _of_chats(row, roles), metadata, row.name)
    if shape == "text":
        return _query(row.name, id_, "", take_text(row, roles["text"]), None, metadata)
    prompt = take_text(row, roles["prompt"]) if "prompt" in roles else ""
    said = [take_text(row, roles[role]) for role in roles if role != "prompt"]
    return _query(row.name, id_, prompt, said[0], said[1] if len(said) > 1 else None, metadata)


def _are_chats(row: Row, shape: str, roles: Mapping[str, str]) -> bool:
    """Whether completions are lists of messages, or JSON text of such lists: of a pair, its prompt too."""
    said = {role: row.fields[column] for role, column in roles.items() if role != "prompt" or shape == "pair"}
    if any(isinstance(one, list) for role, one in said.items() if role != "prompt"):
        return True
    return shape in ("pair", "contrast") and all(map(spells_messages, said.values()))


def _of_chats(row: Row, roles: Mapping[str, str]) -> tuple[Part, ...]:
    """The part, or the two, that lists of messages make: each scored in what follows the prompt."""
    lists = {role: read_messages(row, column) for role, column in roles.items()}
    tools = read_tools(row)
    prompt = lists.pop("prompt", [])
    chats = [[*prompt, *messages] for messages in lists.values()]
    _check_parts(row.name, [Chat(tuple(messages)).canonical for messages in chats])
    if "messages" in roles:
        given = [max((n for n, one in enumerate(chats[0]) if one["role"] == "assistant"), default=0)]
    else:
        pairs = zip(*chats, strict=False) if len(chats) > 1 else ()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        given = [max(len(prompt), shared)] * len(chats)
    parts = tuple(
        Part.of_chat(Chat(tuple(messages), first, tools), weight)
        for messages, first, weight in zip(chats, given, (1.0, -1.0), strict=False)
    )
    for part in parts:
        if part.chat is not None and (not part.chat.scored or part.chat.messages[-1]["role"] != "assistant"):
            raise DataError(
                f"{row.name}: the chat does not end with an assistant's turn", hint="a query asks about such a turn"
            )
    return parts


def _query(
    name: str, id_: str, prompt: str, completion: str, rather_than: str | None, metadata: dict[str, Any]
) -> Query:
    _refuse_empty(name, completion, rather_than)
    said = [completion, *([] if rather_than is None else [rather_than])]
    _check_parts(name, said)
    parts = tuple(Part(prompt, one, weight) for one, weight in zip(said, (1.0, -1.0), strict=False))
    return Query(id_, parts, metadata, name)


def _check_parts(name: str, said: Sequence[str]) -> None:
    if len(set(said)) < len(said):
        raise DataError(f"{name}: both completions are the same", hint="a contrast needs two")


def _refuse_empty(name: str, completion: str, rather_than: str | None) -> None:
    if completion == "" or rather_than == "":
        raise DataError(f"{name}: the completion is empty", hint="a query asks how likely some text is: write it")
