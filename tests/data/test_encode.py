"""Documents become sequences without losing, repeating or inventing a scored token."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.spelling import Characters, Doubles

from whence.data import Document, collate, encode
from whence.data.encode import encode_all, windows
from whence.errors import DataError, InvalidSetting

texts = st.text(st.characters(codec="ascii", min_codepoint=32, exclude_characters="^"), max_size=40)


def text(value: str) -> Document:
    return Document("a.jsonl", 0, text=value)


def pair(prompt: str, completion: str) -> Document:
    return Document("a.jsonl", 4, prompt=prompt, completion=completion)


def scored(pieces) -> dict[int, int]:
    """Position in the document → token, of what is scored; a position scored twice fails."""
    found: dict[int, int] = {}
    for piece in pieces:
        for at in np.flatnonzero(piece.scored):
            assert piece.offset + at not in found
            found[piece.offset + int(at)] = int(piece.tokens[at])
    return found


@given(texts, st.integers(2, 12))
def test_windows_score_each_token_exactly_once(value, context):
    tokens = Characters().encode(value)
    pieces = encode(text(value), Characters(), context)
    assert scored(pieces) == dict(list(enumerate(tokens))[1:])
    assert all(1 <= len(piece) <= context for piece in pieces)
    for before, after in pairwise(pieces):
        assert before.tokens[-1] == after.tokens[0]
        assert after.offset == before.offset + len(before) - 1
    batch = collate(pieces)
    labels = {
        (int(o) + t) for o, row in zip(batch.offset, batch.scored, strict=True) for t in row.nonzero()[:, 0].tolist()
    }
    assert labels == set(range(len(tokens) - 1))  # the key of a label: the position that predicts, never twice


@given(texts, texts.filter(bool), st.integers(2, 12), st.sampled_from([Characters(), Characters(False), Doubles()]))
def test_of_a_pair_the_completion_is_scored_and_the_prompt_is_there(prompt, completion, context, tokenizer):
    pieces = encode(pair(prompt, completion), tokenizer, context)
    kept = [int(token) for piece in pieces for token in piece.tokens[0 if piece.offset == 0 else 1 :]]
    first = min(scored(pieces), default=len(kept))
    assert list(scored(pieces).values()) == kept[first:]  # from its first token to the last
    spelled = [[token - 1000] * 2 if token > 1000 else [token] for token in kept]
    assert [token for tokens in spelled for token in tokens] == Characters(tokenizer.start).encode(prompt + completion)
    before = sum(map(len, spelled[:first]))
    assert before == max(tokenizer.start + len(prompt), len(spelled[0]))  # nothing predicts a very first token


def test_a_token_across_the_border_is_cut_there():
    """ "ab" + "bc" would be a, bb, c: the completion is tokenised by itself."""
    (piece,) = encode(pair("ab", "bc"), Doubles(), 10)
    assert piece.tokens.tolist() == [1, ord("a"), ord("b"), ord("b"), ord("c")]
    assert piece.scored.tolist() == [False, False, False, True, True]


def test_the_start_token_is_never_doubled(characters):
    for document in (text("^ab"), pair("^a", "b")):
        (encoded,) = encode_all([document], characters, 10)
        assert encoded.pieces[0].tokens.tolist() == [1, ord("a"), ord("b")]
        assert encoded.noticed == {"doubled_start"}
    assert encode(text("^^a"), Characters(start=False), 10)[0].tokens.tolist() == [1, 1, ord("a")]  # its author's


def test_documents_together_are_as_documents_alone(make_fast):
    tokenizer = make_fast("the cat sat on mat")
    documents = [text("the cat"), pair("the cat", "sat on"), text(""), pair("", "mat mat")]
    together = encode_all(documents, tokenizer, 3)
    for document, encoded in zip(documents, together, strict=True):
        alone = encode(document, tokenizer, 3)
        assert [p.tokens.tolist() for p in alone] == [p.tokens.tolist() for p in encoded.pieces]
        assert [p.scored.tolist() for p in alone] == [p.scored.tolist() for p in encoded.pieces]
    assert [encoded.scored for encoded in together] == [2, 2, 0, 2]


@pytest.mark.parametrize(("start", "end"), [(True, False), (False, True), (True, True), (False, False)])
def test_special_tokens_are_the_tokenizers_own(make_fast, start, end):
    tokenizer = make_fast("the cat sat", start=start, end=end)
    whole = tokenizer.encode("the cat sat")
    assert len(whole) == 3 + start + end
    for prompt, completion in [
        ("the cat ", "sat"),
        ("the cat", "sat"),
        ("", "the cat sat"),
    ]:  # a border, none, no prompt
        (piece,) = encode(pair(prompt, completion), tokenizer, 10)
        assert piece.tokens.tolist() == whole
        assert np.flatnonzero(piece.scored)[0] == max(1, start + len(prompt.split()))
        assert piece.scored[-1]  # the end token is the tokenizer's own, and belongs to the completion
    (piece,) = encode(text("the cat sat"), tokenizer, 10)
    assert piece.tokens.tolist() == whole


@pytest.mark.parametrize("tokenizer", [Characters(), Characters(start=False)])
def test_a_completion_without_tokens_is_refused_by_name(tokenizer):
    with pytest.raises(DataError, match=r"a\.jsonl, line 5: the completion is empty"):
        encode(pair("ab", ""), tokenizer, 10)


def test_a_context_without_room_for_a_prediction_is_refused(characters):
    with pytest.raises(InvalidSetting, match="context must be at least 2"):
        encode(text("ab"), characters, 1)


def test_windows_of_no_tokens_are_none():
    assert windows([], [], 4) == []


def test_the_real_tokenizer(tmp_path):
    """Where a real checkpoint is at hand (WHENCE_TEST_MODEL names its folder)."""
    folder = Path(os.environ.get("WHENCE_TEST_MODEL", "../shared/data/models/stories260K-hf"))
    if not folder.exists():
        pytest.skip("no checkpoint at hand")
    from whence.models.hf import load_tokenizer

    tokenizer = load_tokenizer(folder)
    (piece,) = encode(pair("Once upon a", " time"), tokenizer, 100)
    assert piece.tokens.tolist() == tokenizer.encode("Once upon a time")
    assert tokenizer.decode(piece.tokens[piece.scored]) == "time"
    story = "Lily went to the park. " * 60
    pieces = encode(text(story), tokenizer, 64)
    assert list(scored(pieces).values()) == tokenizer.encode(story)[1:]
