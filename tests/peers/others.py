"""What other software computes for a `Case`, in its own units; `docs/conventions.md` says how to convert.

Imported only where the peer is: every function imports what it needs.
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections import UserDict
from dataclasses import replace
from typing import Any

import torch
from tests.peers.cases import Case
from torch import Tensor, nn

os.environ.setdefault("TQDM_DISABLE", "1")


def kronfluence(case: Case, strategy: str, damping: float | None, batch: int = 4) -> tuple[Tensor, Tensor]:
    """Pairwise scores ``[q n]`` (measurement: the query's loss) and self-influences ``[n]``."""
    from kronfluence.analyzer import prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
    from kronfluence.factor.eigen import fit_lambda_matrices_with_loader, perform_eigendecomposition
    from kronfluence.score.pairwise import compute_pairwise_scores_with_loaders
    from kronfluence.score.self import compute_self_scores_with_loaders
    from kronfluence.task import Task
    from kronfluence.utils.state import State
    from torch.utils.data import DataLoader, TensorDataset

    class Summed(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            return copied.losses(batch[0], None if case.text else batch[1]).sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return case.names

    def loader(inputs: Tensor, targets: Tensor | None) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*([inputs] if targets is None else [inputs, targets])), batch_size=batch)

    logging.disable(logging.INFO)
    task, state = Summed(), State(cpu=True)
    model = prepare_model(copy.deepcopy(case.model), task)
    copied = replace(case, model=model)
    dtype = next(case.model.parameters()).dtype
    wide = ("activation_covariance", "gradient_covariance", "per_sample_gradient", "lambda")
    factor_args = FactorArguments(strategy=strategy, use_empirical_fisher=True, **{f"{k}_dtype": dtype for k in wide})
    score_args = ScoreArguments(
        damping_factor=damping, **{f"{k}_dtype": dtype for k in ("per_sample_gradient", "precondition", "score")}
    )
    train = loader(case.inputs, case.targets)
    common = {"model": model, "state": state, "task": task, "factor_args": factor_args, "disable_tqdm": True}
    covariances = fit_covariance_matrices_with_loader(loader=train, **common)[1]
    factors = perform_eigendecomposition(covariances, model, state, factor_args, disable_tqdm=True)
    if strategy == "ekfac":
        factors |= fit_lambda_matrices_with_loader(loader=train, eigen_factors=factors, **common)[1]
    common |= {"loaded_factors": factors, "train_loader": train, "score_args": score_args, "tracked_module_names": None}
    queries = loader(case.queries, case.query_targets)
    scores = compute_pairwise_scores_with_loaders(query_loader=queries, per_device_query_batch_size=batch, **common)
    own = compute_self_scores_with_loaders(**common)
    return scores["all_modules"], own["all_modules"]


def curvlinops(case: Case, kind: str, damping: float, queries: dict[str, Tensor], reduction: str) -> dict[str, Tensor]:
    """(H + damping)⁻¹ of query gradients ``[q o i]``, layer by layer, bias as the last column."""
    from curvlinops import EKFACLinearOperator, KFACInverseLinearOperator, KFACLinearOperator

    class Logits(nn.Module):
        """Class axis second, as torch's cross-entropy wants; the last position predicts nothing and is left off."""

        def __init__(self) -> None:
            super().__init__()
            self.model = case.model

        def forward(self, inputs: Any) -> Tensor:
            if not case.text:
                return self.model(inputs)
            logits = self.model(inputs["tokens"]).logits[:, case.prompt - 1 : -1]
            return logits[:, 0] if terms == 1 else logits.mT

    terms = case.positions - case.prompt if case.text else 1
    labels = case.inputs[:, case.prompt :] if case.text else case.targets
    module = Logits()
    layers = [case.model.get_submodule(name) for name in case.names]
    sides = [[layer.weight] + ([] if layer.bias is None else [layer.bias]) for layer in layers]
    params = [one for side in sides for one in side]
    for one in module.parameters():
        one.requires_grad_(False)
    for one in params:
        one.requires_grad_(True)
    # A plain tensor would tell it the dtype of tokens, where it looks for that of the model.
    inputs = UserDict(tokens=case.inputs) if case.text else case.inputs
    data = [(inputs, labels[:, 0] if case.text and terms == 1 else labels)]
    operator = {"kfac": KFACLinearOperator, "ekfac": EKFACLinearOperator}[kind](
        module,
        nn.CrossEntropyLoss(reduction=reduction),
        params,
        data,
        fisher_type="empirical",
        separate_weight_and_bias=False,
        check_deterministic=False,
        num_per_example_loss_terms=terms,
        num_data=case.sequences,
        batch_size_fn=(lambda batch: len(batch["tokens"])) if case.text else None,
    )
    inverse = KFACInverseLinearOperator(operator, damping=damping, use_exact_damping=True)
    solved: dict[str, list[Tensor]] = {name: [] for name in case.names}
    for row in range(len(next(iter(queries.values())))):
        vector = []
        for name, layer in zip(case.names, layers, strict=True):
            matrix = queries[name][row]
            vector += [matrix] if layer.bias is None else [matrix[:, :-1].contiguous(), matrix[:, -1].contiguous()]
        parts = iter(inverse @ vector)
        for name, layer in zip(case.names, layers, strict=True):
            weight = next(parts)
            solved[name].append(weight if layer.bias is None else torch.cat([weight, next(parts)[:, None]], 1))
    return {name: torch.stack(rows).detach() for name, rows in solved.items()}


def bergson(case: Case, damping: float, *, corrected: bool = True, batch: int = 4) -> Tensor:
    """Scores ``[q n]`` of Bergson's own passes, summed losses, dataset labels, absolute damping."""
    from bergson.collector.collector import CollectorComputer
    from bergson.collector.gradient_collectors import TraceCollector
    from bergson.config import HessianConfig, IndexConfig
    from bergson.config.config import InversionConfig
    from bergson.gradients import GradientProcessor
    from bergson.hessians.hessian_approximations import fit_factored_hessians
    from bergson.hessians.preconditioner import FactoredPreconditioner
    from datasets import Dataset

    logging.disable(logging.INFO)
    folder = tempfile.mkdtemp(prefix="peers-bergson-")
    model = copy.deepcopy(case.model).requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    cfg = IndexConfig(run_path=f"{folder}/run", loss_reduction="sum", include_bias=True)
    cfg.partial_run_path.mkdir(parents=True, exist_ok=True)
    precision = {torch.float32: "fp32", torch.float64: "fp64"}[next(model.parameters()).dtype]
    hessian = HessianConfig(method="kfac", ev_correction=corrected, use_dataset_labels=True, hessian_dtype=precision)

    def dataset(tokens: Tensor) -> Dataset:
        return Dataset.from_dict({"input_ids": tokens.tolist(), "length": [tokens.shape[1]] * len(tokens)})

    def cut(count: int) -> list[list[int]]:
        return [list(range(start, min(start + batch, count))) for start in range(0, count, batch)]

    def gradients(tokens: Tensor) -> dict[str, Tensor]:
        collector = TraceCollector(
            model=model.base_model, processor=GradientProcessor(include_bias=True), device="cpu", dtype=torch.float32
        )
        loop = CollectorComputer(model, dataset(tokens), collector=collector, batches=cut(len(tokens)), cfg=cfg)
        loop.run_with_collector_hooks(desc="")
        return {name: torch.cat(rows) for name, rows in collector.mod_grads.items()}

    fit_factored_hessians(
        model=model, data=dataset(case.inputs), index_cfg=cfg, hessian_cfg=hessian, target_modules=None,
        attention_cfgs={}, batches=cut(case.sequences), path=f"{folder}/kfac", do_eigendecomposition=True,
    )  # fmt: skip
    inversion = InversionConfig(inversion="absolute_damped_inverse", damping_factor=damping)
    solver = FactoredPreconditioner.from_path(f"{folder}/kfac", inversion_cfg=inversion, ev_correction=corrected)
    solved, train = solver.apply(gradients(case.queries)), gradients(case.inputs)
    return sum(solved[name] @ train[name].mT for name in solved)
