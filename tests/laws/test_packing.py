"""Documents that share a row of the model: kept apart, no number changes; run together, parts add up to the windows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from whence.data.documents import Document
from whence.data.queries import QueryBatch
from whence.data.store import TokenStore
from whence.data.tokens import Tokens
from whence.errors import ModelError
from whence.jobs.documents import document_self_influence
from whence.jobs.explain import explain, full_rank_query, rescore
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.score import score, self_influence
from whence.tasks import CausalLM
from whence.testing import tiny, toys

LENGTHS = (9, 2, 5, 11, 3, 7, 1, 4, 10, 6)
CONTEXT = 8
ASKED = [QueryBatch(toys.sequence([1, 2, 3, 4]), torch.tensor([0]), torch.ones(1))]
TASK = CausalLM()


def store_of(folder, pack: str) -> TokenStore:
    """Ten documents, three of them longer than the context, one of them too short to score."""
    draw = torch.Generator().manual_seed(0)
    documents = []
    for number, length in enumerate(LENGTHS):
        ids = torch.randint(11, (length,), generator=draw).tolist()
        scored = [number % 3 > 0 or place > length // 2 for place in range(length)]
        documents.append(Document("made", number, tokens=Tokens(ids, scored)))
    return TokenStore.write(folder, documents, object(), context=CONTEXT, batch_tokens=40, units=3, pack=pack)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return {pack: store_of(folder / pack, pack) for pack in ("none", "segments", "windows")}


def sliding(kernel: str):
    """A model some of whose attention sees three tokens back, through one of the kernels."""
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(**sizes, num_key_value_heads=1, vocab_size=11, max_position_embeddings=32, sliding_window=3)
    config._attn_implementation = kernel
    return tiny.seeded(lambda: MistralForCausalLM(config), 0, scale=0.4)


MODELS = {
    **{name: lambda name=name: tiny.huggingface(name) for name in ("llama", "gpt2", "qwen3", "gemma", "gpt_neox")},
    "sliding windows": lambda: sliding("eager"),
    "sdpa": lambda: sliding("sdpa"),
}


def agree(found, expected, size=None):
    """To 1e-5 of the largest: transformers' norms, rotations and softmaxes are in float32 whatever the weights."""
    assert_close(found, expected, rtol=0, atol=1e-5 * (float(expected.abs().max()) if size is None else size))


@pytest.mark.parametrize("name", MODELS)
def test_of_documents_kept_apart_every_number_is_that_of_documents_alone(name, stores):
    """Curvature, scores by layer and token, self-influence: of a document, not of the row that it lies in."""
    model = MODELS[name]()
    found = {}
    for pack in ("none", "segments"):
        store = stores[pack]
        curvature = fit(model, store.trained, task=TASK, samples=2)
        queries = query_gradients(curvature, model, ASKED, task=TASK, rank=None)
        options = {"model": model, "task": TASK}
        scores = score(curvature, queries, store, by_layer=True, by_token=True, **options)
        own = document_self_influence(curvature, store, **options)
        found[pack] = curvature, scores, own, self_influence(curvature, store, **options)
    (curvature, alone, own, each), (packed, shared, owned, several) = found["none"], found["segments"]
    for layer, block in curvature.blocks.items():
        agree(packed.blocks[layer].eigenvalues.sort().values, block.eigenvalues.sort().values)
    agree(shared.total, alone.total)
    agree(shared.by_layer, alone.by_layer)
    agree(several, each)
    agree(owned, own)
    for sequence, parts in alone.by_token.items():
        agree(shared.by_token[sequence], parts, size=float(alone.total.abs().max()))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_is_shown_of_a_document_is_what_it_is_alone(name, stores):
    """The three attributions, and scores at full rank."""
    model = MODELS[name]()
    curvature = fit(model, stores["none"], task=TASK)
    query = full_rank_query(curvature, model, ASKED, TASK)
    chosen = [0, 2, 3, 5]
    alone, shared = (explain(curvature, model, query, stores[pack], chosen, TASK) for pack in ("none", "segments"))
    again = rescore(curvature, model, query, stores["segments"], chosen, TASK)
    for one, other in zip(alone, shared, strict=True):
        assert one.tokens == other.tokens
        assert one.scored == other.scored
        assert one.windows == other.windows
        size = abs(one.by_layer_token).sum()
        assert again[one.document] == pytest.approx(one.raw, abs=1e-5 * size)
        for part in ("by_layer_token", "output_tokens", "input_tokens"):
            assert abs(getattr(one, part) - getattr(other, part)).max() < 1e-5 * size, part


def test_rows_are_shared_in_these_tests(stores):
    batches = [batch for unit in stores["segments"].units for batch in stores["segments"].batches(unit.number)]
    assert any(len(batch.layout.inputs) < len(batch) for batch in batches)
    assert any(len(batch.layout.inputs) > 1 for batch in batches)


class Deaf(nn.Module):
    """Takes positions and does not listen."""

    def __init__(self):
        super().__init__()
        self.inner = tiny.language_model(vocab=11)
        self.config = SimpleNamespace(_attn_implementation="eager")

    def forward(self, input_ids, position_ids=None, use_cache=None):
        return self.inner(input_ids)


def flash():
    model = tiny.huggingface("llama")
    model.config._attn_implementation = "flash_attention_2"
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Deaf, "does not keep documents of one row apart"),
        (lambda: tiny.language_model(vocab=11), "is no model of transformers"),
        (flash, "kernel flash_attention_2 does not keep documents of one row apart"),
    ],
)
def test_a_model_that_cannot_keep_documents_apart_is_refused_before_anything(make, says, stores, tmp_path):
    model = make().double()
    with pytest.raises(ModelError, match=says):
        fit(model, stores["segments"], task=TASK, folder=tmp_path / "fit")
    assert not (tmp_path / "fit").exists()


# --- windows -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windowed(stores):
    """A model, its curvature over whole windows, and one question's scores of the parts and of the windows."""
    model = tiny.language_model(vocab=11)
    store = stores["windows"]
    curvature = fit(model, store.trained, task=TASK)
    queries = query_gradients(curvature, model, ASKED, task=TASK, rank=None)
    parts, whole = (
        score(curvature, queries, data, model=model, task=TASK, by_token=True) for data in (store, store.trained)
    )
    return SimpleNamespace(model=model, store=store, curvature=curvature, queries=queries, parts=parts, whole=whole)


def test_the_curvature_of_windows_is_that_of_plain_sequences(windowed):
    """Squared per window: a window is what was trained on as one."""
    rows, windows = [], windowed.store.trained
    for number, (batch,) in enumerate([list(windows.gather([n])) for n in range(windows.sequences)]):
        rows.append(toys.sequence(batch.inputs[0].tolist(), number=number, document=number))
        rows[-1].scored[:] = batch.scored
        rows[-1].targets[:] = batch.targets
    plain = fit(windowed.model, toys.TinyData(rows, batch_size=3), task=TASK)
    gradients = {name: torch.randn(1, *block.shape, dtype=torch.float64) for name, block in plain.blocks.items()}
    for name, solved in windowed.curvature.solve(gradients).items():
        expected = plain.solve(gradients)[name]
        assert_close(solved, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_the_scores_of_documents_add_up_to_those_of_the_windows(windowed):
    """And token by token: a position is credited to the document whose token it predicts."""
    starts = windowed.store.windows
    for window in range(len(starts) - 1):
        members = range(starts[window], starts[window + 1])
        assert_close(windowed.parts.total[:, list(members)].sum(1), windowed.whole.total[:, window])
        placed = torch.zeros_like(windowed.whole.by_token[window])
        at = 0
        for sequence in members:
            part = windowed.parts.by_token[sequence]
            placed[:, at : at + part.shape[1]] += part
            at += part.shape[1] - 1
        assert_close(placed, windowed.whole.by_token[window])


def test_a_document_s_self_influence_is_that_of_its_part_of_the_gradient(windowed):
    """So that no cosine exceeds one: |raw| ≤ √(self(query) · self(z))."""
    own = document_self_influence(windowed.curvature, windowed.store, model=windowed.model, task=TASK)
    raw = torch.zeros(len(LENGTHS), dtype=torch.float64)
    raw.index_add_(0, torch.from_numpy(windowed.store.document_of), windowed.parts.total[0])
    assert (raw.abs() <= (own * windowed.queries.self_influence[0]).sqrt() + 1e-12).all()
    alone = [n for n in range(len(LENGTHS)) if len(windowed.store.sequences_of(n)) == 1]
    each = self_influence(windowed.curvature, windowed.store, model=windowed.model, task=TASK)
    for document in alone:
        assert own[document] == pytest.approx(float(each[windowed.store.sequences_of(document)[0]]))
    assert 0 < len(alone) < len(LENGTHS)


def test_what_is_shown_of_a_document_in_windows_adds_up(windowed):
    query = full_rank_query(windowed.curvature, windowed.model, ASKED, TASK)
    chosen = [0, 3, 5]
    told = explain(windowed.curvature, windowed.model, query, windowed.store, chosen, TASK)
    again = rescore(windowed.curvature, windowed.model, query, windowed.store, chosen, TASK)
    for one in told:
        expected = windowed.parts.total[0, list(windowed.store.sequences_of(one.document))].sum()
        assert one.raw == pytest.approx(float(expected))
        assert again[one.document] == pytest.approx(float(expected))
        borrowed = windowed.store.piece(windowed.store.sequences_of(one.document)[0]).offset < 0
        assert len(one.tokens) == LENGTHS[one.document] + borrowed
        assert one.by_layer_token.shape[1] == len(one.tokens) == len(one.input_tokens)
