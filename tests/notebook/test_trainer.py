"""A Trainer handed over: the sequences are those it trained on, and what is not its loss is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whence as wh
from whence.errors import DataError, InvalidSetting, ModelError
from whence.models.hf import load_model, load_tokenizer

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def parts(toy):
    tokenizer = load_tokenizer(toy / "model")
    tokenizer.pad_token = "<unk>"
    texts = ["the capital of france is paris", "a cat sat on the mat and ran", "a dog ran far away", "the red house"]
    rows = [{"input_ids": ids, "note": n} for n, ids in enumerate(tokenizer(texts * 2)["input_ids"])]
    return tokenizer, rows


def trainer_of(toy, tmp_path, tokenizer, rows, *, kind=None, model=None, collator=None, steps=0, args=None, **more):
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=max(1, steps),
        per_device_train_batch_size=3,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **(args or {}),
    )
    made = (kind or transformers.Trainer)(
        model=load_model(toy / "model") if model is None else model,
        args=args,
        train_dataset=rows,
        data_collator=collator or transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        **more,
    )
    if steps:
        made.train()
    return made


def test_scores_are_those_of_the_same_rows_fitted_by_hand(toy, parts, tmp_path):
    tokenizer, rows = parts
    trainer = trainer_of(toy, tmp_path, tokenizer, rows, steps=3)
    assert trainer.model.training
    trained = wh.from_trainer(trainer)
    question = wh.ask("the capital of france is", " paris")

    curvature = trained.fit()
    scores = trained.score(curvature, question)

    by_hand = [{"input_ids": row["input_ids"]} for row in rows]
    again = wh.score(wh.fit(trainer.model, by_hand, tokenizer=tokenizer), question, by_hand)
    assert trained.train_size == len(rows) == 8
    assert torch.equal(scores.total, again.total)
    assert scores.top(1)[0]["where"] == "data[0]"
    assert trainer.model.training
    own = trained.self_influence(curvature).numpy()
    assert np.allclose(own[:4], own[4:], rtol=1e-4)  # the second half says the same


def test_labels_are_the_data_set_s_where_it_has_them(toy, parts, tmp_path):
    """Masked prompts stay masked, and padding to a multiple is left off."""
    tokenizer, rows = parts
    masked = [{**row, "labels": [-100, -100, *row["input_ids"][2:]]} for row in rows]
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8)
    trained = wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, masked, collator=collator))

    expected = wh.as_data([{"input_ids": row["input_ids"], "labels": row["labels"]} for row in masked])
    assert trained.data.fingerprint == expected.fingerprint


def test_a_dataset_of_datasets_is_read_through_the_trainer(toy, parts, tmp_path):
    datasets = pytest.importorskip("datasets")
    tokenizer, rows = parts
    trained = wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, datasets.Dataset.from_list(rows)))
    expected = wh.as_data([{"input_ids": row["input_ids"]} for row in rows])
    assert trained.data.fingerprint == expected.fingerprint


def test_half_precision_weights_are_computed_with_in_float32_and_come_back(toy, parts, tmp_path):
    tokenizer, rows = parts
    trainer = trainer_of(toy, tmp_path, tokenizer, rows, model=load_model(toy / "model", dtype="bfloat16"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    trained = wh.from_trainer(trainer)
    curvature = trained.fit()
    trained.score(curvature, wh.ask("a dog ran", " far"))

    assert curvature.settings["dtype"] == "float32"
    assert any("bfloat16" in note for note in trained.notes)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_an_adapter_is_what_influence_is_over(toy, parts, tmp_path):
    peft = pytest.importorskip("peft")
    tokenizer, rows = parts
    model = peft.get_peft_model(load_model(toy / "model"), peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    trained = wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, rows, model=model, steps=2))

    curvature = trained.fit()

    assert all("lora_" in name for name in curvature.blocks)
    question = wh.ask("a dog ran", " far")
    assert trained.score(curvature, question).total.shape == (1, 8)
    assert not any("lora_" in name for name in trained.fit(params="base").blocks)


class Weighted(transformers.Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch) * 2


class Twice(transformers.Trainer):
    """Its loss is the model's own, and so is another one where the model's is."""


def other_loss(outputs, labels, num_items_in_batch=None):
    return outputs.logits.square().mean()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kind": Weighted}, "Weighted computes a loss of its own"),
        ({"compute_loss_func": other_loss}, "compute_loss_func"),
        ({"args": {"label_smoothing_factor": 0.1}}, "labels were smoothed"),
    ],
)
def test_another_loss_is_refused_by_name(toy, parts, tmp_path, more, message):
    with pytest.raises(InvalidSetting, match=message):
        wh.from_trainer(trainer_of(toy, tmp_path, *parts, **more))


def test_a_model_whose_own_loss_is_another_is_found_out(toy, parts, tmp_path, monkeypatch):
    """Nothing in the trainer says so; the numbers do."""
    trainer = trainer_of(toy, tmp_path, *parts, kind=Twice)
    plain = trainer.model.loss_function
    monkeypatch.setattr(type(trainer.model), "loss_function", property(lambda self: lambda **k: 2 * plain(**k)))
    with pytest.raises(ModelError, match="it trains on another loss"):
        wh.from_trainer(trainer)


def test_masked_words_and_random_rows_are_refused(toy, parts, tmp_path):
    tokenizer, rows = parts
    tokenizer.mask_token = "<unk>"
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True)
    with pytest.raises(InvalidSetting, match="masks words"):
        wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, rows, collator=collator))

    def shuffled(items):
        ids = torch.tensor([items[0]["input_ids"]])
        return {"input_ids": ids[:, torch.randperm(ids.shape[1])], "labels": ids}

    with pytest.raises(DataError, match="another one each time"):
        wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, rows, collator=shuffled))


def test_rows_that_are_no_sequence_of_their_own_are_refused(toy, parts, tmp_path):
    tokenizer, rows = parts

    def collator(**columns):
        return lambda items: {name: torch.tensor([value]) for name, value in columns.items()}

    ids = rows[0]["input_ids"]
    packed = collator(input_ids=ids, labels=ids, position_ids=[0, 1, 2, 0, 1, 2, 3][: len(ids)])
    for made, message in (
        (packed, "several texts packed into one"),
        (collator(input_ids=ids, labels=ids, seq_idx=[0] * len(ids)), "several texts packed into one"),
        (collator(input_ids=ids), "no input_ids with labels"),
        (collator(input_ids=ids, labels=ids, pixel_values=ids), "also given pixel_values"),
    ):
        trainer = trainer_of(toy, tmp_path, tokenizer, rows, collator=made)
        with pytest.raises(DataError, match=message):
            wh.from_trainer(trainer)


def test_a_trainer_without_training_data_or_with_a_stream_is_refused(toy, parts, tmp_path):
    tokenizer, rows = parts
    with pytest.raises(InvalidSetting, match="no train_dataset"):
        wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, None))

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(rows)

    with pytest.raises(InvalidSetting, match="is a stream"):
        wh.from_trainer(trainer_of(toy, tmp_path, tokenizer, Stream()))
    with pytest.raises(InvalidSetting, match="no Hugging Face Trainer"):
        wh.from_trainer(object())


def test_what_is_not_in_an_influence_is_said(toy, parts, tmp_path):
    trainer = trainer_of(toy, tmp_path, *parts, args={"neftune_noise_alpha": 5})
    trained = wh.from_trainer(trainer)
    assert any(note.startswith("NEFTune") for note in trained.notes)
    assert "NEFTune" in trained._repr_html_()
    assert "<script" not in trained._repr_html_()
