"""Each check finds its fault, planted in a clean model or its data, says what to do, and accuses nothing else."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import whence.jobs.check.job as job
from whence.errors import CheckFailed
from whence.jobs.check import check
from whence.jobs.settings import RunSettings


@pytest.fixture
def checked(toy, monkeypatch):
    """``checked(plant=…, rows=…, **settings)`` → rows by name, of the toy with something planted in its model."""

    def call(plant=lambda model: None, rows=4, **settings):
        load = job.base_model

        def planted(settings):
            model = load(settings)
            plant(model)
            return model

        monkeypatch.setattr(job, "base_model", planted)
        chosen = {"model": str(toy / "model"), "train": str(toy / "train.jsonl"), **settings}
        found = check(None, RunSettings(**chosen), rows=rows)
        monkeypatch.setattr(job, "base_model", load)
        return {row.name: row for row in found.rows}, found

    return call


def wrong(found):
    return [row.name for row in found.wrong]


def written(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def down(model):
    return model.model.layers[1].mlp.down_proj


def test_weights_that_are_not_numbers(checked):
    rows, found = checked(lambda model: down(model).weight.data.fill_(torch.nan))
    assert wrong(found) == ["weights"]
    assert "model.layers.1.mlp.down_proj.weight" in rows["weights"].text
    assert rows["weights"].figure == 1
    assert "losses" not in rows
    assert "copies" in rows, "the data are looked at all the same"


def test_a_loss_that_is_no_number_names_its_row(checked, tmp_path):
    def huge(model):
        def overflow(module, args, output):
            return output.masked_fill((args[0] == 15)[..., None], torch.inf)  # the word "and"

        model.model.embed_tokens.register_forward_hook(overflow)

    texts = ["a cat sat", "a dog and the cat", "the red house"]
    rows, found = checked(huge, train=written(tmp_path, [{"text": text} for text in texts]))
    assert wrong(found) == ["losses"]
    assert "rows.jsonl, line 2" in rows["losses"].text
    assert "line 1" not in rows["losses"].text


def test_what_mixes_the_rows_of_a_batch(checked):
    def mix(model):
        model.model.layers[0].register_forward_hook(lambda module, args, output: output + 0.3 * output.mean(0, True))

    rows, found = checked(mix)
    assert wrong(found) == ["batches, eager"]
    assert rows["batches, eager"].figure > 0.01
    assert "no document has a gradient of its own" in rows["batches, eager"].advice
    with pytest.raises(CheckFailed, match="batches, eager"):
        found.refuse()


def test_attention_that_looks_at_padding(checked):
    """As a model that is not causal does without a mask."""

    def look(model):
        attention = model.model.layers[0].self_attn
        attention.register_forward_hook(lambda module, args, output: (output[0] + output[0].mean(1, True), output[1]))

    _, found = checked(look)
    assert "batches, eager" in wrong(found)


def test_a_kernel_that_the_run_does_not_use_is_a_note(checked, monkeypatch):
    """The kernel that others default to, with the fault that it had."""
    right = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def leaking(*args, **named):
        output, weights = right(*args, **named)
        return output + 0.5 * output.mean(0, True), weights

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", leaking)
    rows, found = checked()
    assert rows["batches, sdpa"].verdict == "note"
    assert rows["batches, sdpa"].advice == "sdpa would change scores here"
    assert wrong(found) == []
    rows, found = checked(attention="sdpa")
    assert wrong(found) == ["batches, sdpa"]
    assert 'attention = "eager"' in rows["batches, sdpa"].advice


def test_chance_that_is_left_in_evaluation(checked):
    def forgetful(model):
        down(model).register_forward_hook(
            lambda module, args, output: nn.functional.dropout(output, 0.5, training=True)
        )

    rows, found = checked(forgetful)
    assert "repeatable" in wrong(found)
    assert "two passes over the same rows differ" in rows["repeatable"].text


def test_a_module_left_in_training(checked):
    rows, found = checked(lambda model: model.model.layers[0].train())
    assert wrong(found) == ["repeatable"]
    assert "model.layers.0" in rows["repeatable"].text


def test_a_layer_called_twice_is_seen_whole(checked):
    def twice(model):
        mlp = model.model.layers[1].mlp
        mlp.forward = lambda x: mlp.down_proj(mlp.gate_proj(x)) + mlp.down_proj(mlp.up_proj(x))

    rows, _ = checked(twice)
    assert rows["hooks"].verdict == "ok"
    assert rows["gradients"].verdict == "ok"


def test_a_call_that_nothing_uses(checked):
    def idle(model):
        mlp = model.model.layers[1].mlp
        mlp.forward = lambda x: (mlp.down_proj(mlp.gate_proj(x)), mlp.down_proj(mlp.up_proj(x)))[0]

    rows, found = checked(idle)
    assert wrong(found) == ["hooks"]
    assert "mlp.down_proj was called 2 times before one backward, which reached 1" in rows["hooks"].text
    assert "--layers" in rows["hooks"].advice
    assert "number type" not in rows


class Halved(torch.autograd.Function):
    """Half of what comes back is lost."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


def test_a_kernel_with_another_backward(checked):
    def faulty(model):
        attention = model.model.layers[1].self_attn
        attention.register_forward_hook(lambda module, args, output: (Halved.apply(output[0]), output[1]))

    rows, found = checked(faulty)
    assert wrong(found) == ["gradients"]
    assert "does not follow its gradients" in rows["gradients"].text


def test_half_precision_that_ranks_otherwise(checked):
    """Logits far from zero, whose differences bfloat16 rounds away."""

    def far(model):
        model.model.norm.register_forward_hook(
            lambda module, args, output: torch.cat([torch.full_like(output[..., :1], 100.0), output[..., 1:]], -1)
        )
        model.lm_head.weight.data.mul_(50.0)[:, 0] = 80.0

    rows, found = checked(far, rows=12)
    assert wrong(found) == []
    assert rows["number type"].verdict == "note", rows["number type"]
    assert rows["number type"].figure < 0.9
    assert "stay in float32" in rows["number type"].advice
    rows, found = checked(far, rows=12, dtype="bfloat16")
    assert "number type" in wrong(found)
    assert "--dtype float32" in rows["number type"].advice


@pytest.mark.parametrize(("masked", "verdict"), [(1, "note"), (3, "wrong"), (4, "wrong")])
def test_rows_with_nothing_scored(checked, tmp_path, masked, verdict):
    def row(number):
        ids = [1, 3 + number, 5, 7]
        return {"input_ids": ids, "labels": [-100] * 4 if number < masked else ids}

    rows, found = checked(train=written(tmp_path, [row(number) for number in range(4)]))
    if masked == 4:
        assert wrong(found) == ["data"]
        assert "none of the 4 documents has anything to predict" in rows["data"].text
        assert "labels" in rows["data"].advice
        return
    assert rows["nothing scored"].verdict == verdict
    assert rows["nothing scored"].figure == masked / 4
    assert "rows.jsonl, line 1" in rows["nothing scored"].text
    assert "mask" in rows["nothing scored"].advice
    assert wrong(found) == (["nothing scored"] if verdict == "wrong" else [])


def test_copies_are_counted_and_named(checked, tmp_path):
    texts = ["a cat sat", "the dog ran", "a cat sat", "a red house", "a cat sat"]
    rows, found = checked(train=written(tmp_path, [{"text": text, "n": n} for n, text in enumerate(texts)]))
    assert wrong(found) == []
    assert rows["copies"].verdict == "note"
    assert rows["copies"].text.startswith("2 of 5 documents")
    assert "line 1 = " in rows["copies"].text
    assert "line 3" in rows["copies"].text
    assert rows["copies"].figure == 0.4


def test_a_beginning_that_is_there_twice(checked, tmp_path):
    texts = ["<s> a cat sat", "the dog ran"]
    rows, found = checked(train=written(tmp_path, [{"text": text} for text in texts]))
    assert wrong(found) == []
    assert any(row.name == "special tokens" and "one of the two was dropped" in row.text for row in found.rows)
    assert "long documents" in rows


def test_completions_that_nothing_ends_are_a_note(checked, tmp_path, toy):
    import shutil

    pairs = [{"prompt": "the dog", "completion": f" {word}"} for word in ("ran", "sat")]
    rows, _ = checked(train=written(tmp_path, pairs))
    assert rows["documents"].text.startswith('2 documents of {"prompt", "completion"}: ')
    assert rows["special tokens"].verdict == "ok", "a tokenizer without an end token has none to miss"
    shutil.copytree(toy / "model", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": "house"}))
    rows, found = checked(model=str(tmp_path / "model"), train=written(tmp_path, pairs))
    assert wrong(found) == []
    assert "no end token follows the completion" in rows["special tokens"].text
    assert "tokenizer.eos_token" in rows["special tokens"].advice
    ended = [pair | {"completion": f"{pair['completion']} house"} for pair in pairs]
    rows, _ = checked(model=str(tmp_path / "model"), train=written(tmp_path, ended))
    assert rows["special tokens"].verdict == "ok"


def test_a_question_that_cannot_be_asked(checked):
    rows, found = checked(ask="the " * 14, answer=" cat" * 9)
    assert wrong(found) == ["questions"]
    assert "a sequence may have 16" in rows["questions"].text


def test_an_adapter_that_is_not_truly_there(checked, adapters):
    rows, found = checked(adapter=str(adapters("zero", scale=0)))
    assert "adapter" in wrong(found)
    assert rows["adapter"].text == "every B factor is zero"
    assert "save it after training" in rows["adapter"].advice


def test_an_adapter_of_another_model(checked, adapters):
    other = adapters("other", targets=["q_proj"])
    (other / "adapter_config.json").write_text(
        json.dumps(json.loads((other / "adapter_config.json").read_text()) | {"target_modules": ["v_proj"]})
    )
    rows, found = checked(adapter=str(other))
    assert wrong(found) == ["adapter"]
    assert "no place for" in rows["adapter"].text


def test_an_adapter_that_is_there_is_told_by_the_loss(checked, adapters):
    rows, found = checked(adapter=str(adapters()))
    assert wrong(found) == []
    assert "nats a token with it" in rows["adapter"].text
    assert "adapter factors" not in rows["layers"].text
    assert rows["layers"].verdict == "ok", "an adapter is a small part of a model, and all that is asked about"
    # drawn at random, it makes its rows less likely
    assert rows["adapter"].verdict == ("note" if rows["adapter"].figure < 0 else "ok")


def test_fused_experts_and_a_tied_head_are_notes(checked, tmp_path, toy):
    import shutil

    from transformers import MixtralConfig, MixtralForCausalLM

    folder = tmp_path / "moe"
    shutil.copytree(toy / "model", folder)
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        vocab_size=24,
        max_position_embeddings=16,
        tie_word_embeddings=True,
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    rows, _ = checked(model=str(folder), layers=("*_proj",))
    assert rows["experts"].verdict == "note"
    assert 0.3 < rows["experts"].figure < 0.9
    assert rows["tied embeddings"].verdict == "note"


def test_the_command_ends_with_one(whence, toy, tmp_path):
    """Advice on stdout under its row, the names on stderr; JSON whole all the same."""
    rows = [{"input_ids": [1, 3, 5], "labels": [-100] * 3}, {"input_ids": [1, 4, 5], "labels": [-100] * 3}]
    line = ["check", "--model", toy / "model", "--train", written(tmp_path, rows)]
    done = whence(*line)
    assert done.code == 1
    assert "a run would be wrong: data" in done.err
    assert "→ " in done.out
    done = whence(*line, "--json")
    assert done.code == 1
    assert json.loads(done.out)["rows"][-1]["verdict"] == "wrong"
    done = whence("check", "--model", toy / "model", "--train", tmp_path / "none.jsonl")
    assert (done.code, done.out) == (1, "")
