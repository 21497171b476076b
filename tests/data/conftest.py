"""Tokenizers for tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.data.spelling import Characters


@pytest.fixture
def characters() -> Characters:
    return Characters()


@pytest.fixture(scope="session")
def make_fast() -> Callable[..., object]:
    """Makes a fast tokenizer of transformers over words, with or without start and end tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    def make(words: str, start: bool = True, end: bool = False) -> object:
        names = ["<unk>", "<s>", "</s>", *dict.fromkeys(words.split())]
        backend = tokenizers.Tokenizer(
            tokenizers.models.WordLevel({word: n for n, word in enumerate(names)}, unk_token="<unk>")
        )
        backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        if start or end:
            backend.post_processor = tokenizers.processors.TemplateProcessing(
                single=("<s> " if start else "") + "$A" + (" </s>" if end else ""),
                special_tokens=[("<s>", 1), ("</s>", 2)],
            )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )

    return make
