"""Training, many models at once: one recipe, and a weighting of the training examples for each model.

    gradient of a step = (1/|b|) Σ_{i in b} w_i ∇L(z_i)        w_i = 0 removes z_i, 1 keeps it, 2 doubles it

The denominator never changes, so that a removal is a change of weight and of nothing else. Every member of a
stack starts from the same parameters and sees the same examples in the same order; a member's numbers do not
depend on who is trained beside it, beyond rounding. Nothing is drawn but the order: models are in eval mode, so
without dropout, and batch norm keeps the statistics it came with.

The optimisers are torch's own: they act on each element alone, so that a stack of models is one parameter to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import InvalidSetting, NumericalError
from whence.evaluate.examples import rows
from whence.evaluate.models import (
    Stack,
    State,
    at,
    evaluating,
    example_losses,
    joined,
    mapped,
    models_at_once,
    parameters_of,
    stacked,
)
from whence.types import Batch, Progress, Task


def is_whole(value: object) -> bool:
    """Whether a setting is a whole number; true and false, which Python counts among them, are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a setting is a finite number."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a model is trained. Two equal recipes on equal data from equal parameters give equal models.

    Raises:
        InvalidSetting: If a value cannot be honoured.
    """

    learning_rate: float
    epochs: int
    batch_size: int
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    momentum: float = 0.0
    """Of SGD."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam and AdamW."""
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Decoupled for AdamW, an L2 term for the others."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What becomes of the learning rate after the warmup: nothing, or it falls to zero with the last step."""
    warmup: int = 0
    """Steps over which the learning rate rises."""
    clip: float | None = None
    """Longest gradient of a step, each model's own."""
    mean_over: Literal["examples", "positions"] = "examples"
    """What a step's loss is divided by: examples, each summed over its positions, or scored positions."""
    seed: int = 0
    """Of the order of examples; see `train` for more than one."""

    def __post_init__(self) -> None:
        choices = {
            "optimiser": ("sgd", "adam", "adamw"),
            "schedule": ("constant", "linear", "cosine"),
            "mean_over": ("examples", "positions"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InvalidSetting(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "warmup", "seed"):
            if not is_whole(getattr(self, name)):
                raise InvalidSetting(f"{name} must be a whole number, not {getattr(self, name)!r}")
        for name in ("learning_rate", "momentum", "eps", "weight_decay", "clip"):
            if not (is_number(getattr(self, name)) or (name == "clip" and self.clip is None)):
                raise InvalidSetting(f"{name} must be a number, not {getattr(self, name)!r}")
        if not (isinstance(self.betas, tuple) and len(self.betas) == 2 and all(map(is_number, self.betas))):
            raise InvalidSetting(f"betas must be two numbers, not {self.betas!r}", hint="write betas = [0.9, 0.999]")
        for name in ("learning_rate", "epochs", "batch_size", "eps"):
            if not getattr(self, name) > 0:
                raise InvalidSetting(f"{name} must be positive, not {getattr(self, name)!r}")
        for name in ("momentum", "weight_decay", "warmup", "seed"):
            if not getattr(self, name) >= 0:
                raise InvalidSetting(f"{name} must not be negative, and is {getattr(self, name)!r}")
        if self.clip is not None and not self.clip > 0:
            raise InvalidSetting(f"clip must be positive, not {self.clip!r}", hint="leave it out to clip nothing")

    @classmethod
    def of(cls, values: Mapping[str, Any], *, source: str = "the recipe") -> Recipe:
        """A recipe from a table of settings, such as a TOML file's.

        Raises:
            InvalidSetting: If a key is none of the fields, or one is missing or cannot be honoured.
        """
        names = [field.name for field in fields(cls)]
        for key in values:
            if key not in names:
                raise InvalidSetting(f'{source}: unknown setting "{key}"', hint=f"a recipe has {', '.join(names)}")
        needed = ("learning_rate", "epochs", "batch_size")
        if missing := [name for name in needed if name not in values]:
            raise InvalidSetting(f"{source} lacks {', '.join(missing)}", hint=f"{', '.join(needed)} must be given")
        given: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
        try:
            return cls(**given)
        except InvalidSetting as error:
            raise InvalidSetting(f"{source}: {error.message}", hint=error.hint) from None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, for a manifest."""
        return asdict(self)

    def order(self, count: int, seed: int = 0) -> Iterator[Tensor]:
        """The rows of each step's batch: every epoch all of them once, in an order of its own.

        Args:
            count: Training examples. The last batch of an epoch is smaller where they do not divide evenly.
            seed: Added to the recipe's own.
        """
        for epoch in range(self.epochs):
            shuffled = torch.from_numpy(np.random.default_rng([self.seed + seed, epoch]).permutation(count))
            yield from shuffled.split(self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps − 1."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        left = 1 - (step - self.warmup) / max(1, steps - self.warmup)
        share = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return self.learning_rate * share[self.schedule]

    def start(self, stack: Stack) -> torch.optim.Optimizer:
        """A fresh optimiser over a stack."""
        parameters, rate, decay = list(stack.values()), self.learning_rate, self.weight_decay
        if self.optimiser == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=decay)
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.AdamW
        return kind(parameters, lr=rate, betas=self.betas, eps=self.eps, weight_decay=decay)


def train(
    model: nn.Module,
    task: Task,
    examples: Batch,
    recipe: Recipe,
    weights: Float[Tensor, "s n"],
    *,
    start: State | None = None,
    seed: int = 0,
    at_once: int | None = None,
    progress: Progress | None = None,
) -> Stack:
    """Train a model for each row of ``weights``.

    Args:
        examples: The training set: see `examples.collect`.
        weights: Of each example in each model's loss.
        start: Where all of them start; the model's own parameters when not given. Only what is named here is
            trained, and the rest of the model is left as it is.
        seed: Added to the recipe's, for another order.
        at_once: Models trained side by side; as many as fit into memory when not given. Changes speed alone.

    Returns:
        The trained parameters, a member a row of ``weights``, on the model's device.

    Raises:
        InvalidSetting: If the weights are not one for each example.
        NumericalError: If a model's loss becomes NaN or inf; names the step and the learning rate.
    """
    if weights.shape[1] != len(examples) or len(weights) == 0:
        raise InvalidSetting(f"weights {tuple(weights.shape)} do not fit {len(examples)} examples: [models examples]")
    initial = dict(parameters_of(model) if start is None else start)
    device = next(model.parameters()).device
    examples, initial = examples.to(device), {name: t.to(device) for name, t in initial.items()}
    if at_once is None:
        batch = rows(examples, torch.arange(min(recipe.batch_size, len(examples)), device=device))
        at_once = models_at_once(model, task, batch, initial)
    done: list[Stack] = []
    with evaluating(model):
        for some in weights.to(device).split(at_once):
            done.append(_train(model, task, examples, recipe, some, initial, seed))
            if progress is not None:
                progress(min(len(done) * at_once, len(weights)), len(weights))
    return joined(done)


def _train(
    model: nn.Module, task: Task, examples: Batch, recipe: Recipe, weights: Tensor, initial: State, seed: int
) -> Stack:
    """One chunk of models, side by side."""
    stack = stacked(initial, len(weights))
    optimiser = recipe.start(stack)
    schedule = list(recipe.order(len(examples), seed))
    for step, chosen in enumerate(schedule):
        batch = rows(examples, chosen)
        size = len(batch) if recipe.mean_over == "examples" else int(batch.scored.sum())
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = mapped(weighted(model, task, batch), stack, weights[:, chosen.to(weights.device)]) / size
            loss.sum().backward()
        _refuse_divergence(loss.detach(), step, recipe)
        if recipe.clip is not None:
            clip_each(stack, recipe.clip)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step, len(schedule))
        optimiser.step()
    return {name: tensor.detach() for name, tensor in stack.items()}


def weighted(model: nn.Module, task: Task, batch: Batch) -> Callable[[State, Tensor], Tensor]:
    """Σ w_i L(z_i) over a batch, as a function of one model's parameters and weights ``[n]``."""

    def total(own: State, weight: Tensor) -> Tensor:
        losses = example_losses(task, at(model, own), batch)
        return (losses * weight.to(losses)).sum()

    return total


def clip_each(stack: Stack, longest: float) -> None:
    """Shorten each member's gradient to ``longest`` where it is longer, as `torch.nn.utils.clip_grad_norm_` does."""
    grads = [tensor.grad for tensor in stack.values() if tensor.grad is not None]
    length = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
    share = (longest / (length + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(share.view(-1, *[1] * (grad.dim() - 1)))


def _refuse_divergence(loss: Tensor, step: int, recipe: Recipe) -> None:
    if bool(torch.isfinite(loss).all()):
        return
    member = int((~torch.isfinite(loss)).nonzero()[0, 0])
    raise NumericalError(
        f"the loss of retrained model {member} is {float(loss[member])} at step {step}",
        hint=f"lower the recipe's learning_rate of {recipe.learning_rate:g}, or clip its gradients",
    )
