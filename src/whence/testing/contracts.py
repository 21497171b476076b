"""What every curvature, layer adapter and task owes its callers, whatever it does inside.

A contract is a list of checks, each a function whose name says what holds; a suite runs every check on every
entry of a table, so that a new entry is covered the day it is written. Yours too:

    @pytest.mark.parametrize("check", contracts.TASK, ids=contracts.name_of)
    def test_my_task(check):
        check(contracts.TaskCase(MyTask(), my_model, my_examples))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from whence.curvature import Curvature
from whence.layers import Adapter
from whence.testing import dense, toys
from whence.types import Batch, Gradients, Task


def name_of(check: Callable[..., None]) -> str:
    """A check's name, for a test's id."""
    return check.__name__.replace("_", " ")


# --- curvatures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CurvatureCase:
    """A fitted curvature in float64, some gradients for its layers, and a way through the disk and back."""

    curvature: Curvature
    gradients: Gradients
    reload: Callable[[Curvature], Curvature]


def solve_is_the_inverse_of_the_damped_matrix(case: CurvatureCase) -> None:
    """(H + λI)⁻¹ g against the matrix that nobody would ship."""
    solved = case.curvature.solve(case.gradients)
    for layer, grads in case.gradients.items():
        expected = dense.solve(case.curvature.dense(layer), grads, case.curvature.dampings[layer])
        assert_close(solved[layer], expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))


def matvec_is_the_undamped_matrix(case: CurvatureCase) -> None:
    """H g, and H (H + λI)⁻¹ g = g − λ (H + λI)⁻¹ g."""
    products, solved = case.curvature.matvec(case.gradients), case.curvature.solve(case.gradients)
    for layer, grads in case.gradients.items():
        expected = (case.curvature.dense(layer) @ grads.flatten(1).T).T.view_as(grads)
        assert_close(products[layer], expected)
        rest = grads - case.curvature.dampings[layer] * solved[layer]
        assert_close(case.curvature.matvec(solved)[layer], rest, rtol=1e-6, atol=1e-9)


def the_matrix_is_symmetric_and_positive_semidefinite(case: CurvatureCase) -> None:
    """So that H + λI is invertible and no self-influence is negative."""
    for layer in case.curvature.blocks:
        matrix = case.curvature.dense(layer)
        assert_close(matrix, matrix.T)
        assert torch.linalg.eigvalsh(matrix)[0] >= -1e-9 * matrix.diagonal().max()


def relative_damping_is_a_tenth_of_the_mean_eigenvalue(case: CurvatureCase) -> None:
    """λ from the trace, which knows no basis; a curvature that is not inverted has none."""
    if case.curvature.damping is None:
        assert set(case.curvature.dampings.values()) == {0.0}
        return
    for layer, damping in case.curvature.with_damping(0.1).dampings.items():
        assert damping > 0
        assert abs(damping - dense.relative(case.curvature.dense(layer))) <= 1e-9 * damping


def a_second_call_gives_the_same_bits(case: CurvatureCase) -> None:
    """Damping added in place would make it differ; so would a solve that writes into its argument."""
    before = {layer: grads.clone() for layer, grads in case.gradients.items()}
    matrices = {layer: case.curvature.dense(layer) for layer in case.curvature.blocks}
    first, second = case.curvature.solve(case.gradients), case.curvature.solve(case.gradients)
    for layer, grads in case.gradients.items():
        assert torch.equal(first[layer], second[layer])
        assert torch.equal(grads, before[layer])
        assert torch.equal(matrices[layer], case.curvature.dense(layer))


def solving_is_linear(case: CurvatureCase) -> None:
    """Scores of a contrastive query are differences of scores."""
    scaled = {layer: 3 * grads[:1] - grads[1:2] for layer, grads in case.gradients.items()}
    solved, parts = case.curvature.solve(scaled), case.curvature.solve(case.gradients)
    for layer, part in parts.items():
        assert_close(solved[layer], 3 * part[:1] - part[1:2], rtol=1e-6, atol=1e-9 * float(part.abs().max()))


def a_saved_curvature_comes_back_the_same(case: CurvatureCase) -> None:
    """Bit for bit, damping included."""
    again = case.reload(case.curvature)
    expected, found = case.curvature.solve(case.gradients), again.solve(case.gradients)
    assert again.name == case.curvature.name
    assert again.counts == case.curvature.counts
    assert again.dampings == case.curvature.dampings
    for layer in case.gradients:
        assert torch.equal(found[layer], expected[layer])


CURVATURE = [
    solve_is_the_inverse_of_the_damped_matrix,
    matvec_is_the_undamped_matrix,
    the_matrix_is_symmetric_and_positive_semidefinite,
    relative_damping_is_a_tenth_of_the_mean_eigenvalue,
    a_second_call_gives_the_same_bits,
    solving_is_linear,
    a_saved_curvature_comes_back_the_same,
]


# --- layer adapters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdapterCase:
    """A module, its adapter, and something for it to read."""

    adapter: Adapter
    module: nn.Module
    inputs: Tensor
    """What the module is called with."""

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.module, "bias", None)

    @property
    def matrix(self) -> Tensor:
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return self.adapter.matrix(weight, self.bias)

    @property
    def extended(self) -> Tensor:
        """ā: the rows of the inputs, with a 1 where there is a bias."""
        rows = self.adapter.rows(self.module, self.inputs)
        return rows if self.bias is None else nn.functional.pad(rows, (0, 1), value=1.0)


def the_module_is_its_matrix(case: AdapterCase) -> None:
    """Y = W̄ ā."""
    outputs = case.adapter.output_rows(case.module, case.module(case.inputs))
    assert_close(outputs, case.extended @ case.matrix.T)


def the_matrix_has_the_stated_sizes(case: AdapterCase) -> None:
    """``[o i]``, the bias being one more input."""
    outputs, inputs = case.adapter.sizes(case.module)
    assert tuple(case.matrix.shape) == (outputs, inputs + (case.bias is not None))


def the_matrix_goes_back_to_the_modules_tensors(case: AdapterCase) -> None:
    """Names and shapes of its own parameters, values unchanged; zero where they belong to another of its layers."""
    tensors = case.adapter.tensors(case.matrix, case.module)
    own = dict(case.module.named_parameters())
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: tensor.shape for n, tensor in own.items()}
    assert torch.equal(case.adapter.matrix(tensors["weight"], tensors.get("bias")), case.matrix)
    share = case.matrix.numel() / sum(tensor.numel() for tensor in own.values())
    for name, tensor in tensors.items():
        elsewhere = tensor != own[name]
        assert not tensor[elsewhere].any()
        assert int(elsewhere.sum()) == round(tensor.numel() * (1 - share))


def gradients_take_the_form_of_the_matrix(case: AdapterCase) -> None:
    """Autograd's, reshaped as the weights are, are Σ δ āᵀ."""
    output = case.module(case.inputs)
    draw = torch.Generator().manual_seed(0)
    slope = torch.randn(output.shape, generator=draw, dtype=output.dtype)
    weight, *bias = torch.autograd.grad(output, list(case.module.parameters()), slope)
    rows = case.adapter.output_rows(case.module, slope)
    expected = rows.flatten(0, 1).T @ case.extended.flatten(0, 1)
    assert_close(case.adapter.matrix(weight, bias[0] if bias else None), expected)


ADAPTER = [
    the_module_is_its_matrix,
    the_matrix_has_the_stated_sizes,
    the_matrix_goes_back_to_the_modules_tensors,
    gradients_take_the_form_of_the_matrix,
]


# --- tasks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskCase:
    """A task, a model in float64 and eval mode, and examples of it: batches of one, without padding."""

    task: Task
    model: nn.Module
    examples: Sequence[Batch]
    kind: dense.Kind = "tokens"

    @property
    def oracle(self) -> dense.Oracle:
        return dense.Oracle(self.model, [], self.examples, self.kind)

    def sampled(self, batch: Batch, seed: int = 0, sample: int = 0) -> Tensor:
        """Losses at sampled labels: as good as the labels, which a task need not show."""
        with torch.no_grad():
            return self.task.loss(self.model, batch, labels="sampled", seed=seed, sample=sample)


def the_loss_is_summed_over_scored_positions(case: TaskCase) -> None:
    """In nats, and neither averaged nor counting the prompt."""
    losses = case.task.loss(case.model, toys.collate(case.examples))
    expected = torch.stack([case.oracle.losses(one).sum() for one in case.examples])
    assert_close(losses, expected)


def the_measurement_is_minus_the_loss(case: TaskCase) -> None:
    """One sign everywhere."""
    batch = toys.collate(case.examples)
    assert_close(case.task.measurement(case.model, batch), -case.task.loss(case.model, batch))


def an_example_is_scored_alike_in_any_company(case: TaskCase) -> None:
    """Batch-mates, order, padding and what padding holds change nothing."""
    whole = toys.collate(case.examples, padding=3, fill=1)
    backwards = toys.collate(list(case.examples)[::-1])
    for kind in ("true", "sampled"):
        alone = torch.cat([case.task.loss(case.model, one, labels=kind, seed=3) for one in case.examples])
        assert_close(case.task.loss(case.model, whole, labels=kind, seed=3), alone)
        assert_close(case.task.loss(case.model, backwards, labels=kind, seed=3).flip(0), alone)


def sampled_labels_are_a_function_of_their_key(case: TaskCase) -> None:
    """Seed, document and position: not the sequence's number, the global generator, or an earlier call."""
    batch = toys.collate(case.examples)
    first = case.sampled(batch, seed=5)
    torch.manual_seed(len(batch))
    state = torch.get_rng_state()
    again = case.sampled(replace(batch, ids=batch.ids + 7), seed=5)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


def every_part_of_the_key_matters(case: TaskCase) -> None:
    """Another seed, sample or document: other labels, somewhere."""
    batch = toys.collate(list(case.examples) * 3)
    first = case.sampled(batch)
    others = {
        "seed": case.sampled(batch, seed=1),
        "sample": case.sampled(batch, sample=1),
        "document": case.sampled(replace(batch, document=batch.document + 1000)),
    }
    for part, other in others.items():
        assert not torch.allclose(first, other), f"labels do not depend on the {part}"
    assert not torch.allclose(others["seed"], others["sample"]), "seed 1, sample 0 is seed 0, sample 1"


def sampled_labels_follow_the_models_distribution(case: TaskCase) -> None:
    """The mean loss over samples is the entropy (of N(h, I), k/2), within four standard errors."""
    one = case.examples[0]
    draws = torch.stack([case.sampled(one, sample=sample)[0] for sample in range(400)])
    outputs = case.oracle.outputs(one).detach()
    if case.kind == "numbers":
        expected = torch.tensor(outputs.shape[-1] / 2, dtype=draws.dtype)
    else:
        expected = -(outputs.softmax(-1) * outputs.log_softmax(-1)).sum()
    assert abs(draws.mean() - expected) < 4 * draws.std() / 20


TASK = [
    the_loss_is_summed_over_scored_positions,
    the_measurement_is_minus_the_loss,
    an_example_is_scored_alike_in_any_company,
    sampled_labels_are_a_function_of_their_key,
    every_part_of_the_key_matters,
    sampled_labels_follow_the_models_distribution,
]


def labels_of(case: TaskCase, example: Batch, *, seed: int = 0, sample: int = 0) -> Tensor:
    """The labels that a task draws, shaped as ``example.targets``, told from its losses alone.

    A label of a language model is read off the loss of its position taken alone (which its key allows), as
    the one whose −log p that is; a number from the loss's gradient h − ŷ in the model's output.
    """
    if case.kind == "tokens":
        labels = torch.zeros_like(example.targets)
        for t in example.scored[0].nonzero()[:, 0].tolist():
            only = replace(example, scored=torch.zeros_like(example.scored).index_fill(1, torch.tensor([t]), True))
            surprises = -case.oracle.outputs(only)[0].detach().log_softmax(-1)
            labels[0, t] = (surprises - case.sampled(only, seed, sample)).abs().argmin()
        return labels
    slopes: list[Tensor] = []

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output.detach().requires_grad_()
        slopes.append(output)
        return output

    handle = case.model.register_forward_hook(watch)
    try:
        loss = case.task.loss(case.model, example, labels="sampled", seed=seed, sample=sample).sum()
    finally:
        handle.remove()
    (output,) = slopes
    (slope,) = torch.autograd.grad(loss, output)  # h − ŷ, or p − onehot
    return output.detach() - slope if case.kind == "numbers" else (output.detach().softmax(-1) - slope).argmax(-1)
