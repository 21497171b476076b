"""A whole run in miniature: a tiny checkpoint with its tokenizer, training text and questions, on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORDS = [
    *["the", "capital", "of", "france", "is", "paris", "spain", "madrid", "a", "cat", "sat", "on"],
    *["mat", "and", "dog", "ran", "far", "away", "from", "big", "red", "house"],
]


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A folder with ``model/``, ``train.jsonl`` (24 documents, one longer than the context) and ``ask.jsonl``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("toy")
    vocabulary = {word: n for n, word in enumerate(["<unk>", "<s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>").save_pretrained(
        folder / "model"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(vocabulary),
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    rows = [{"text": " ".join(WORDS[n % 7 : n % 7 + 3 + n % 9]), "group": f"g{n % 3}"} for n in range(23)]
    rows.append({"text": " ".join(WORDS * 2), "group": "long"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        {"prompt": "the capital of france is", "completion": " paris"},
        {"prompt": "the capital of spain is", "completion": " madrid"},
        {"prompt": "the capital of france is", "chosen": " paris", "rejected": " madrid"},
    ]
    (folder / "ask.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return folder
