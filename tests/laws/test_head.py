"""The output head takes part only when named, and only where its vocabulary-square factor fits."""

import pytest

from whence.errors import LayerError
from whence.layers import select
from whence.layers.select import track
from whence.testing.tiny import huggingface


def test_the_head_is_taken_when_named_and_not_before():
    model = huggingface("llama", tied=False)

    assert "lm_head" not in {layer.name for layer in track(model, "all").layers}
    assert [layer.name for layer in track(model, "lm_head").layers] == ["lm_head"]


def test_a_head_whose_factor_would_not_fit_is_refused_by_size(monkeypatch):
    model = huggingface("llama", tied=False, vocab=11)
    monkeypatch.setattr(select, "_memory_available", lambda: 3 * 8 * 11**2 - 1)

    with pytest.raises(LayerError, match=r"lm_head is 11 × 11"):
        track(model, "lm_head")


def test_a_tied_head_is_refused():
    with pytest.raises(LayerError, match="tied to the token embeddings"):
        track(huggingface("llama", tied=True), "lm_head")
