"""Suspicion of every training label by self-influence, loss, margin and cleanlab, from the same models.

    in sample     one net, trained on every label, is asked about each of them
    out of fold   five nets, each trained without a fifth of the data, are asked about that fifth: as cleanlab
                  wants its probabilities to be made; the curvature of each is fitted on its own training part

Relative self-influence is the self-influence at the given label over that at the most probable other one, in log: what
an example's own leverage does to both cancels. Flips are random, and every method sees the same models, the same
probabilities and the same flips.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.mislabelled.sets import Flippable
from whence.curvature import Curvature
from whence.data import TensorData
from whence.evaluate.examples import collect
from whence.evaluate.mislabelled import Found, found
from whence.evaluate.training import train
from whence.jobs.fit import fit
from whence.jobs.score import self_influence
from whence.tasks import Classification

TASK = Classification()
FOLDS = 5
DAMPING = 0.1
DAMPINGS = (0.01, 0.1, 1.0, 10.0, 100.0)


def trained(problem: Flippable, data: TensorData, weights: Tensor, seed: int = 0) -> list[nn.Module]:
    """A net for each row of weights; all start alike."""
    model = problem.make()
    stack = train(model, TASK, collect(data), problem.recipe, weights, seed=seed)
    nets = []
    for member in range(len(weights)):
        net = problem.make()
        net.load_state_dict({name: tensor[member] for name, tensor in stack.items()})
        nets.append(net.eval())
    return nets


def accuracy(net: nn.Module, data: TensorData) -> float:
    """Share of labels that the net thinks most likely."""
    with torch.no_grad():
        return float((net(data.inputs).argmax(1) == data.targets).double().mean())


def folds(count: int, seed: int = 0) -> list[Tensor]:
    """Rows of each fold, at random."""
    return list(torch.randperm(count, generator=torch.Generator().manual_seed(seed)).chunk(FOLDS))


def out_of_fold(problem: Flippable, data: TensorData) -> dict[str, np.ndarray]:
    """Suspicions of each example from the net that did not see it; and its probabilities there."""
    parts = folds(data.sequences)
    weights = torch.ones(FOLDS, data.sequences, dtype=torch.float64)
    for row, held in enumerate(parts):
        weights[row, held] = 0
    every: dict[str, np.ndarray] = {}
    for net, held, kept in zip(trained(problem, data, weights), parts, weights > 0, strict=True):
        seen = TensorData(data.inputs[kept], data.targets[kept], batch_size=512)
        asked = TensorData(data.inputs[held], data.targets[held], batch_size=512)
        for name, values in suspicions(net, seen, asked).items():
            whole = every.setdefault(name, np.zeros((data.sequences, *values.shape[1:])))
            whole[held.numpy()] = values
    return every


def suspicions(net: nn.Module, seen: TensorData, asked: TensorData) -> dict[str, np.ndarray]:
    """Of the labels of ``asked``, by a net trained on ``seen``: higher is more suspect; and the probabilities."""
    curvature = fit(net, seen, task=TASK, layers="all", damping=DAMPING)
    with torch.no_grad():
        logits = net(asked.inputs).double()
    label = asked.targets[:, None]
    log_p = logits.log_softmax(1)
    margin = logits.gather(1, label) - logits.scatter(1, label, -torch.inf).amax(1, keepdim=True)
    other = logits.scatter(1, label, -torch.inf).argmax(1)
    own, theirs = (_own(curvature, net, asked.inputs, labels) for labels in (asked.targets, other))
    return {
        "self_influence": own,
        "relative_self_influence": np.log(own) - np.log(theirs),
        "loss": -log_p.gather(1, label)[:, 0].numpy(),
        "margin": -margin[:, 0].numpy(),
        "probabilities": log_p.exp().numpy(),
    }


def _own(curvature: Curvature, net: nn.Module, inputs: Tensor, labels: Tensor) -> np.ndarray:
    found = self_influence(curvature, TensorData(inputs, labels, batch_size=512), model=net, task=TASK)
    assert found is not None
    return found.double().numpy()


def by_damping(net: nn.Module, data: TensorData, flipped: Tensor) -> dict[str, float]:
    """ROC-AUC of self-influence at several dampings, relative to the mean eigenvalue."""
    curvature = fit(net, data, task=TASK, layers="all")
    return {
        f"{lam:g}": round(
            found(_own(curvature.with_damping(lam), net, data.inputs, data.targets), flipped.numpy()).auc, 4
        )
        for lam in DAMPINGS
    }


def judged(every: dict[str, np.ndarray], labels: Tensor, flipped: Tensor, python: str) -> dict[str, Found | None]:
    """ROC-AUC and precision of every suspicion, cleanlab's among them where ``python`` has it."""
    suspects = {name: values for name, values in every.items() if name != "probabilities"}
    theirs = cleanlab(every["probabilities"], labels, python)
    results: dict[str, Found | None] = {name: found(v, flipped.numpy()) for name, v in suspects.items()}
    for name in ("cleanlab", "cleanlab_adjusted"):
        results[name] = None if theirs is None else found(theirs[name], flipped.numpy())
    return results


def cleanlab(probabilities: np.ndarray, labels: Tensor, python: str) -> dict[str, np.ndarray] | None:
    """Minus cleanlab's label quality, computed in the Python that has it; None where it has not."""
    if subprocess.run([python, "-c", "import cleanlab"], capture_output=True, check=False).returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, labels=labels.numpy(), probabilities=probabilities / probabilities.sum(1, keepdims=True))
        subprocess.run([python, str(Path(__file__).with_name("peer.py")), str(given), str(made)], check=True)
        quality = np.load(made)
        return {"cleanlab": -quality["self_confidence"], "cleanlab_adjusted": -quality["adjusted"]}


def as_json(results: dict[str, Found | None]) -> dict[str, Any]:
    """``{"auc": {method: …}, "precision_at_10": {method: …}}``."""
    return {
        "auc": {name: None if one is None else round(one.auc, 4) for name, one in results.items()},
        "precision_at_10": {name: None if one is None else round(one.precision, 4) for name, one in results.items()},
    }


DEFAULT_PYTHON = sys.executable
