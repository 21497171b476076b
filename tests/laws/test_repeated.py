"""A layer called several times in one pass: its gradient, curvature, scores and solves are those of all its calls."""

from __future__ import annotations

import pytest
import torch
from tests.cases import lm
from tests.laws.test_verified import Odd, twice
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.testing import assert_close

import whence as wh
from whence.capture import LayerTrace, capture
from whence.curvature.moments import Moments
from whence.errors import LayerError
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse, refined_queries
from whence.jobs.score import score
from whence.jobs.valuation.values import validation_queries
from whence.layers.select import track
from whence.testing import toys


class Loop(nn.Module):
    """One layer three times, as a weight-tied or recurrent net has it."""

    def __init__(self):
        super().__init__()
        self.turn, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.turn(x))
        return self.out(x)


class Shrinking(nn.Module):
    """A convolution whose calls have fewer and fewer locations."""

    def __init__(self):
        super().__init__()
        self.turn, self.out = nn.Conv1d(2, 2, 3, stride=2, padding=1), nn.Linear(2, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.turn(torch.tanh(self.turn(x)))).mean(-1))


@pytest.fixture(params=[(Loop, (4,)), (Shrinking, (2, 9))], ids=["linear", "convolution"])
def problem(request):
    """A net, data, and another two examples to ask about, in float64."""
    make, shape = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().double().eval()
        x, labels = torch.randn(22, *shape, dtype=torch.float64), torch.randint(0, 3, (22,))
    return net, (x[:20], labels[:20]), (x[20:], labels[20:])


def flat_jacobians(net, x, labels):
    """By torch.func alone: ∂h/∂θ ``[n c p]``, ∇L ``[n p]`` and the names of the parameters, in their order."""
    held = {name: p.detach() for name, p in net.named_parameters()}
    said = lambda p, one: functional_call(net, p, (one[None],))[0]  # noqa: E731
    loss = lambda p, one, label: nn.functional.cross_entropy(said(p, one)[None], label[None])  # noqa: E731
    jacobians = vmap(jacrev(said), (None, 0))(held, x)
    grads = vmap(grad(loss), (None, 0, 0))(held, x, labels)
    flat = torch.cat([jacobians[name].flatten(2) for name in held], 2)
    return flat, torch.cat([grads[name].flatten(1) for name in held], 1), list(held)


def test_an_exact_solve_is_the_dense_one(problem):
    net, (x, labels), asked = problem
    task, data = wh.Classification(), wh.TensorData(x, labels)
    curvature = wh.fit(net, data, task=task, layers="all", damping=0.3, labels="expected")
    jacobians, grads, names = flat_jacobians(net, x, labels)
    p = net(x).detach().softmax(1)
    matrix = torch.einsum("ncp,ncd,ndq->pq", jacobians, torch.diag_embed(p) - p[:, :, None] * p[:, None], jacobians)
    held = dict(net.named_parameters())
    damping = torch.cat([torch.full((held[name].numel(),), curvature.dampings[name.split(".")[0]]) for name in names])
    inverse = torch.linalg.inv(matrix / len(x) + torch.diag(damping.double()))
    of_asked = flat_jacobians(net, *asked)[1]
    parts = validation_queries(wh.TensorData(*asked), each=True)

    solver = make_inverse("exact", curvature, net, task=task, data=data)
    solved, _ = refined_queries(solver, curvature, net, parts, task=task, rank="full")
    assert_close(score(curvature, solved, data, model=net, task=task).total, of_asked @ inverse @ grads.T)

    plain = wh.fit(net, data, task=task, layers="all", curvature="identity")
    dots = score(plain, query_gradients(plain, net, parts, task=task, rank="full"), data, model=net, task=task).total
    assert_close(dots, of_asked @ grads.T)


def test_scores_by_token_add_up_over_calls():
    model, case = Odd(twice), lm()
    data = toys.TinyData(case.examples, batch_size=3, padding=1)
    curvature = fit(model, data, task=case.task, layers=["extra", "head"], curvature="ekfac", labels="true")
    batch = toys.collate(case.examples[:2])
    asked = wh.QueryBatch(batch, torch.tensor([0, 1]), torch.ones(2, dtype=torch.float64))
    for rank in ("full", 2):
        queries = query_gradients(curvature, model, [asked], task=case.task, rank=rank)
        found = score(curvature, queries, data, model=model, task=case.task, by_token=True)
        for sequence, parts in found.by_token.items():
            assert parts.shape[1] == int(case.examples[sequence].real.sum())
            assert_close(parts.sum(1), found.total[:, sequence], check_dtype=False)


def test_positions_of_every_call_are_counted():
    model, case = Odd(twice), lm()
    batch = toys.collate(case.examples, padding=2)
    layers = track(model, ["extra"]).layers
    moments = Moments({layer.name: layer for layer in layers}, 1, torch.float64, torch.device("cpu"))
    moments.begin(batch, 0)

    with capture(model, layers, batch.real, moments.update):
        case.task.loss(model, batch).sum().backward()

    assert int(moments.sums["positions.extra"]) == 2 * int(batch.real.sum())


def test_a_call_that_nothing_uses_is_refused_by_name():
    model, case, seen = Odd(lambda model, x: (model.extra(x), model.extra(2 * x))[0]), lm(), []
    batch = toys.collate(case.examples)

    with pytest.raises(LayerError, match="extra was called 2 times before one backward, which reached 1"):
        with capture(model, track(model, ["extra"]).layers, batch.real, seen.append):
            case.task.loss(model, batch).sum().backward()
    assert seen == []


def test_calls_of_other_lengths_have_no_place_by_token():
    trace = LayerTrace("turn", None, torch.zeros(1, 5, 2), calls=(3, 2))
    with pytest.raises(LayerError, match="turn is called with 3, 2 positions in one pass"):
        trace.folded(torch.zeros(1, 1, 5))
