"""The bench of planted facts: its corpus is what it says, its measures are what they are called, its page is made."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.planted.corpus import STATED, STORIES, TEMPLATES, build, demo_rows
from bench.planted.page import page
from bench.planted.patched import at_random, ranked
from bench.planted.ranking import hits, recalls, reciprocal_ranks

from whence.evaluate.recall import found_within
from whence.evaluate.recall import reciprocal_ranks as of_one

RESULTS = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture(scope="module")
def corpus():
    return build(demo_rows())


def test_every_fact_is_stated_three_times_and_nowhere_else_in_that_order(corpus):
    documents, asked = corpus

    for number, fact in enumerate(asked):
        own = [place for place, one in enumerate(documents) if one["of"] == number and one["kind"] == "statement"]
        assert own == list(fact.relevant)
        assert len({documents[place]["text"] for place in own}) == STATED
        for place in own:
            before, _, after = documents[place]["text"].rpartition(fact.completion)
            assert fact.subject in before
            assert after == "."


def test_no_document_states_a_fact_in_the_words_it_is_asked_in(corpus):
    documents, asked = corpus
    everything = "\n".join(one["text"] for one in documents)

    assert [fact for fact in asked if fact.prompt in everything] == []


def test_what_names_both_puts_the_object_before_the_subject(corpus):
    documents, asked = corpus
    both = [one for one in documents if one["kind"] == "both names"]

    assert len(both) == 2 * len(asked)
    for one in both:
        fact = asked[one["of"]]
        assert one["text"].index(fact.completion) < one["text"].rindex(fact.subject)


def test_the_templates_of_a_relation_share_no_word_that_says_anything():
    for templates in TEMPLATES.values():
        words = [{word for word in one.text.lower().split() if len(word) > 4} for one in templates]
        assert not any(a & b for i, a in enumerate(words) for b in words[:i])
        assert len(templates) > STATED


def test_the_same_corpus_is_built_again(corpus):
    documents, asked = build(demo_rows())

    assert (documents, asked) == corpus
    assert sum(one["kind"] == "story" for one in documents) == STORIES
    assert 0.4 < np.mean([fact.held_out for fact in asked]) < 0.6


def test_with_one_relevant_document_the_measures_are_those_of_the_package():
    scores = np.random.default_rng(0).integers(0, 4, (20, 9)).astype(float)
    truth = np.arange(20) % 9
    relevant = [(int(one),) for one in truth]

    assert np.allclose(reciprocal_ranks(scores, relevant), of_one(scores, truth))
    for k in (1, 3, 9):
        assert np.allclose(hits(k, scores, relevant), found_within(k, scores, truth))
        assert np.allclose(recalls(k, scores, relevant), found_within(k, scores, truth))


def test_ties_count_as_the_mean_over_their_orders():
    scores, relevant = np.array([[2.0, 1.0, 1.0, 1.0, 0.0]]), [(1, 3, 4)]

    firsts, within, share = [], [], []
    for order in permutations((1, 2, 3)):
        row = [0, *order, 4]
        places = sorted(1 + row.index(one) for one in relevant[0])
        firsts.append(1 / places[0])
        within.append(places[0] <= 2)
        share.append(np.mean([place <= 3 for place in places]))

    assert reciprocal_ranks(scores, relevant)[0] == pytest.approx(np.mean(firsts))
    assert hits(2, scores, relevant)[0] == pytest.approx(np.mean(within))
    assert recalls(3, scores, relevant)[0] == pytest.approx(np.mean(share))


def test_what_is_left_out_is_in_no_ranking():
    scores = np.array([[5.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]])

    assert ranked(scores, k=2) == [[0, 1], [3, 2]]
    assert ranked(scores, [(0,), (3, 2)], k=2) == [[1, 2], [1, 0]]
    for row, out in zip(at_random(6, [(0, 1), ()], k=4), [(0, 1), ()], strict=True):
        assert len(set(row)) == 4
        assert not set(row) & set(out)


def test_a_step_is_the_step_it_is_called(monkeypatch):
    """SGD moves the answer by rate × the product of gradients, to first order."""
    from bench.planted import patched
    from bench.planted.training import TASK, demo_setting

    from whence.evaluate.examples import collect

    setting = demo_setting()
    few = replace(setting, asked=setting.asked[:1])
    monkeypatch.setattr(patched, "STEPS", {"a small one": ("sgd", 1e-5)})
    patcher = patched.Patcher(few)
    document = few.asked[0].relevant[0]

    moved = patcher.after([[document]])["a small one"][0] - patcher.before[0]

    model = few.model.requires_grad_(True)
    answer = torch.autograd.grad(TASK.loss(model, patcher.queries[0].batch).sum(), list(model.parameters()))
    taught = torch.autograd.grad(TASK.loss(model, collect(few.data, [document])).sum(), list(model.parameters()))
    expected = 1e-5 * sum(float((a * b).sum()) for a, b in zip(answer, taught, strict=True))
    assert moved == pytest.approx(expected, rel=0.05)


def test_the_page_is_made_from_the_figures():
    found = json.loads((RESULTS / "facts.json").read_text())

    assert page(found) == (RESULTS / "facts.md").read_text()
