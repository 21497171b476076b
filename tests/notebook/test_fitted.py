"""fit, score and the others from Python: every form of data gives the same numbers, and nothing is said twice."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import whence as wh
from whence.data.memory import TokenData
from whence.errors import DataError, InvalidSetting
from whence.jobs import fit as fit_job
from whence.jobs import query as query_job
from whence.jobs import score as score_job
from whence.models.hf import load_model, load_tokenizer
from whence.testing.tiny import mlp

TASK = wh.Classification()


def examples(count=11, seed=1):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=draw)


class Pairs(Dataset):
    """A map-style data set that does not say how it ends but by its length."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, n):
        return self.x[n].numpy(), int(self.y[n])


class Stream(IterableDataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        return iter(self.pairs)


@pytest.fixture(scope="module")
def model():
    return mlp(4, 5, 3)


@pytest.fixture(scope="module")
def train():
    return examples()


@pytest.fixture(scope="module")
def expected(model, train):
    """By the jobs, told everything."""
    data, asked = wh.TensorData(*train), wh.TensorData(*examples(3, 2))
    curvature = fit_job.fit(model, data, task=TASK)
    parts = [
        wh.QueryBatch(batch, batch.ids, torch.ones(len(batch), dtype=torch.float64))
        for unit in asked.units
        for batch in asked.batches(unit.number)
    ]
    queries = query_job.query_gradients(curvature, model, parts, task=TASK)
    return score_job.score(curvature, queries, data, model=model, task=TASK).total


FORMS = {
    "TensorData": lambda x, y: wh.TensorData(x, y),
    "tensors": lambda x, y: (x, y),
    "TensorDataset": TensorDataset,
    "Dataset": Pairs,
    "DataLoader, shuffled": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
    "iterable": lambda x, y: DataLoader(Stream([(a, b) for a, b in zip(x, y, strict=True)]), batch_size=32),
    "list of pairs": lambda x, y: list(zip(x, y, strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_scores(form, model, train, expected):
    data = FORMS[form](*train)
    curvature = wh.fit(model, data, task=TASK)

    scores = wh.score(curvature, FORMS[form](*examples(3, 2)), data)

    assert torch.equal(scores.total, expected)


def test_a_loader_s_batch_size_is_the_data_s(train):
    data = wh.as_data(DataLoader(TensorDataset(*train), batch_size=4))
    assert [len(batch) for unit in data.units for batch in data.batches(unit.number)] == [4, 4, 3]


def test_a_model_is_run_in_eval_mode_and_comes_back_as_it_was(train):
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Dropout(0.9), torch.nn.Linear(5, 3)).double()
    curvature = wh.fit(net.eval(), train, task=TASK)
    net.train()
    net[1].eval()

    again = wh.fit(net, train, task=TASK)

    assert [module.training for module in net] == [True, False, True]
    assert again.fingerprint == curvature.fingerprint


def test_a_curvature_remembers_its_model_but_keeps_it_not_alive(train):
    net = mlp(4, 5, 3)
    curvature = wh.fit(net, train, task=TASK).with_damping(0.5)
    assert wh.self_influence(curvature, train).numpy().shape == (11,)

    del net
    gc.collect()

    with pytest.raises(InvalidSetting, match="is gone"):
        wh.score(curvature, train, train)


def test_a_model_trained_on_since_is_refused(train):
    net = mlp(4, 5, 3)
    curvature = wh.fit(net, train, task=TASK)
    with torch.no_grad():
        net[0].weight += 1

    with pytest.raises(InvalidSetting, match="written to since"):
        wh.score(curvature, train, train)
    assert wh.score(curvature, train, train, model=net).total.shape == (11, 11)


def test_a_curvature_made_elsewhere_asks_for_its_model(model, train):
    curvature = fit_job.fit(model, wh.TensorData(*train), task=TASK)
    with pytest.raises(InvalidSetting, match="does not know its model and task"):
        wh.score(curvature, train, train)
    with pytest.raises(InvalidSetting, match="does not know its task"):
        wh.self_influence(curvature, train, model=model)


def test_scores_name_their_sequences_and_become_arrays(model, train, expected):
    data = wh.TensorData(*train, names=[f"row {n}" for n in range(11)])
    scores = wh.score(wh.fit(model, data, task=TASK), examples(3, 2), data)
    raw = scores.numpy()

    best = scores.top(3, query=1)
    assert [row["sequence"] for row in best] == np.argsort(-raw[1], kind="stable")[:3].tolist()
    assert best[0]["where"] == f"row {best[0]['sequence']}"
    assert np.isclose(best[0]["per_copy"], raw[1].max() / 11)
    assert scores.bottom(1)[0]["raw"] == raw[0].min()
    assert torch.equal(scores.per_copy(), expected / 11)
    assert "<script" not in best._repr_html_()


def test_suspects_are_ranked_by_self_influence_and_named_as_given(model, train):
    curvature = wh.fit(model, train, task=TASK)
    names = np.array(["cat", "dog", "eel"])[train[1].numpy()]

    own = wh.self_influence(curvature, train)
    view = own.suspects(names, n=11)
    plain = wh.suspects(curvature, train)

    assert [row["example"] for row in view] == plain.top(11)
    assert [row["given"] for row in view] == [names[k] for k in plain.top(11)]
    assert all(row["suggested"] in set(names) - {row["given"]} for row in view)
    assert own.to_pandas().self_influence.tolist() == plain.self_influence.tolist()
    assert own.top(1)[0]["example"] == plain.top(1)[0]
    assert [row["relative"] for row in view] == [float(plain.relative[k]) for k in plain.top(11)]
    with pytest.raises(DataError, match="2 labels of 11 examples"):
        own.suspects(["cat", "dog"])


def test_value_needs_only_what_is_new(model, train):
    curvature = wh.fit(model, train, task=TASK)
    told = wh.value(curvature, wh.TensorData(*train), wh.TensorData(*examples(5, 3)), model=model, task=TASK)
    assert torch.equal(wh.value(curvature, train, examples(5, 3)).raw, told.raw)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "nothing to read"),
        ({"text": "a"}, "dict is not data"),
        ("train.jsonl", "str is not data"),
        ([1, 2], "an item of the data is int"),
        ([(torch.zeros(2), 1), (torch.zeros(3), 1)], r"item 1 of the data has the shape \(3,\)"),
        ([(torch.zeros(2), "a")], "item 0 of the data holds str"),
        (TensorDataset(torch.zeros(2), torch.zeros(2), torch.zeros(2)), "3 tensors"),
        (7, "int is not data"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(model, data, message):
    with pytest.raises(DataError, match=message):
        wh.fit(model, data, task=TASK)


def test_a_loss_that_cannot_be_told_is_asked_for(model, train):
    with pytest.raises(InvalidSetting, match="the loss of MLP is not known"):
        wh.fit(model, train)
    with pytest.raises(InvalidSetting, match="not a torch module"):
        wh.fit("models/toy", train)


@pytest.fixture(scope="module")
def language(toy):
    rows = [{"text": "the capital of france is paris", "note": n} for n in range(3)]
    rows += [{"prompt": "a cat sat on", "completion": " the mat"}, {"text": " ".join(["red house"] * 12)}]
    return load_model(toy / "model", dtype="float64"), load_tokenizer(toy / "model"), rows


def test_rows_of_text_are_the_run_s_own_sequences(language, toy, tmp_path):
    """The same rows, from a list and from a file: the same scores."""
    import json

    model, tokenizer, rows = language
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    question = wh.ask("the capital of france is", " paris")
    run = wh.run(
        tmp_path / "r",
        model=str(toy / "model"),
        train=str(tmp_path / "rows.jsonl"),
        query=question,
        dtype="float64",
        top=1,
    )

    curvature = wh.fit(model, rows, tokenizer=tokenizer)
    scores = wh.score(curvature, question, rows)

    data = wh.as_data(rows, tokenizer=tokenizer, model=model)
    assert isinstance(data, TokenData)
    assert data.sequences > data.documents == 5
    by_row = np.bincount(data.document_of, scores.numpy()[0], 5)
    assert np.allclose(by_row, run.raw(), rtol=1e-9)
    assert scores.top(1)[0]["where"].startswith("data[")
    assert data.name(data.sequences - 1).startswith("data[4], tokens ")


def test_texts_rows_and_generators_are_one(language):
    model, tokenizer, _ = language
    texts = ["the capital of spain is madrid", "a dog ran far away"]
    forms = [texts, [{"text": text} for text in texts], (text for text in texts)]
    assert len({wh.as_data(form, tokenizer=tokenizer, model=model).fingerprint for form in forms}) == 1


def test_rows_of_tokens_are_those_of_their_text(language):
    """As lists, tensors or arrays, with labels or without; and no tokenizer is needed."""
    model, tokenizer, rows = language
    text = wh.as_data(rows[:3], tokenizer=tokenizer, model=model)
    ids = tokenizer([row["text"] for row in rows[:3]])["input_ids"]
    for kind in (list, torch.tensor, np.array):
        tokens = [{"input_ids": kind(one), "labels": kind(one), "attention_mask": kind([1] * len(one))} for one in ids]
        assert wh.as_data(tokens, model=model).fingerprint == text.fingerprint


def test_a_row_that_cannot_be_used_is_named(language):
    model, tokenizer, rows = language
    with pytest.raises(DataError, match=r"data\[1\] lacks the column"):
        wh.fit(model, [rows[0], {"txt": "a"}], tokenizer=tokenizer)
    with pytest.raises(DataError, match=r"data\[0\]: the column \"labels\" holds 7 at position 1"):
        wh.fit(model, [{"input_ids": [1, 2, 3], "labels": [1, 7, 3]}])


def test_rows_ask_about_their_completions(language):
    model, tokenizer, rows = language
    curvature = wh.fit(model, rows, tokenizer=tokenizer)
    row = [{"prompt": "a cat sat on", "completion": " the mat"}]
    asked = wh.score(curvature, wh.ask("a cat sat on", " the mat"), rows)
    assert torch.allclose(wh.score(curvature, row, rows).total, asked.total)
    with pytest.raises(InvalidSetting, match="longer than the model's context"):
        wh.score(curvature, [rows[-1]], rows)


def test_text_without_a_tokenizer_is_refused(language):
    model, tokenizer, rows = language
    with pytest.raises(InvalidSetting, match="no tokenizer"):
        wh.fit(model, rows)
    curvature = wh.fit(model, wh.as_data(rows, tokenizer=tokenizer, model=model), curvature="identity")
    with pytest.raises(InvalidSetting, match="the questions are text"):
        wh.score(curvature, wh.ask("a", " cat"), wh.as_data(rows, tokenizer=tokenizer, model=model))


def test_a_plan_is_made_of_what_is_in_memory(language):
    model, tokenizer, rows = language
    planned = wh.plan(model, rows, tokenizer=tokenizer, queries=wh.ask("a cat sat on", " the mat"))
    assert (planned.documents, planned.queries) == (5, 1)
    assert repr(planned) == planned.text()
