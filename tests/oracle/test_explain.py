"""Documents of several windows, from the token store to the parts that a report shows, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.cases import Case, lm
from torch.testing import assert_close

from whence.data.documents import Document
from whence.data.store import TokenStore
from whence.influence.topk import TopK, spurious
from whence.jobs.documents import document_self_influence
from whence.jobs.explain import explain, full_rank_query, rescore
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.testing import dense, differences, toys


class Digits:
    """A token a digit, 0 to 6: nothing is added."""

    def encode(self, text, *, add_special_tokens=True):
        return [int(digit) for digit in text]

    def decode(self, tokens):
        return "".join(map(str, tokens))


TEXTS = ["31415265350", "2602", "5531", "6", "01234560123456", "413"]
CONTEXT = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    documents = [Document("made", row, text=text) for row, text in enumerate(TEXTS)]
    documents.append(Document("made", len(TEXTS), prompt="314", completion="1526"))
    return TokenStore.write(
        tmp_path_factory.mktemp("run") / "data", documents, Digits(), context=CONTEXT, batch_tokens=12
    )


class Told:
    """A store fitted, one question asked of it, and the oracle over its sequences."""

    def __init__(self, store):
        self.store, model = store, lm()
        examples = []
        for sequence in range(store.sequences):
            piece = store.piece(sequence)
            scored = [*piece.scored[1:].tolist(), False]
            tokens = torch.tensor(piece.tokens.astype(np.int64))
            document = int(store.document_of[sequence])
            targets = torch.where(torch.tensor(scored), tokens.roll(-1), 0)
            examples.append(
                toys.example(tokens, targets, scored, number=sequence, document=document, offset=piece.offset)
            )
        self.case = Case(model.model, model.layers, examples, "tokens")
        self.oracle = self.case.oracle()
        self.curvature = fit(model.model, store, task=model.task, layers=model.layers)
        self.question = toys.sequence([3, 1, 4, 1], prompt=2)
        self.parts = [QueryBatch(self.question, torch.tensor([0]), torch.ones(1))]
        self.query = full_rank_query(self.curvature, model.model, self.parts, model.task)
        matrices = {name: self.curvature.dense(name) for name in model.layers}
        asked = {name: -grads for name, grads in self.oracle.gradients([self.question]).items()}
        losses = self.oracle.gradients()
        self.direction = {name: grads[0] for name, grads in dense.solved(matrices, asked).items()}
        self.by_layer = dense.scores(matrices, asked, losses)[:, 0]
        self.own = dense.self_influence(matrices, losses)
        every = [list(store.sequences_of(document)) for document in range(store.documents)]
        summed = {name: torch.stack([grads[rows].sum(0) for rows in every]) for name, grads in losses.items()}
        self.own_documents = dense.self_influence(matrices, summed)
        self.query_self = dense.self_influence(matrices, asked)[0]

    def summed(self, values, document):
        return values[..., list(self.store.sequences_of(document))].sum(-1)


@pytest.fixture(scope="module")
def told(store):
    return Told(store)


@pytest.fixture(scope="module")
def explained(told):
    documents = list(range(told.store.documents))
    found = explain(told.curvature, told.case.model, told.query, told.store, documents, told.case.task)
    return dict(zip(documents, found, strict=True))


def near(found, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    found = torch.as_tensor(found, dtype=torch.float64)
    assert_close(found, expected, rtol=1e-5, atol=1e-6 * max(1.0, float(expected.abs().max())))


def test_no_token_of_a_long_document_is_lost(store):
    """Three windows of the first text, each but the first beginning where the one before ended."""
    assert len(store.sequences_of(0)) == 3
    for document, text in enumerate(TEXTS):
        pieces = [store.piece(sequence) for sequence in store.sequences_of(document)]
        assert sum(int(piece.scored.sum()) for piece in pieces) == len(text) - 1
        assert [int(t) for piece in pieces for t in piece.tokens[bool(piece.offset) :]] == [int(d) for d in text]


def test_a_document_shows_its_own_tokens(explained):
    for document, text in enumerate(TEXTS):
        assert explained[document].tokens == [int(digit) for digit in text]
        assert explained[document].windows == list(range(CONTEXT - 1, len(text) - 1, CONTEXT - 1))


def test_scores_of_documents_are_dense_products_added(told, explained):
    for document, found in explained.items():
        near(found.raw, told.summed(told.by_layer.sum(0), document))
        near(found.by_layer, told.summed(told.by_layer, document))
        near(found.self_influence, told.own_documents[document])
        near(found.query_self, told.query_self)


def test_parts_add_up_to_the_score(explained):
    for found in explained.values():
        near(found.by_layer_token.sum(), found.raw)
        near(found.by_token.sum(), found.raw)
        near(found.by_layer.sum(), found.raw)
        near(found.output_tokens.sum(), found.raw)


def test_parts_by_layer_and_token_are_those_of_the_traces(told, explained):
    for document, found in explained.items():
        expected = torch.zeros(len(told.case.layers), len(found.tokens), dtype=torch.float64)
        for sequence in told.store.sequences_of(document):
            one = told.case.examples[sequence]
            draw, inputs = told.oracle.true_draw(one), told.oracle.inputs(one)
            for row, name in enumerate(told.case.layers):
                part = torch.einsum("oi,to,ti->t", told.direction[name], draw.output_grads[name], inputs[name])
                start = int(one.offset)
                expected[row, start : start + len(part)] -= part
        near(found.by_layer_token, expected)


def test_counterfactual_parts_are_finite_differences(told, explained):
    """Over windows: a token on the border is read in two, and predicted in one."""
    for document in (0, 2, len(TEXTS)):
        found = explained[document]
        outputs, inputs = (torch.zeros(len(found.tokens), dtype=torch.float64) for _ in range(2))
        for sequence in told.store.sequences_of(document):
            one = told.case.examples[sequence]
            here = slice(int(one.offset), int(one.offset) + one.inputs.shape[1])
            outputs[here] += differences.output_tokens(told.oracle, one, told.direction)
            inputs[here] += differences.input_tokens(told.oracle, one, told.direction)
        near(found.output_tokens, outputs)
        assert_close(torch.tensor(found.input_tokens), inputs, rtol=1e-4, atol=1e-5 * float(inputs.abs().max()))


def test_normalised_scores_are_what_they_are_called(told, explained):
    for document, found in explained.items():
        raw, own = told.summed(told.by_layer.sum(0), document), told.own_documents[document]
        if own > 0:
            near(found.self_normalised, raw / own.sqrt())
            near(found.cosine, raw / (own * told.query_self).sqrt())
            assert abs(found.cosine) <= 1 + 1e-9


def test_rescoring_gives_the_full_rank_score(told):
    """Whatever rank the pass was run at."""
    cut = query_gradients(told.curvature, told.case.model, told.parts, task=told.case.task, rank=1)
    rough = score(told.curvature, cut, told.store, model=told.case.model, task=told.case.task).total[0]
    found = rescore(told.curvature, told.case.model, told.query, told.store, [0, 4, 2], told.case.task)
    exact = torch.stack([told.summed(told.by_layer.sum(0), document) for document in (0, 4, 2)])
    near([found[document] for document in (0, 4, 2)], exact)
    assert not torch.allclose(told.summed(rough.double(), 0), exact[0], rtol=1e-3)


def test_self_influence_of_a_store_is_that_of_its_sequences(told):
    near(self_influence(told.curvature, told.store, model=told.case.model, task=told.case.task), told.own)


def test_self_influence_of_documents_is_that_of_summed_windows(told):
    """Cross terms included: the parts alone do not add up to it."""
    found = document_self_influence(told.curvature, told.store, model=told.case.model, task=told.case.task)
    near(found, told.own_documents)
    assert not torch.allclose(found[0], told.summed(told.own, 0), rtol=0.01)


def test_windows_in_several_batches_give_the_same_self_influence(told, tmp_path):
    """However windows are batched, and whoever reads which units."""
    options = {"model": told.case.model, "task": told.case.task}
    documents = [Document("made", row, text=text) for row, text in enumerate(TEXTS)]
    documents.append(Document("made", len(TEXTS), prompt="314", completion="1526"))
    apart = TokenStore.write(tmp_path / "data", documents, Digits(), context=CONTEXT, batch_tokens=CONTEXT, units=3)
    assert len(list(apart.gather(apart.sequences_of(0)))) == 3
    near(document_self_influence(told.curvature, apart, **options), told.own_documents)
    folder = tmp_path / "self"
    assert document_self_influence(told.curvature, apart, **options, folder=folder, units=range(1, 3)) is None
    resumed = document_self_influence(told.curvature, apart, **options, folder=folder)
    assert torch.equal(resumed, document_self_influence(told.curvature, apart, **options))


def test_a_document_asked_about_itself_has_a_cosine_of_one(told):
    """A question that is a document of several windows, every window a part of it."""
    parts = [QueryBatch(told.case.examples[s], torch.tensor([0]), torch.ones(1)) for s in told.store.sequences_of(0)]
    query = full_rank_query(told.curvature, told.case.model, parts, told.case.task)
    (found,) = explain(told.curvature, told.case.model, query, told.store, [0], told.case.task)
    near(found.cosine, 1.0)


def test_one_token_that_carries_a_sequence_is_flagged():
    """‖a‖₂ / ‖a‖₁ > 2/3: 0.71 for two equal tokens, 0.58 for three."""
    assert spurious(np.array([0.0, 5.0, 0.0]))
    assert spurious(np.array([-5.0, 0.5, 0.5]))
    assert spurious(np.array([1.0, -1.0]))
    assert not spurious(np.array([1.0, 1.0, -1.0]))
    assert not spurious(np.zeros(3))


def test_both_ends_of_a_ranking_merge_in_any_order():
    """Stretches in any order give the ends of the whole; ties go to the lower number."""
    scores = np.random.default_rng(0).integers(-5, 6, 40).astype(float)
    whole = TopK.of(scores, 6)
    stretches = [TopK.of(scores[start : start + 7], 6, start) for start in range(0, 40, 7)]
    for order in (stretches, stretches[::-1], stretches[3:] + stretches[:3]):
        merged = order[0]
        for part in order[1:]:
            merged = merged.merge(part)
        assert merged.highest.tolist() == whole.highest.tolist() == np.lexsort((np.arange(40), -scores))[:6].tolist()
        assert merged.lowest.tolist() == whole.lowest.tolist() == np.lexsort((np.arange(40), scores))[:6].tolist()
