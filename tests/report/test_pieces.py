"""Tokens as they are shown: every script legible, nothing acting on the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.report.pieces import CONTINUES, display, surface, visible, vocabulary_style

ACTING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029\u200b\ufeff\x00\x1b\x7f\x85"


@given(st.lists(st.text(max_size=6), max_size=12))
def test_every_token_keeps_a_place_of_its_own(tokens):
    assert len(display(tokens)) == len(tokens)


@given(st.text(st.characters(), max_size=30))
def test_what_is_shown_can_be_written_and_does_not_act(text):
    shown = visible(text)

    shown.encode("utf-8")
    assert not set(shown) & set(ACTING)


@given(st.text(max_size=8))
def test_byte_tokens_read_as_their_text(text):
    pieces = display([f"<0x{byte:02X}>" for byte in text.encode()])

    assert "".join(piece.text for piece in pieces).replace(CONTINUES, "") == visible(text).replace(CONTINUES, "")


def test_a_character_over_several_tokens_is_drawn_on_the_first():
    pieces = display(surface(["Ġit", "âĢ", "Ļ", "s"], "byte_level"))

    assert [piece.text for piece in pieces] == [" it", "’", CONTINUES, "s"]
    assert [piece.raw for piece in pieces] == ["", "E2 80", "99", ""]


def test_bytes_that_are_no_character_are_shown_as_bytes():
    assert [piece.text for piece in display(["<0xFF>", "<0xE2>", "a"])] == ["⟨FF⟩", "⟨E2⟩", "a"]


def test_text_that_spells_a_byte_token_inside_a_word_stays_text():
    assert display(["see <0x41>!"])[0].text == "see <0x41>!"


def test_joiners_stay_for_emoji_and_persian():
    assert visible("👩\u200d👧 می\u200cخواهم") == "👩\u200d👧 می\u200cخواهم"


@pytest.mark.parametrize("token", ["<s>", "</s>", "<|endoftext|>", "[CLS]", "<pad>"])
def test_special_tokens_are_told_apart(token):
    assert display([token])[0].kind == "special"


@pytest.mark.parametrize("token", ["<script>", "<!--", "</script>", "<b>", "[1]"])
def test_markup_in_training_text_is_not_special(token):
    assert display([token])[0].kind == ""


@pytest.mark.parametrize(
    ("vocabulary", "style"),
    [
        (["<s>", "▁a", "b"], "sentencepiece"),
        (["Ġa", "b"], "byte_level"),
        (["a", "##b"], "wordpiece"),
        (["a", "b"], "plain"),
    ],
)
def test_a_vocabulary_tells_its_style(vocabulary, style):
    assert vocabulary_style(vocabulary) == style


def test_word_pieces_get_their_spaces_back():
    assert "".join(surface(["in", "##fluence", "works"], "wordpiece")) == "influence works"
