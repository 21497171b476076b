"""Labels as a function of their key: uniform numbers from a hash, labels by inversion."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from whence.tasks.sampling import draw, uniforms


def grid(documents=64, positions=64, seed=0, sample=0):
    """Numbers for every (document, position), ``[d p]``."""
    document = torch.arange(documents)[:, None].expand(-1, positions)
    return uniforms(seed, sample, document, torch.arange(positions).expand(documents, -1))


def test_numbers_are_uniform():
    """Kolmogorov–Smirnov at 1 %, and every number strictly inside (0, 1)."""
    numbers = grid().flatten().sort().values
    steps = torch.arange(1, len(numbers) + 1, dtype=torch.float64) / len(numbers)
    assert numbers[0] > 0
    assert numbers[-1] < 1
    assert (numbers - steps).abs().max() < 1.63 / len(numbers) ** 0.5


def test_neighbouring_keys_are_unrelated():
    """Along documents, positions, samples and seeds: correlations within four standard errors of zero."""
    base = grid() - 0.5
    others = [grid(seed=1), grid(sample=1), grid(65)[1:], grid(64, 65)[:, 1:], grid().T]
    off = ~torch.eye(64, dtype=torch.bool)  # where document and position can be told apart
    for other in others:
        correlation = ((base * (other - 0.5))[off]).mean() * 12
        assert abs(correlation) < 4 / off.sum() ** 0.5


@given(
    key=st.tuples(st.integers(0, 2**62), st.integers(0, 1000), st.integers(0, 2**40), st.integers(0, 2**31)),
    mates=st.lists(st.integers(0, 2**40), max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_a_number_depends_on_its_key_alone(key, mates):
    seed, sample, document, position = key
    alone = uniforms(seed, sample, torch.tensor([document]), torch.tensor([position]))
    documents = torch.tensor([*mates, document])
    assert torch.equal(uniforms(seed, sample, documents, torch.full_like(documents, position))[-1:], alone)
    assert torch.equal(uniforms(seed, sample, torch.tensor([[document]]), torch.tensor([[position]]))[0], alone)


@given(seed=st.integers(0, 2**16), vocabulary=st.sampled_from([1, 2, 63, 64, 65, 130, 1000]))
@settings(max_examples=30, deadline=None)
def test_labels_are_the_inverse_of_the_distribution(seed, vocabulary):
    """The first label whose cumulative probability exceeds the number, at a vocabulary of any number of blocks."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(40, vocabulary, generator=generator) * 3
    numbers = torch.rand(40, generator=generator, dtype=torch.float64)

    labels = draw(logits, numbers)

    ends = logits.double().softmax(-1).cumsum(-1)
    ends[:, -1] = 1.0
    row = torch.arange(40)
    assert (numbers < ends[row, labels] + 1e-6).all()
    assert (torch.where(labels > 0, ends[row, labels - 1], 0.0) < numbers + 1e-6).all()


def test_a_label_without_probability_is_never_drawn():
    logits = torch.full((1000, 70), -torch.inf)
    logits[:, 3] = logits[:, 66] = 0.0
    labels = draw(logits, torch.linspace(1e-12, 1 - 1e-12, 1000, dtype=torch.float64))
    assert labels.unique().tolist() == [3, 66]
    assert_close((labels == 3).double().mean(), torch.tensor(0.5, dtype=torch.float64), atol=0.002, rtol=0)


def test_labels_hardly_depend_on_the_dtype_of_the_logits():
    """The same number falls on the same label but at the edge of two."""
    logits = torch.randn(2000, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers = torch.rand(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    same = draw(logits, numbers) == draw(logits.float(), numbers)
    assert same.double().mean() > 0.999
