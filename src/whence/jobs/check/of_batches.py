"""Company: whether a row's score depends on what shares its batch, on padding, and on the side of it.

Measured for each attention kernel that can run here. The run's own has a verdict; the others are told, so that a
faster one can be chosen where it does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from whence.capture.check import Sensitivity, sensitivity
from whence.jobs.check.findings import Finding, Verdict
from whence.jobs.check.rows import CUT, Rows
from whence.jobs.check.trial import Agreement, Trial
from whence.jobs.stream import device_of
from whence.layers.select import Tracked
from whence.models.hf import attention_kernels, with_attention
from whence.tasks import CausalLM
from whence.tasks.chunked import scored_loss
from whence.tasks.reading import refuse_packing
from whence.types import Batch, Labels

TOGETHER, LONGER = 4, 37
"""Rows in a batch, and positions of padding beyond what it needs: a number that no kernel's tiles divide."""
RANKS = 0.95
"""Rank agreement below which company changes a ranking."""


def batches(trial: Trial, tracked: Tracked, rows: Rows, own: str) -> Iterator[Finding]:
    """A row for each kernel.

    Args:
        own: The kernel that the run would use.
    """
    for kernel in attention_kernels(trial.model) or [own]:
        with with_attention(trial.model, kernel):
            yield _one(trial, tracked, rows, kernel, kernel == own)
            if kernel == own:
                yield from _left(trial, rows, kernel)


def _one(trial: Trial, tracked: Tracked, rows: Rows, kernel: str, own: bool) -> Finding:
    alone, company = trial.scores(rows), rows.apart()
    together = Agreement.between(trial.scores(company.batched(TOGETHER)), alone)
    longer = Agreement.between(trial.scores(company.batched(TOGETHER, padding=LONGER)), alone)
    grads = _gradients(trial, tracked, company)
    bad = grads.advice is not None or min(together.ranks, longer.ranks) < RANKS
    verdict: Verdict = "ok" if not bad else "wrong" if own else "note"
    text = (
        f"in company a row's gradient differs by {grads.batch_mates:.1e} and its score by {together.difference:.1e}, "
        f"with {LONGER} more positions of padding by {longer.difference:.1e}; ranks agree at "
        f"{min(together.ranks, longer.ranks):.3f}"
    )
    figure = max(grads.batch_mates, together.difference, longer.difference)
    advice = grads.advice or "scores depend on what shares a batch: no ranking would hold" if bad and own else None
    other = f"{kernel} would change scores here" if bad else None
    return Finding(f"batches, {kernel}", verdict, text, figure, advice if own else other)


def segments(trial: Trial, rows: Rows, context: int) -> Iterator[Finding]:
    """A row for sequences that share the model's rows: whether each still sees itself alone.

    Args:
        context: Tokens of such a row; no more than a few sequences of `rows.CUT` are needed here.

    Raises:
        ModelError: If the model or its attention kernel cannot keep them apart.
    """
    refuse_packing(trial.model)
    found = Agreement.between(trial.scores(rows.sharing(min(context, TOGETHER * CUT))), trial.scores(rows))
    bad = found.ranks < RANKS
    text = f"in rows that sequences share, scores differ by {found.difference:.1e}; ranks agree at {found.ranks:.3f}"
    advice = "sequences of one row see each other: run without --pack segments" if bad else None
    yield Finding("segments", "wrong" if bad else "ok", text, found.difference, advice)


def _gradients(trial: Trial, tracked: Tracked, rows: Rows) -> Sensitivity:
    device = device_of(trial.model)
    both = next(rows.batched(2).batches(0)).to(device)
    return sensitivity(trial.model, tracked, trial.task, both, lambda row: next(iter(rows.gather([row]))).to(device))


def _left(trial: Trial, rows: Rows, kernel: str) -> Iterator[Finding]:
    """A run pads on the right and never on the left: for those whose training padded there."""
    if not hasattr(trial.model, "config"):
        return
    masked = MaskedCausalLM()
    try:
        left = trial.scores(rows.apart().batched(TOGETHER, side="left"), masked)
    except (TypeError, ValueError):
        return  # the model takes no positions: there is no padding it on the left
    found = Agreement.between(left, trial.scores(rows))
    good = found.ranks >= RANKS
    text = (
        f"with padding on the left, a mask and positions, scores differ by {found.difference:.1e}; ranks agree at "
        f"{found.ranks:.3f}"
    )
    advice = (
        None if good else "runs pad on the right, so this does no harm here; training padded on the left might have"
    )
    yield Finding("left padding", "ok" if good else "note", text, found.difference, advice)


@dataclass(frozen=True)
class MaskedCausalLM(CausalLM):
    """The same loss with an attention mask and positions counted from the first real token: for padding on the left."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"task": "causal_lm", "masked": True}

    def loss(
        self, model: nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """Cross-entropy in nats of the true labels, summed over each sequence's scored positions."""
        assert labels == "true"
        positions = (batch.real.cumsum(1) - 1).clamp(min=0)
        outputs = model(
            input_ids=batch.inputs, attention_mask=batch.real.long(), position_ids=positions, use_cache=False
        )
        logits, targets = outputs.logits, batch.targets[batch.scored]
        return scored_loss(logits, batch.scored, _as_it_is, lambda _, part: targets[part], logits.shape[-1])


def _as_it_is(rows: Tensor) -> Tensor:
    return rows
