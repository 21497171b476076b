"""Completions that a model was trained on as other tokens, or with an end token: rows do not say so, the model does."""

import io
import json
from dataclasses import replace

import pytest
import torch

from whence.jobs.check import check
from whence.jobs.log import Log
from whence.jobs.run import run
from whence.jobs.settings import RunSettings

PAIRS = [
    {"prompt": f"what has {name}", "completion": f" {name} has a {thing}"}
    for name, thing in zip(["ann", "ben", "cy", "dee"], ["dog", "hat", "cup", "car"], strict=True)
]


def learnt(folder, *, apart, ended):
    """A tiny model that knows the pairs by heart, tokenised in one of the ways that trainers have."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for pair in PAIRS for text in pair.values() for word in text.split()})
    vocabulary = {word: n for n, word in enumerate(["<unk>", "<s>", "</s>", "▁", *(f"▁{word}" for word in words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # as Llama 2
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=len(vocabulary),
        max_position_embeddings=32,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    rows = []
    for pair in PAIRS:
        prompt = tokenizer(pair["prompt"]).input_ids
        whole = tokenizer(pair["prompt"] + pair["completion"]).input_ids
        after = tokenizer(pair["completion"], add_special_tokens=False).input_ids if apart else whole[len(prompt) :]
        after += [tokenizer.eos_token_id] * ended
        rows.append({"input_ids": prompt + after, "labels": [-100] * len(prompt) + after})
    for _ in range(60):
        for row in rows:
            loss = model(**{name: torch.tensor([value]) for name, value in row.items()}).loss
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return rows


def checked(folder, rows, **more):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check(None, RunSettings(model=str(folder), train=str(path), **more), rows=4)
    return {row.name: row for row in found.rows}


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_the_model_tells_how_it_was_trained(tmp_path, apart, ended):
    exact = learnt(tmp_path, apart=apart, ended=ended)
    rows = checked(tmp_path, PAIRS)
    assert rows["completions"].verdict == ("wrong" if apart else "ok")
    assert "4 of 4 would be other tokens" in rows["completions"].text
    assert rows["end token"].verdict == ("note" if ended else "ok")
    assert (rows["end token"].figure > 0.5) == ended
    if ended:
        assert '"</s>"' in rows["end token"].advice
        rows = checked(tmp_path, [pair | {"completion": f"{pair['completion']}</s>"} for pair in PAIRS])
        assert "end token" not in rows, "it is there"
    if apart:
        assert "input_ids and labels" in rows["completions"].advice
        one = {"ask": PAIRS[0]["prompt"], "answer": PAIRS[0]["completion"]}
        rows = checked(tmp_path, exact, **one)
        assert "completions" not in rows
        assert rows["losses"].verdict == "ok"
        assert rows["answers"].verdict == "note"
        assert "one space more" in rows["answers"].advice
        rows = checked(tmp_path, exact, **one | {"answer": f" {one['answer']}"})
        assert rows["answers"].verdict == "ok"


@pytest.mark.parametrize("apart", [True, False])
def test_a_question_in_other_tokens_than_those_trained_on_is_told_and_one_in_tokens_is_asked_as_it_is(tmp_path, apart):
    exact = learnt(tmp_path, apart=apart, ended=True)
    path, asked = tmp_path / "rows.jsonl", tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in exact))
    asked.write_text(json.dumps(exact[2] | {"id": "cy", "topic": "cups"}) + "\n")
    said = {}
    settings = RunSettings(model=str(tmp_path), train=str(path), top=2)

    def ask(name, **more):
        lines = io.StringIO()
        result = run(tmp_path / "run", replace(settings, **more), log=Log(lines), stop_after="score")
        said[name] = lines.getvalue()
        return result

    plain = ask("plain", ask=PAIRS[2]["prompt"], answer=PAIRS[2]["completion"])
    tokens = ask("tokens", query=str(asked))

    assert ("tokenised apart" in said["plain"]) == apart
    assert "tokenised apart" not in said["tokens"]
    assert (tokens.answers.measurement[0] > plain.answers.measurement[0] + 1) == apart
    (query,) = tokens.questions
    said = [words.replace("▁", "").split() for words in (query.prompt, query.completion)]
    assert (query.id, [word for word in said[1] if word]) == ("cy", ["cy", "has", "a", "cup"])
    assert said[0] == ["what", "has", "cy"]
    assert query.metadata == {"topic": "cups"}
    assert tokens.top(1)[0]["row"] == 2


def test_of_texts_nothing_is_said(tmp_path):
    learnt(tmp_path, apart=False, ended=False)
    assert not {"completions", "end token"} & checked(tmp_path, [{"text": "ann has a dog"}] * 2).keys()
