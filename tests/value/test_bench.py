"""The bench of flipped labels: what is committed belongs together, and its parts do what they say."""

import json
from pathlib import Path

import numpy as np
import torch
from bench.mislabelled.curves import _kept
from bench.mislabelled.detect import folds
from bench.mislabelled.sets import hashed
from bench.mislabelled.tables import page

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def test_the_page_is_made_from_the_figures():
    sets = json.loads((RESULTS / "mislabelled.json").read_text())["sets"]

    assert page(sets) == (RESULTS / "mislabelled.md").read_text()


def test_every_example_is_in_one_fold():
    assert torch.equal(torch.cat(folds(23)).sort().values, torch.arange(23))


def test_a_text_s_bag_does_not_depend_on_the_others_once_rarity_is_settled():
    texts = ["free entry now", "see you at home", "free home"]
    bags, rarity = hashed(texts)

    alone, _ = hashed(texts[2:], rarity)

    assert torch.equal(alone[0], bags[2])
    assert torch.allclose(bags.norm(dim=1), torch.full((3,), 4.0))


def test_what_is_kept_has_weight_one_and_the_rest_none():
    assert _kept(np.array([3, 1]), 5).tolist() == [0, 1, 0, 1, 0]
