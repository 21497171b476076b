"""The recipe behind the demo's model, on a miniature: packing changes no loss, and training is the same again."""

import gzip
import importlib
import json
import random
from pathlib import Path

import pytest
import torch

from whence.demo import paths

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    if not RECIPES.is_dir():
        pytest.skip("an installed package has no recipes")
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("train")


@pytest.fixture
def tiny(recipe):
    return recipe.Recipe(vocabulary=40, width=16, layers=1, heads=2, mlp=24, epochs=2, rows=2)


def sequences(count=30):
    draw = random.Random(1)
    return [[1, *(draw.randrange(3, 40) for _ in range(draw.randint(1, 90)))] for _ in range(count)]


def test_an_epoch_reads_every_sequence_once(recipe):
    given = sequences()

    groups = list(recipe.pack(given, 2, random.Random(0)))

    assert sorted(s for group in groups for row in group for s in row) == sorted(given)
    assert max(sum(map(len, row)) for group in groups for row in group) <= recipe.ROW
    assert max(map(len, groups)) <= 2


def test_packing_changes_no_loss(recipe, tiny):
    """Sequences of a row neither see each other nor share positions."""
    model = recipe.new_model(tiny)  # float32, as in training: torch misreads a float32 mask beside float64 queries
    for matrix in (p for p in model.parameters() if p.ndim == 2):
        torch.nn.init.normal_(matrix, std=0.3)  # attention that matters: fresh weights would hide a leak
    given = sequences(8)

    packed = sum(recipe.loss_of(model, group) for group in recipe.pack(given, 2, random.Random(0)))

    alone = sum(recipe.loss_of(model, [[sequence]]) for sequence in given)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=0)  # float32 sums over some hundred tokens


def test_training_is_the_same_bits_again(recipe, tiny, capsys):
    states = []
    for _ in range(2):
        model = recipe.new_model(tiny)
        recipe.train(model, sequences(), tiny)
        states.append(model.state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["lm_head.weight"], recipe.new_model(tiny).lm_head.weight)


def test_the_packaged_tokenizer_is_what_the_recipe_learns_from_the_packaged_corpus(recipe):
    lines = gzip.decompress(paths().corpus.read_bytes()).decode().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    learned = recipe.train_tokenizer(texts, recipe.Recipe().vocabulary).backend_tokenizer
    packaged = json.loads((paths().model / "tokenizer.json").read_text(encoding="utf-8"))

    assert json.loads(learned.to_str())["model"] == packaged["model"]
    assert learned.encode("The capital of").tokens[0] == "<s>"


def test_questions_are_asked_in_the_next_template(recipe):
    corpus = importlib.import_module("corpus")
    row = {"id": 7, "kind": "fact", "relation": "capital", "subject": "France", "object": "Paris", "template": 2}

    asked = corpus.question(row)

    assert asked["prompt"] + " {object}." == corpus.TEMPLATES["capital"][0].format(subject="France", object="{object}")
    assert (asked["completion"], asked["fact"]) == (" Paris", 7)


def test_sources_of_other_bytes_are_refused(recipe, tmp_path):
    corpus = importlib.import_module("corpus")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tinystories_2MiB.txt.gz").write_bytes(gzip.compress(b"Once."))

    with pytest.raises(SystemExit, match="not the file"):
        corpus.build(tmp_path)
