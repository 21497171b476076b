"""LDS where influence is exact: general ridge regression, from fit to score by the tool's own EK-FAC.

With one output the Gauss-Newton matrix is E[x xᵀ], which EK-FAC with expected labels has to the last digit; weight
decay is its damping. What then keeps LDS below one is that a subset has a curvature of its own, and it goes to one
with the share that is removed.
"""

import pytest
import torch
from torch import nn

from whence.data.tensors import TensorData
from whence.evaluate.examples import collect
from whence.evaluate.lds import lds
from whence.evaluate.models import as_queries
from whence.evaluate.retrain import Bank, predicted
from whence.evaluate.statistics import spearman
from whence.evaluate.training import Recipe
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.score import score
from whence.tasks import Regression

RIDGE, N = 0.1, 200
RECIPE = Recipe(optimiser="sgd", learning_rate=0.5, weight_decay=RIDGE, epochs=60, batch_size=N)


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def ridge():
    """A ridge regression at its minimum, four queries whose f is all but linear, and scores."""
    x = normal(N, 3, seed=0) * torch.tensor([1.5, 1.0, 0.4]).double() + torch.tensor([0.0, 0.5, 0.0])
    y = x @ torch.tensor([[1.0], [-0.5], [2.0]]).double() + normal(N, 1, seed=1)
    model = nn.Sequential(nn.Linear(3, 1, bias=False)).double()
    exact = torch.linalg.solve(x.T @ x / N + RIDGE * torch.eye(3).double(), x.T @ y / N)
    model[0].weight.data.copy_(exact.T)
    data = TensorData(x, y)
    queries = [as_queries(collect(TensorData(normal(4, 3, seed=2), torch.full((4, 1), 50.0, dtype=torch.float64))))]
    curvature = fit(model, data, task=Regression(), labels="expected", damping=f"abs:{RIDGE}")
    asked = query_gradients(curvature, model, queries, task=Regression(), rank="full")
    scores = score(curvature, asked, data, model=model, task=Regression()).total
    return Bank(model, Regression(), collect(data), RECIPE), queries, scores


def test_lds_on_general_ridge_goes_to_one_with_the_share_removed(ridge):
    bank, queries, scores = ridge

    short = [
        1 - lds({"ekfac": scores}, bank, queries, count=12, fraction=kept).means["ekfac"].value for kept in (0.5, 0.98)
    ]

    assert short[0] > short[1]
    assert short[1] < 0.002


def test_lds_is_one_for_the_models_that_the_scores_speak_of(ridge):
    """Weights so near to one that curvature stays where it is: each model is the linear one, and so is its rank."""
    bank, queries, scores = ridge
    weights = 1 + 1e-4 * normal(12, N, seed=3)

    change = bank.change(weights, queries)

    torch.testing.assert_close(predicted(scores, weights), change, rtol=2e-3, atol=1e-7)
    assert spearman(predicted(scores, weights).T.numpy(), change.T.numpy()) == pytest.approx([1.0] * 4)
