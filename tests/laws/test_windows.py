"""A document longer than the context becomes windows: scores add up to the document's, and so do gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from whence.data.documents import Document
from whence.data.store import TokenStore
from whence.jobs.documents import document_self_influence
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.tasks import CausalLM
from whence.testing import contracts, tiny, toys

DOCUMENT = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 0]


class Bigram(nn.Module):
    """Looks at one token only, so that a window knows as much as the document."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.layers = nn.ModuleList([tiny.MLP(4, 5, 7)])

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.layers[0](self.embedding(input_ids)))


def windows(context: int, document: int = 100):
    """Windows that overlap by one token: each token but the document's first is scored exactly once."""
    starts = range(0, len(DOCUMENT) - 1, context - 1)
    return [
        toys.sequence(DOCUMENT[start : start + context], number=n, document=document, offset=start)
        for n, start in enumerate(starts)
    ]


@pytest.fixture(scope="module")
def model():
    return tiny.seeded(Bigram, 0, scale=0.8)


@pytest.mark.parametrize("context", [2, 4, 6])
def test_scores_of_windows_add_up_to_the_document(model, context):
    """Ours and whole: a document cut at the context and scored as if complete had Spearman 0.57 with its own score."""
    task, whole, parts = CausalLM(), windows(len(DOCUMENT)), windows(context)
    curvature = fit(model, toys.TinyData(whole), task=task, curvature="diagonal", labels="true")
    query = [QueryBatch(toys.sequence([1, 2, 3]), torch.tensor([0]), torch.ones(1))]
    queries = query_gradients(curvature, model, query, task=task, rank=None)
    one, many = (
        score(curvature, queries, toys.TinyData(data, padding=1), model=model, task=task).total
        for data in (whole, parts)
    )
    assert_close(many.sum(1), one[:, 0])
    assert not torch.allclose(many[:, 0], one[:, 0], rtol=0.05), "the first window alone would do"


class Digits:
    """A token a digit."""

    def encode(self, text, *, add_special_tokens=True):
        return [int(digit) for digit in text]

    def decode(self, tokens):
        return "".join(map(str, tokens))


@pytest.mark.parametrize("context", [2, 4, 6])
def test_a_document_has_the_same_self_influence_however_it_is_cut(model, context, tmp_path):
    """It is quadratic: what windows have by themselves is another sum, and a cosine made of it could exceed one."""
    task, texts = CausalLM(), ["".join(map(str, DOCUMENT)), "0123", "65"]
    curvature = fit(model, toys.TinyData(windows(len(DOCUMENT))), task=task, curvature="diagonal", labels="true")
    whole, cut = (
        TokenStore.write(
            tmp_path / str(size),
            [Document("made", row, text=text) for row, text in enumerate(texts)],
            Digits(),
            context=size,
            batch_tokens=12,
        )
        for size in (len(DOCUMENT), context)
    )
    assert whole.sequences == len(texts) < cut.sequences
    own = self_influence(curvature, whole, model=model, task=task)
    assert_close(document_self_influence(curvature, cut, model=model, task=task), own.double())
    assert_close(document_self_influence(curvature, whole, model=model, task=task), own.double())


@pytest.mark.parametrize("context", [2, 4, 6])
def test_labels_of_windows_are_those_of_the_document(model, context):
    """Keyed by the position in the document, not in the window."""
    case = contracts.TaskCase(CausalLM(), model, [])
    (whole,) = (contracts.labels_of(case, one, seed=3)[0] for one in windows(len(DOCUMENT)))
    for one in windows(context):
        start = int(one.offset)
        scored = one.scored[0].sum()
        assert torch.equal(contracts.labels_of(case, one, seed=3)[0, :scored], whole[start : start + scored])


def test_windows_score_every_token_once():
    for context in range(2, 12):
        scored = [int(one.offset) + t for one in windows(context) for t in one.scored[0].nonzero()[:, 0].tolist()]
        assert sorted(scored) == list(range(len(DOCUMENT) - 1))
