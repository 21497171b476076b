"""A plan is within a quarter of what is then measured: on the demo's model and text, and on a small bench model."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch
from bench.model import Shape, build, query_tokens, train_tokens
from tests.plan.measured import bytes_on_disk, measured, off

from whence.demo import paths
from whence.jobs.plan import plan
from whence.jobs.settings import RunSettings

BENCH = Shape(
    "small", width=96, layers=1, heads=4, mlp=256, sequences=16, tokens=64, batch=8, queries=4, vocabulary=512
)


@pytest.fixture(scope="module")
def two_questions(tmp_path_factory):
    with paths().questions.open(encoding="utf-8") as lines:
        text = "".join(islice(lines, 2))
    path = tmp_path_factory.mktemp("asked") / "questions.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def first_block(tmp_path_factory):
    """The demo's model cut to its first block: passes cost a quarter, and documents win as before."""
    import transformers

    folder = tmp_path_factory.mktemp("demo") / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(paths().model, num_hidden_layers=1)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(paths().model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "chosen",
    [{}, {"rank": 4, "curvature": "kfac", "by": ("layer",)}, {"rank": 8, "by": ("token",), "store": "bfloat16"}],
    ids=["as it comes", "kfac, rank 4, by layer", "rank 8, by token, kept in bfloat16"],
)
def test_a_part_of_the_demo(tmp_path, first_block, two_questions, chosen):
    settings = RunSettings(
        model=str(first_block), train=str(paths().corpus), query=str(two_questions), limit=20, top=4, **chosen
    )
    expected = plan(settings)
    assert off(expected, measured(tmp_path / "run", settings), bytes_on_disk(tmp_path / "run")) == []


@pytest.fixture(scope="module")
def bench_files(tmp_path_factory):
    """The bench model as a checkpoint, with a word for each of its tokens."""
    import tokenizers
    import transformers

    folder = tmp_path_factory.mktemp("bench")
    build(BENCH).save_pretrained(folder / "model")
    words = {f"w{number}": number for number in range(BENCH.vocabulary)}
    by_word = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    by_word.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=by_word, unk_token="w0").save_pretrained(folder / "model")

    def text(row: torch.Tensor) -> str:
        return " ".join(f"w{token}" for token in row.tolist())

    train = [{"text": text(row)} for row in train_tokens(BENCH)]
    asked = [{"prompt": text(row[:1]), "completion": " " + text(row[1:])} for row in query_tokens(BENCH)]
    for name, rows in (("train", train), ("asked", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_small_bench_model(tmp_path, bench_files):
    settings = RunSettings(
        model=str(bench_files / "model"),
        train=str(bench_files / "train.jsonl"),
        query=str(bench_files / "asked.jsonl"),
        batch_tokens=BENCH.batch * BENCH.tokens,
        top=1,  # attributions would take longer than all the rest
    )
    expected = plan(settings)
    assert off(expected, measured(tmp_path / "run", settings), bytes_on_disk(tmp_path / "run")) == []
