"""Two questions the figures raise: does EK-FAC do better on other nets, and does LiSSA lack depth or batch?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.accuracy.judge import Say
from bench.accuracy.methods import asked_of, fitted, queries_of, scored_by, solved_by
from bench.accuracy.tasks import PROBLEMS, Problem, mlp
from bench.accuracy.training import SGD, train
from bench.accuracy.wide import Wide
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import Lissa
from whence.errors import WhenceError
from whence.evaluate.statistics import pearson
from whence.evaluate.training import Recipe
from whence.solvers.spectrum import Rule
from whence.tasks import Regression

PLAIN = replace(SGD, momentum=0.0, schedule="constant", clip=None)
RECIPES: dict[str, tuple[Recipe, type[nn.Module]]] = {
    "as in the figures: momentum 0.9, rate 0.3, L2 1e-5, 60 epochs": (
        replace(SGD, learning_rate=0.3, weight_decay=1e-5),
        nn.Tanh,
    ),
    "the same, 10 epochs": (replace(SGD, learning_rate=0.3, weight_decay=1e-5, epochs=10), nn.Tanh),
    "plain SGD, batch 32, rate 0.03, L2 1e-5, 20 epochs": (
        replace(PLAIN, learning_rate=0.03, weight_decay=1e-5, epochs=20, batch_size=32),
        nn.Tanh,
    ),
    "plain SGD, rate 0.3, L2 1e-4, 200 epochs": (
        replace(PLAIN, learning_rate=0.3, weight_decay=1e-4, epochs=200),
        nn.Tanh,
    ),
    "momentum 0.9, rate 0.1, L2 1e-2, 60 epochs": (replace(SGD, learning_rate=0.1, weight_decay=1e-2), nn.Tanh),
    "momentum 0.9, rate 0.1, L2 1e-4, 60 epochs, ReLU": (replace(SGD, learning_rate=0.1, weight_decay=1e-4), nn.ReLU),
}
"""The third is the recipe of Kronfluence's regression example."""
DAMPINGS = ("0.1", "1", "10", "abs:1e-3", "abs:1e-2")


def recipes(shared: Path, say: Say) -> list[dict[str, Any]]:
    """Concrete trained in other ways: the ablation for each."""
    problem = PROBLEMS["concrete"](shared)
    valid = problem.test
    found = []
    for name, (recipe, activation) in RECIPES.items():
        say(f"concrete: {name}")
        width = problem.data.inputs.shape[1]
        trained = train(
            lambda width=width, activation=activation: mlp(width, 128, 1, activation),
            Regression(),
            problem.data,
            valid,
            recipe,
            rates=(recipe.learning_rate,),
            decays=(recipe.weight_decay,),
        )
        found.append({"recipe": name, **_ablated(replace(problem, trained=trained))})
    return found


def _ablated(problem: Problem) -> dict[str, Any]:
    asked = _asked(problem)
    queries, ekfac = queries_of(problem.test, asked), fitted(problem, "ekfac")
    means = {name: float(block.eigenvalues.double().mean()) for name, block in ekfac.blocks.items()}
    entry: dict[str, Any] = {
        "train_loss": problem.trained.train_loss,
        "valid_loss": problem.trained.valid_loss,
        "mean_eigenvalue": means["2"],
        "mean_eigenvalues": means,
        "block_diagonal": {},
        "ekfac": {},
    }
    for value in DAMPINGS:
        damped = ekfac.with_damping(value)
        wide = Wide.of(problem, ekfac, asked, unit=damped.dampings)
        exact = wide.scores(1.0)
        entry["block_diagonal"][value] = _mean(wide.block_scores(1.0), exact)
        entry["ekfac"][value] = _mean(scored_by(problem, damped, asked_of(problem, damped, queries)), exact)
    return entry


@dataclass(frozen=True)
class Wider(Lissa):
    """LiSSA with so many times the rule's batch."""

    times: int = 1

    @cached_property
    def rule(self) -> Rule:
        found = super().rule
        return replace(found, batch=min(self.operator.data.sequences, self.times * found.batch))


def lissa(shared: Path, say: Say) -> list[dict[str, Any]]:
    """Concrete and wine by batch and depth, at two dampings."""
    found = []
    for name in ("concrete", "wine"):
        problem = PROBLEMS[name](shared)
        asked = _asked(problem)
        ekfac = fitted(problem, "ekfac")
        wide, queries = Wide.of(problem, ekfac, asked), queries_of(problem.test, asked)
        for multiple in (0.1, 10.0):
            damped, exact = ekfac.with_damping(multiple), wide.scores(multiple)
            operator = GaussNewton(problem.model, damped.tracked(problem.model), problem.task, problem.data)
            for times, depth in ((1, 1), (8, 1), (1000, 1), (8, 5)):
                solver = Wider(damped, operator, depth=depth * problem.data.sequences, times=times)
                say(f"{name}: lissa at {multiple}, {solver.rule.batch} sequences a step, {solver.depth} steps")
                entry = {"task": name, "damping": multiple, "batch": solver.rule.batch, "depth": solver.depth}
                try:
                    one = solved_by(problem, solver, damped, queries)
                except WhenceError as error:
                    found.append(entry | {"refused": str(error)})
                    continue
                assert one.report is not None
                residual = one.report["residual"]["median"]
                pearson = _mean(one.scores, exact)
                found.append(entry | {"residual": residual, "pearson": pearson, "seconds": one.seconds})
    return found


def _asked(problem: Problem) -> list[int]:
    """The figures' queries."""
    draw = torch.Generator().manual_seed(1)
    torch.randperm(problem.data.sequences, generator=draw)
    return torch.randperm(problem.test.sequences, generator=draw)[: problem.queries].tolist()


def _mean(found: Tensor, truth: Tensor) -> float:
    return float(np.nanmean(pearson(found.numpy(), truth.numpy())))
