"""Where other software was wrong, continued: mistakes that are refused, told or ruled out rather than measured.

The list, and the mistakes that are planted, are in test_mistakes.
"""

from __future__ import annotations

import pytest
import torch
from tests.cases import lm, table
from torch import nn
from torch.testing import assert_close

from whence.capture.check import sensitivity
from whence.errors import InvalidSetting, NumericalError
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score
from whence.layers.select import track
from whence.testing import toys


def fitted(case, curvature="ekfac", **settings):
    data = toys.TinyData(case.examples, padding=2, fill=1)
    return fit(case.model, data, task=case.task, layers=case.layers, curvature=curvature, **settings)


class BatchMates(nn.Module):
    """A language model whose attention lets one sequence see into another, as a fused kernel's padding did."""

    def __init__(self, model, leak):
        super().__init__()
        self.model, self.leak = model, leak

    def forward(self, input_ids, **rest):
        def mix(module, args, output):
            return output + self.leak * output.mean(0, keepdim=True)

        handle = self.model.layers[0].attention.register_forward_hook(mix)
        try:
            return self.model(input_ids, **rest)
        finally:
            handle.remove()


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_gradients_that_depend_on_batch_mates_are_told(leak):
    """An attention that mixes the batch is found, with what mends it; a clean one is not accused."""
    case = lm()
    model = BatchMates(case.model, leak)
    tracked = track(model, "*.mlp.*")
    found = sensitivity(
        model, tracked, case.task, toys.collate(case.examples[:3]), lambda sequence: case.examples[sequence]
    )
    assert (found.advice is not None) == (leak > 0)
    if leak:
        assert found.batch_mates > 0.01
        assert "attention" in found.advice


def test_documents_in_one_batch_do_not_attend_to_each_other():
    """One document a sequence: another's text changes nothing of this one's numbers, to the last bit of rounding."""
    case = lm()
    other = toys.sequence([6, 6, 6, 6, 6], number=1)
    curvature = fitted(case)
    parts = [QueryBatch(case.examples[0], torch.tensor([0]), torch.ones(1))]
    queries = query_gradients(curvature, case.model, parts, task=case.task, rank=None)
    found = [
        score(curvature, queries, toys.TinyData(pair, cuts=()), model=case.model, task=case.task).total[0, 0]
        for pair in ([case.examples[0], case.examples[1]], [case.examples[0], other])
    ]
    assert_close(*found)


def test_a_nan_is_found_where_it_arises():
    """In the first unit that holds one, naming layer and document; not by the eigensolver an hour later."""
    case = table(4, 5, 3)
    broken = list(case.examples)
    broken[5] = toys.example(torch.full((4,), torch.nan, dtype=torch.float64), torch.tensor(1), number=5)
    with pytest.raises(NumericalError, match="sequence 5"):
        fit(case.model, toys.TinyData(broken), task=case.task, layers=case.layers)


@pytest.mark.parametrize("curvature", ["diagonal", "kfac", "ekfac"])
def test_an_infinite_gradient_of_a_finite_loss_is_found_where_it_arises(curvature):
    """√|x| at 0: the loss is a number, its gradient is not."""

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2, bias=False).double(), nn.Linear(2, 3).double()

        def forward(self, x):
            return self.second(self.first(x).abs().sqrt())

    rows = toys.rows(6, inputs=2)
    rows[4] = toys.example(torch.zeros(2, dtype=torch.float64), torch.tensor(0), number=4)
    with pytest.raises(NumericalError, match=r"first.*sequence 4"):
        fit(Root(), toys.TinyData(rows), task=table().task, layers="*", curvature=curvature)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"curvature": "kfca"}, "kfca"),
        ({"samples": 0}, "samples"),
        ({"samples": 2, "labels": "true"}, "samples"),
        ({"damping": 0.0}, "damping"),
        ({"damping": -1}, "damping"),
        ({"damping": "abs:0"}, "damping"),
        ({"damping": "much"}, "much"),
        ({"damping": float("nan")}, "damping"),
    ],
)
def test_what_cannot_be_honoured_is_refused(settings, named):
    """Never switched off with a warning."""
    with pytest.raises(InvalidSetting, match=named):
        fitted(lm(), **{"curvature": "kfac"} | settings)


@pytest.mark.parametrize("rank", [0, -3, "half", 2.5])
def test_a_rank_that_cannot_be_is_refused(rank):
    case = lm()
    parts = [QueryBatch(case.examples[0], torch.tensor([0]), torch.ones(1))]
    with pytest.raises(InvalidSetting, match="rank"):
        query_gradients(fitted(case, "kfac"), case.model, parts, task=case.task, rank=rank)


def test_experts_that_are_left_out_are_named():
    """Fused experts are one 3-D parameter, not a Linear: they are counted and called what they are."""

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up = nn.Parameter(torch.zeros(3, 4, 8))
            self.router = nn.Linear(4, 3)

    coverage = track(nn.ModuleDict({"layers": nn.ModuleList([Experts()])}), "all").coverage
    (row,) = (row for row in coverage.rows if row.parameters == 96)
    assert not row.tracked
    assert "expert" in row.kind
    assert "expert" in str(coverage)
    assert sum(row.parameters for row in coverage.rows) == 96 + 15
