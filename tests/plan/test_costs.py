"""Counted operations are those that the passes do: the counter of PyTorch against the formulas, per pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from whence.capture.check import verified
from whence.curvature.block import Block
from whence.curvature.blockwise import Curvature
from whence.curvature.damping import Damping
from whence.curvature.moments import Moments
from whence.curvature.noise import ProbeScores
from whence.curvature.squares import Squares
from whence.influence.query import QueryGradients
from whence.influence.score import Scorer
from whence.influence.self_influence import SelfInfluence
from whence.jobs.plan import costs
from whence.jobs.plan.costs import Shape
from whence.jobs.stream import likelihood_pass
from whence.layers.select import track
from whence.tasks import CausalLM
from whence.testing import tiny, toys

MODELS = {
    "shared inputs": {"width": 12, "hidden": 80, "heads": 2},
    "bias and conv1d": {"fused": True, "width": 8, "hidden": 24},
    "wide": {"width": 96, "hidden": 20, "heads": 4, "bias": False},
}
LENGTHS = {"short": (5, 3), "long": (2, 30)}


CASES = [("shared inputs", "short"), ("shared inputs", "long"), ("bias and conv1d", "short"), ("wide", "long")]

IN_PLACE = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
"""PyTorch's counter knows ``addmm`` and not its in-place form."""


@pytest.fixture(params=CASES, ids=" ".join)
def case(request):
    name, length = request.param
    n, t = LENGTHS[length]
    model = tiny.language_model(**MODELS[name], context=64)
    batch = toys.collate([toys.sequence(torch.randint(7, (t,)).tolist(), number=k) for k in range(n)])
    tracked = verified(model, track(model), CausalLM(), batch)
    return model, tracked.layers, batch, Shape(n, t, n * (t - 1))


def counted(model, layers, batch, sink) -> int:
    """What a sink adds to a pass."""
    task = CausalLM()
    with FlopCounterMode(display=False) as bare:
        likelihood_pass(model, layers, task, batch, lambda trace: None)
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as whole:
        likelihood_pass(model, layers, task, batch, sink)
    return whole.get_total_flops() - bare.get_total_flops()


def curvature_of(layers) -> Curvature:
    """Of the right sizes: what is in it does not change what it costs."""
    shared = {layer.reads: torch.eye(layer.inputs, dtype=torch.float64) for layer in layers}
    blocks = {
        e.name: Block(
            torch.ones(e.outputs, e.inputs, dtype=torch.float64),
            torch.eye(e.outputs, dtype=torch.float64),
            shared[e.reads],
        )
        for e in layers
    }
    return Curvature("ekfac", blocks, {layer.name: layer.reads for layer in layers})


def queries_of(curvature, layers, count, rank):
    sink = QueryGradients(curvature, layers, count)
    sink.sums = {
        e.name: torch.randn(count, e.outputs, e.inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for e in layers
    }
    return sink.finish(torch.zeros(count), rank)


def test_moments(case):
    model, layers, batch, shape = case
    part = Moments({e.name: e for e in layers}, 1, torch.float64, torch.device("cpu"))
    part.begin(batch, 0)
    assert counted(model, layers, batch, part.update) == costs.moments(layers, shape)


def test_moments_of_several_label_samples_take_the_inputs_once(case):
    model, layers, batch, shape = case
    part = Moments({e.name: e for e in layers}, 3, torch.float64, torch.device("cpu"))
    total = 0
    for sample in range(3):
        part.begin(batch, sample)
        total += counted(model, layers, batch, part.update)
    assert total == costs.moments(layers, shape, samples=3)


def test_eigenvalues(case):
    model, layers, batch, shape = case
    part = Squares({e.name: e for e in layers}, curvature_of(layers).blocks, 1, torch.float64, torch.device("cpu"))
    part.begin(batch, 0)
    assert counted(model, layers, batch, part.update) == costs.rotated(layers, shape)


def test_the_diagonal_has_nothing_to_rotate(case):
    model, layers, batch, shape = case
    bases = {e.name: Block(torch.empty(0, 0)) for e in layers}
    part = Squares({e.name: e for e in layers}, bases, 1, torch.float64, torch.device("cpu"))
    part.begin(batch, 0)
    assert counted(model, layers, batch, part.update) == costs.rotated(layers, shape, basis=False)


def test_self_influence(case):
    model, layers, batch, shape = case
    sink = SelfInfluence(curvature_of(layers), layers)
    sink.begin(batch)
    assert counted(model, layers, batch, sink.update) == costs.rotated(layers, shape)


@pytest.mark.parametrize("rank", [None, 2, 40])
@pytest.mark.parametrize("queries", [1, 6])
@pytest.mark.parametrize("by_token", [False, True])
def test_scores(case, rank, queries, by_token):
    model, layers, batch, shape = case
    prepared = queries_of(curvature_of(layers), layers, queries, rank)
    scorer = Scorer(prepared, layers, by_token=by_token)
    scorer.begin(batch)
    scorer._keep = True
    counted(model, layers, batch, scorer.update)  # multiplies factors out, where it does, once
    scorer.begin(batch)
    expected = costs.scores(layers, shape, queries=queries, rank=rank, by_token=by_token)
    assert counted(model, layers, batch, scorer.update) == expected


@pytest.mark.parametrize("queries", [1, 6])
def test_low_rank_queries_are_multiplied_out_where_that_pays(case, queries):
    model, layers, batch, shape = case
    scorer = Scorer(queries_of(curvature_of(layers), layers, queries, 2), layers)
    both = []
    for _ in range(2):  # the second time, what was multiplied out is there
        scorer.begin(batch)
        both.append(counted(model, layers, batch, scorer.update))
    assert both[0] - both[1] == costs.multiplied_out(layers, shape.t, queries=queries, rank=2)


@pytest.mark.parametrize("basis", [True, False])
def test_the_look_at_sampling_noise(case, basis):
    model, layers, batch, shape = case
    blocks = curvature_of(layers).blocks
    if not basis:
        blocks = {name: Block(block.eigenvalues) for name, block in blocks.items()}
    sink = ProbeScores(blocks, blocks, Damping())
    for sink.asking in (True, False):
        likelihood_pass(model, layers, CausalLM(), batch, sink.update)
    with FlopCounterMode(display=False) as counter:
        sink.meet()
    assert counter.get_total_flops() == costs.probed(layers, 2 * shape.positions, shape.n**2, basis=basis)


@pytest.mark.parametrize("rank", [None, 3, 40])
def test_solving_and_cutting_queries(case, rank):
    _, layers, _, _ = case
    curvature = curvature_of(layers)
    with FlopCounterMode(display=False) as counter:
        queries_of(curvature, layers, 4, rank)
    assert counter.get_total_flops() == costs.solved(layers, queries=4, rank=rank)


def test_what_is_kept_has_the_counted_size(case):
    _, layers, _, _ = case
    curvature = curvature_of(layers)
    distinct = {
        id(b): b.numel() for block in curvature.blocks.values() for b in (block.output_basis, block.input_basis)
    }
    assert sum(distinct.values()) == costs.bases(layers)
    assert sum(block.eigenvalues.numel() for block in curvature.blocks.values()) == costs.weights(layers)
    low = queries_of(curvature, layers, 1, 3)
    held = sum(entry.left.numel() + entry.right.numel() for entry in low.prepared.values())
    assert held == costs.factors(layers, 3)


def test_sharing_an_input_saves_operations(case):
    _, layers, _, shape = case
    apart = [replace(layer, reads=layer.name, readers=1) for layer in layers]
    assert costs.moments(layers, shape) <= costs.moments(apart, shape)
    assert costs.rotated(layers, shape) <= costs.rotated(apart, shape)
