"""Tokenizers that spell, small enough to see through."""

from __future__ import annotations


class Characters:
    """A token a character, 1 (start) in front on request."""

    bos_token_id = 1

    def __init__(self, start: bool = True) -> None:
        self.start = start

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        front = [1] if self.start and add_special_tokens else []
        return front + [1 if character == "^" else ord(character) for character in text]

    def decode(self, tokens) -> str:
        return "".join("^" if token == 1 else chr(token) for token in tokens)


class Doubles(Characters):
    """Two equal letters in a row are one token: a border between prompt and completion may fall inside it."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        tokens: list[int] = []
        for token in super().encode(text, add_special_tokens):
            if tokens and tokens[-1] == token > 1:
                tokens[-1] = token + 1000
            else:
                tokens.append(token)
        return tokens
