"""Counterfactual attributions: exact derivatives, checked against finite differences and the raw score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from whence.errors import InvalidSetting, ModelError
from whence.influence.attribution import ATTRIBUTIONS, along, input_tokens, output_tokens
from whence.layers.select import track
from whence.testing import dense, differences, tiny, toys

KINDS = {
    "linear": {"bias": True},
    "without bias": {"bias": False},
    "conv1d": {"fused": True},
}


def direction_for(tracked, scale=0.3, seed=1) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        one.name: scale * torch.randn(one.outputs, one.inputs, generator=draw, dtype=torch.float64)
        for one in tracked.layers
    }


@pytest.fixture(params=KINDS)
def subject(request):
    model = tiny.language_model(**KINDS[request.param])
    tracked = track(model)
    return model, tracked, direction_for(tracked), toys.sequences(4)


def test_output_tokens_are_the_finite_differences_of_each_log_probability(subject):
    model, tracked, direction, examples = subject
    oracle = dense.Oracle(model, [one.name for one in tracked.layers], examples)
    for example in examples:
        found = output_tokens(model, example, direction, tracked.layers)
        assert_close(found[0], differences.output_tokens(oracle, example, direction), rtol=1e-6, atol=1e-7)


def test_output_tokens_add_up_to_the_raw_score(subject):
    """Σ_t = pᵀ∇log p(z) = −∇fᵀ(G + λI)⁻¹∇L(z), the sign of everything else."""
    model, tracked, _, examples = subject
    names = [one.name for one in tracked.layers]
    oracle = dense.Oracle(model, names, examples, labels=None)
    losses = oracle.gradients()
    query = {
        name: -gradient[:1] for name, gradient in oracle.gradients([toys.sequence([3, 1, 4, 1], prompt=2)]).items()
    }
    identity = {name: torch.eye(losses[name][0].numel(), dtype=torch.float64) for name in names}
    expected = dense.scores(identity, query, losses).sum(0)[0]
    solved = dense.solved(identity, query)

    batch = toys.collate(examples)
    found = output_tokens(model, batch, {name: one[0] for name, one in solved.items()}, tracked.layers)

    assert_close(found.sum(1), expected)
    assert (found[~batch.scored] == 0).all()


def test_input_tokens_are_the_finite_differences_in_each_embeddings_scale(subject):
    model, tracked, direction, examples = subject
    oracle = dense.Oracle(model, [one.name for one in tracked.layers], examples)
    for example in examples:
        found = input_tokens(model, example, direction, tracked.layers)
        assert_close(found[0], differences.input_tokens(oracle, example, direction), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("view", [output_tokens, input_tokens])
def test_batch_mates_and_padding_change_nothing(subject, view):
    model, tracked, direction, examples = subject
    together = view(model, toys.collate(examples, padding=2, fill=5), direction, tracked.layers)
    for row, example in zip(together, examples, strict=True):
        alone = view(model, example, direction, tracked.layers)[0]
        assert_close(row[: len(alone)], alone)
        assert (row[len(alone) :] == 0).all()


def test_a_large_batch_is_taken_a_few_rows_at_a_time(subject, monkeypatch):
    model, tracked, direction, examples = subject
    batch = toys.collate(examples)
    whole = [view(model, batch, direction, tracked.layers) for view in (output_tokens, input_tokens)]
    monkeypatch.setattr(along, "POSITIONS", batch.real.shape[1] * 2 + 1)
    for view, expected in zip((output_tokens, input_tokens), whole, strict=True):
        assert_close(view(model, batch, direction, tracked.layers), expected)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_hugging_face_architectures(name):
    """Tied or not, fused or not: autograd of the summed log-probability along p, and differences in the scale."""
    model = tiny.huggingface(name)
    tracked = track(model)
    direction = direction_for(tracked, scale=0.1)
    example = toys.sequence([3, 1, 4, 1, 5, 9, 2], prompt=3)
    oracle = dense.Oracle(model, [one.name for one in tracked.layers], [example])

    found = output_tokens(model, example, direction, tracked.layers)
    gradients = oracle.gradients()
    expected = -sum((gradients[layer][0] * direction[layer]).sum() for layer in direction)
    assert_close(found.sum(), expected, rtol=1e-5, atol=1e-6)

    # In float64 the embedding's scale, by differences of the same total.
    def total(position: int, factor: float) -> Tensor:
        with differences.scaled(model, position, factor):
            return output_tokens(model, example, direction, tracked.layers).sum()

    steps = [(total(t, 1 + 1e-3) - total(t, 1 - 1e-3)) / 2e-3 for t in range(example.inputs.shape[1])]
    by_input = input_tokens(model, example, direction, tracked.layers)[0]
    # Norms and softmax inside these models round to float32, which a difference magnifies by 1e3.
    assert_close(by_input, torch.stack(steps), rtol=5e-3, atol=2e-3)


def test_fused_attention_kernels_give_the_same():
    eager, fused = tiny.huggingface("llama"), tiny.huggingface("llama")
    fused.set_attn_implementation("sdpa")
    example = toys.sequence([3, 1, 4, 1, 5, 9, 2])
    direction = direction_for(track(eager), scale=0.1)
    for view in (output_tokens, input_tokens):
        assert_close(
            view(fused, example, direction, track(fused).layers),
            view(eager, example, direction, track(eager).layers),
            rtol=1e-4,
            atol=1e-5,
        )


def test_the_model_is_left_as_it_was(subject):
    model, tracked, direction, examples = subject
    model.requires_grad_(False)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    for view in (output_tokens, input_tokens):
        assert not view(model, examples[0], direction, tracked.layers).requires_grad
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not any(one.requires_grad or one.grad is not None for one in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        assert model(examples[0].inputs).logits.dtype == torch.float64


def test_layers_without_a_direction_stay_where_they_are(subject):
    model, tracked, direction, examples = subject
    one = next(iter(direction))
    only = {one: direction[one]}
    zeros = {name: matrix * (name == one) for name, matrix in direction.items()}
    for view in (output_tokens, input_tokens):
        assert_close(view(model, examples[0], only, tracked.layers), view(model, examples[0], zeros, tracked.layers))
        assert (view(model, examples[0], {}, tracked.layers) == 0).all()


def test_a_direction_of_another_layer_or_shape_is_refused(subject):
    model, tracked, direction, examples = subject
    first = next(iter(direction))
    with pytest.raises(InvalidSetting, match="not tracked: elsewhere"):
        output_tokens(model, examples[0], {"elsewhere": direction[first]}, tracked.layers)
    with pytest.raises(InvalidSetting, match=first):
        input_tokens(model, examples[0], {first: direction[first][:, 1:]}, tracked.layers)


def test_an_embedding_that_cannot_be_told_is_refused():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny.language_model()
            self.get_output_embeddings = self.inner.get_output_embeddings

        def forward(self, ids):
            return self.inner(ids).logits

    model = Silent()
    tracked = track(model)
    with pytest.raises(ModelError, match="2 embedding tables"):
        input_tokens(model, toys.sequences(1)[0], direction_for(tracked), tracked.layers)
    assert output_tokens(model, toys.sequences(1)[0], direction_for(tracked), tracked.layers).any()


def test_half_precision_runs_and_agrees_roughly():
    model = tiny.language_model()
    tracked = track(model)
    direction, example = direction_for(tracked, scale=0.1), toys.sequences(1)[0]
    exact = output_tokens(model, example, direction, tracked.layers)
    half = output_tokens(model.bfloat16(), example, direction, tracked.layers)
    assert half.dtype == torch.float32
    assert_close(half.double(), exact, rtol=0.3, atol=0.1)


def test_the_table_lists_both():
    assert {"output_tokens", "input_tokens"} <= ATTRIBUTIONS.keys()
