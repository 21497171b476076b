"""A tiny checkpoint with a tokenizer, a tiny corpus, and two ways to run the command."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALLED = Path(sys.executable).with_name("whence")
SENTENCE = "the cat sat on a mat and saw two red birds sing in old trees by the slow river"


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def whence(capsys):
    """The command in this process: ``whence("run", folder, …)`` → exit code, stdout, stderr."""
    from whence.cli import main

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(ended.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def installed():
    """The installed command in a process of its own."""

    def call(*arguments, **more):
        done = subprocess.run(
            [INSTALLED, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **more
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random Llama of two blocks, width 16, with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


def write_corpus(path, documents):
    words = SENTENCE.split()
    rows = ({"text": " ".join(words[(3 * n + k) % len(words)] for k in range(8)), "n": n} for n in range(documents))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Twenty-four sentences."""
    return write_corpus(tmp_path_factory.mktemp("text") / "train.jsonl", 24)


@pytest.fixture
def basics(checkpoint, corpus):
    """The flags of a run that works, or of one with something else in a flag's place (None leaves it out)."""

    def flags(**instead):
        chosen = {"model": checkpoint, "train": corpus, "ask": "the cat sat on", "answer": " a mat"} | instead
        return [word for flag, value in chosen.items() if value is not None for word in (f"--{flag}", value)]

    return flags
