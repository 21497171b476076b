"""Chats as tokens, and which of those are scored.

Labels in the data win (`tokens`). Else the template's own mask, where it marks its assistant turns with
``{% generation %}``. Else each assistant turn is what the template adds to the conversation before it:

    before    <user>Hi<eot><assistant>              the messages before, with the generation prompt
    whole     <user>Hi<eot><assistant>Hello<eot>    the conversation
                                      ^^^^^^^^^^    scored, the end-of-turn token with it

Both must be literally where they are looked for. A template may write a turn otherwise when nothing follows it (Qwen 3
puts an empty <think></think> there): such a turn is taken from the whole conversation, and ends where the message after
it begins; how long that one is, is seen by writing it twice. Before a turn that begins the chat, as in ShareGPT, stands
what the template writes before any text. What cannot be told so is refused, with the place.

What follows the end-of-turn token, a line break, belongs to the next turn and is not scored. Templates write the
beginning-of-text token themselves, so none is added.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from whence.data.documents import Document
from whence.data.messages import Chat, Message
from whence.data.special import special_ids
from whence.errors import DataError

_OWN_MASK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TELL = (
    "mark the assistant turns in the template with {% generation %}, give rows of input_ids and labels, or let each "
    "row end with the assistant turn that it is about"
)


@dataclass(frozen=True, slots=True)
class ChatTokens:
    """A conversation's tokens, and which of them are scored."""

    ids: list[int]
    scored: list[bool]
    across: bool = False
    """A token begins before a scored turn and ends inside it; it is not scored."""


def encode_chats(documents: Sequence[Document], tokenizer: Any) -> list[ChatTokens]:
    """Documents that are chats, tokenised together.

    Raises:
        DataError: If the tokenizer has no chat template, the template refuses a chat, or an assistant turn cannot be
            told apart from what is around it; names the row.
    """
    if not documents:
        return []
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"{documents[0].name} is a chat, and the tokenizer has no chat template",
            hint="put the one that the model was trained with beside the tokenizer, as chat_template.jinja",
        )
    written = [_written(tokenizer, document) for document in documents]
    located, special = _located(tokenizer, written), special_ids(tokenizer)
    return [_marked(one, *found, tokenizer, special) for one, found in zip(written, located, strict=True)]


@dataclass(frozen=True, slots=True)
class _Written:
    """A conversation as its template writes it."""

    name: str
    text: str
    spans: list[tuple[int, int]]
    """The characters of each scored turn; of all of the text where the template's own mask decides alone."""
    own: ChatTokens | None
    """What the template marks itself."""


def _written(tokenizer: Any, document: Document) -> _Written:
    template = _Template(tokenizer, document)
    text, own = template.write(template.chat.messages), template.own_mask()
    alone = own is not None and template.chat.scored == template.chat.assistants
    return _Written(document.name, text, [(0, len(text))] if alone else template.turns(text), own)


class _Template:
    """A tokenizer's chat template, for one document."""

    def __init__(self, tokenizer: Any, document: Document) -> None:
        assert document.chat is not None
        self.tokenizer, self.name = tokenizer, document.name
        self.chat: Chat = document.chat

    def write(self, messages: Sequence[Message], *, prompting: bool = False) -> str:
        """Messages as the template writes them, with the beginning of an assistant turn on request."""
        written = self._applied(messages, tokenize=False, add_generation_prompt=prompting)
        assert isinstance(written, str)
        return written

    def own_mask(self) -> ChatTokens | None:
        """What the template marks itself; None where it marks nothing."""
        template = self.tokenizer.chat_template
        texts = template.values() if isinstance(template, dict) else [template]
        if not any(_OWN_MASK.search(text) for text in texts):
            return None
        found = self._applied(self.chat.messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        mask = [bool(one) for one in found["assistant_masks"]]
        return ChatTokens(list(found["input_ids"]), mask) if any(mask) else None

    def turns(self, whole: str) -> list[tuple[int, int]]:
        """Where each scored turn begins and ends in the text of the conversation."""
        return [self._turn(number, whole) for number in self.chat.scored]

    def _turn(self, number: int, whole: str) -> tuple[int, int]:
        messages = self.chat.messages
        before = self.write(messages[:number], prompting=True) if number else self._opening(whole)
        if not whole.startswith(before):
            raise self._differ(number, "what comes before", before, whole)
        if number == len(messages) - 1:
            return len(before), len(whole)
        after = self.write(messages[: number + 1])
        if whole.startswith(after) and after.startswith(before):
            return len(before), len(after)
        end = self._before_the_next(number, whole)
        if end is None or end < len(before):
            raise self._differ(number, "it", after, whole)
        return len(before), end

    def _opening(self, whole: str) -> str:
        """What stands before a conversation's first message, an assistant's: templates write no chat of nothing.

        It is what the chat has in common with one that says something else, up to the end of the generation prompt.
        """
        first = self.chat.messages[0]
        alone = self.write([first])
        one, other = (self.write([first | {"content": said}]) for said in ("a", "b"))
        prompted = self.write([first], prompting=True)
        prompt = prompted[len(alone) :] if prompted.startswith(alone) else ""
        common = one[: next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)]
        end = common.rfind(prompt) + len(prompt)
        if not prompt or prompt not in common or not whole.startswith(common[:end]):
            raise DataError(
                f"{self.name}: it begins with the assistant, and where that turn begins cannot be told",
                hint='leave the message out of the scores, "weight": 0, or begin the row with what was asked',
            )
        return common[:end]

    def _before_the_next(self, number: int, whole: str) -> int | None:
        """Where the message after a turn begins: it is as long as what writing it again adds."""
        upto = self.chat.messages[: number + 2]
        try:
            once, twice = self.write(upto), self.write([*upto, upto[-1]])
        except DataError:  # roles must alternate
            return None
        following = twice[len(once) :]
        found = whole.startswith(once) and twice.startswith(once) and following and once.endswith(following)
        return len(once) - len(following) if found else None

    def _applied(self, messages: Sequence[Message], **options: Any) -> Any:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(list(messages), tools=self.chat.tools, **options)
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            raise DataError(
                f"{self.name}: the chat template refuses it: {error}",
                hint="write the chat as the model was trained on it, or give rows of input_ids and labels",
            ) from error

    def _differ(self, number: int, what: str, alone: str, whole: str) -> DataError:
        place = next((at for at, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), len(whole))
        alone, whole = (_around(text, place) for text in (alone, whole))
        return DataError(
            f"{self.name}: message {number + 1} cannot be told apart: the chat template writes {what} otherwise "
            f"when nothing follows.\n  alone:           {alone}\n  in conversation: {whole}",
            hint=_TELL,
        )


def _around(text: str, place: int, width: int = 36) -> str:
    """A few characters before a place and after it, on one line."""
    start = max(0, place - width)
    return ("…" if start else "") + repr(text[start : place + width])[1:-1] + ("…" if place + width < len(text) else "")


Located = tuple[list[int], list[int], list[int]]
"""Tokens, and the characters at which each begins and ends."""


def _located(tokenizer: Any, texts: Sequence[_Written]) -> list[Located]:
    """Texts as tokens that know their characters."""
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    if getattr(tokenizer, "is_fast", False):
        called = tokenizer([one.text for one in texts], return_offsets_mapping=True, **options)
        return [
            (list(ids), [start for start, _ in offsets], [end for _, end in offsets])
            for ids, offsets in zip(called["input_ids"], called["offset_mapping"], strict=True)
        ]
    return [_by_prefixes(tokenizer, one) for one in texts]


def _by_prefixes(tokenizer: Any, one: _Written) -> Located:
    """A tokenizer that does not say where its tokens lie: the borders of turns must be borders of tokens."""
    ids = list(tokenizer.encode(one.text, add_special_tokens=False))
    borders = [0, *(border for span in one.spans or [] for border in span), len(one.text)]
    starts: list[int] = []
    for left, right in pairwise(borders):
        upto = list(tokenizer.encode(one.text[:right], add_special_tokens=False))
        if ids[: len(upto)] != upto:
            raise DataError(f"{one.name}: a token spans the border at {_around(one.text, right)}", hint=_TELL)
        starts += [left] * (len(upto) - len(starts))
    return ids, starts, [start + 1 for start in starts]


def _marked(
    one: _Written, ids: list[int], starts: list[int], ends: list[int], tokenizer: Any, special: set[int]
) -> ChatTokens:
    """Score the tokens that begin in a turn, up to its last special token where only white space follows that."""
    begin, end = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    scored, across = np.zeros(len(ids), np.bool_), False
    for first, last in one.spans or []:
        # Tokens of spaces alone may be placed at their own end: one that ends where a turn begins is not of it.
        inside = np.flatnonzero((begin >= first) & (begin < last) & (end > first)).tolist()
        across |= bool(((begin < first) & (end > first)).any())
        ended = next((n for n in reversed(inside) if ids[n] in special), None)
        if ended is not None and not tokenizer.decode(ids[ended + 1 : inside[-1] + 1]).strip():
            inside = [n for n in inside if n <= ended]
        scored[inside] = True
    if one.own is not None:
        assert one.own.ids == ids, f"{one.name} is tokenised in two ways"
        scored &= np.asarray(one.own.scored, np.bool_)
    return ChatTokens(ids, scored.tolist(), across)
