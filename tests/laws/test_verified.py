"""One small batch before any long pass: odd modules are handled right, or refused at once by name."""

from __future__ import annotations

import contextlib

import pytest
import torch
from tests.cases import lm, table
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from whence.errors import LayerError, WhenceError
from whence.jobs.fit import fit
from whence.layers.select import track
from whence.testing import dense, tiny, toys


class Odd(nn.Module):
    """A language model with one more layer before its head, called in some way that is not plain."""

    def __init__(self, call, linear=nn.Linear):
        super().__init__()
        self.body, self.call = tiny.language_model(), call
        self.body.head = nn.Identity()
        self.extra = linear(6, 6)
        self.head = nn.Linear(6, 7, bias=False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for part in (self.extra, self.head):
                nn.init.normal_(part.weight, std=0.5)
        self.double().eval()

    def forward(self, input_ids, **_):
        hidden = self.body(input_ids=input_ids).logits
        return type("Out", (), {"logits": self.head(self.call(self, hidden))})


class Doubled(nn.Linear):
    """A subclass that does something else with its weight, and does not say so."""

    def forward(self, x):
        return nn.functional.linear(x, 2 * self.weight, self.bias)


class Tracking(nn.Linear):
    """A subclass that only counts its calls."""

    def forward(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x)


def flattened(model, x):
    """All positions in one axis, as mixture-of-experts blocks do."""
    return model.extra(x.reshape(-1, x.shape[-1])).view_as(x)


def flattened_positions_first(model, x):
    rows = model.extra(x.transpose(0, 1).reshape(-1, x.shape[-1]))
    return rows.view(x.shape[1], x.shape[0], -1).transpose(0, 1)


def routed(model, x):
    """Only some of the positions, gathered."""
    chosen = x[..., 0] > x[..., 0].mean()
    return x.masked_scatter(chosen[..., None], model.extra(x[chosen]))


def twice(model, x):
    return model.extra(torch.tanh(model.extra(x)))


def checkpointed(model, x):
    return checkpoint(lambda x: torch.tanh(model.extra(x)), x, use_reentrant=False)


def around_the_module(model, x):
    """The weight is used, and the module is not called."""
    return nn.functional.linear(x, model.extra.weight) + model.extra(x)


def unused(model, x):
    return x


@contextlib.contextmanager
def refused_with(word):
    """Either what is inside holds, or it is refused with that word in the message."""
    try:
        yield
    except WhenceError as error:
        if word not in str(error):
            raise


def run(model):
    case = lm()
    data = toys.TinyData(case.examples, batch_size=3, padding=1)
    return fit(model, data, task=case.task, layers=["extra"], curvature="diagonal", labels="true")


def assert_right(model):
    case = lm()
    oracle = dense.Oracle(model, ["extra"], case.examples, labels=[[one.targets] for one in case.examples])
    assert_close(run(model).dense("extra"), oracle.diagonal("extra"))


@pytest.mark.parametrize(
    "call", [flattened, twice, lambda model, x: model.extra(input=x)], ids=["flattened", "twice", "by keyword"]
)
def test_handled_right(call):
    assert_right(Odd(call))


def test_a_subclass_that_is_still_linear_is_handled_right():
    assert_right(Odd(lambda model, x: model.extra(x), Tracking))


@pytest.mark.parametrize("call", [flattened_positions_first, routed, around_the_module, unused])
def test_refused_by_name(call):
    with pytest.raises(LayerError, match="extra"):
        run(Odd(call))


def test_a_subclass_that_is_not_linear_is_refused_by_name():
    with pytest.raises(LayerError, match="extra"):
        run(Odd(lambda model, x: model.extra(x), Doubled))


def test_a_checkpointed_block_is_handled_right_or_refused_by_name():
    with refused_with("extra"):
        assert_right(Odd(checkpointed))


def test_a_layer_in_train_mode_with_dropout_is_refused_or_switched_off():
    """Dropout would be drawn from the global generator and become part of the curvature."""
    model = Odd(lambda model, x: nn.functional.dropout(model.extra(x), 0.5, model.training)).train()
    with refused_with("eval"):
        torch.manual_seed(1)
        found = run(model).dense("extra")
        torch.manual_seed(2)
        assert_close(found, run(model).dense("extra"))


# --- which layers ---------------------------------------------------------------------------------------------------


def test_blocks_are_every_linear_inside_the_blocks():
    case = lm()
    assert [layer.name for layer in track(case.model).layers] == case.layers


def test_the_papers_set_is_the_mlps():
    case = lm()
    assert [layer.name for layer in track(case.model, "mlp").layers] == [n for n in case.layers if ".mlp." in n]


def test_the_head_is_taken_when_named():
    assert [layer.name for layer in track(lm().model, "head").layers] == ["head"]


def test_a_tied_head_is_refused():
    model = tiny.huggingface("llama", tied=True)
    with pytest.raises(LayerError, match=r"lm_head.*tied"):
        track(model, "lm_head")


def test_a_tracked_head_has_the_gradient_that_autograd_gives():
    """The head is otherwise applied in chunks, out of sight of hooks."""
    model, case = tiny.huggingface("llama"), lm()
    examples = toys.sequences(4, vocab=11)
    oracle = dense.Oracle(model, ["lm_head"], examples, labels=[[one.targets] for one in examples])
    found = fit(model, toys.TinyData(examples), task=case.task, layers="lm_head", curvature="diagonal", labels="true")
    assert_close(found.dense("lm_head"), oracle.diagonal("lm_head"), rtol=1e-4, atol=1e-5)


def test_a_glob_that_matches_nothing_names_the_nearest():
    with pytest.raises(LayerError, match=r"layers\.0\.attention\.q"):
        track(lm().model, "layers.0.atention.q")


def test_two_layers_with_one_weight_are_refused():
    model = table(4, 4, 4).model
    model[2].weight = model[0].weight
    with pytest.raises(LayerError, match="share one weight"):
        track(model, "*")


def test_layers_that_read_one_tensor_share_it():
    case = lm()
    curvature = fit(case.model, toys.TinyData(case.examples), task=case.task, layers=case.layers, curvature="kfac")
    part = {name.rsplit(".", 1)[1]: block for name, block in curvature.blocks.items() if name.startswith("layers.0.")}
    assert part["q"].input_basis is part["k"].input_basis is part["v"].input_basis
    assert part["gate"].input_basis is part["up"].input_basis
    assert part["o"].input_basis is not part["q"].input_basis


def test_shared_inputs_equal_separate_ones():
    """q, k and v of a copy of their input: the same curvature and solves, each with its own moment."""
    case, apart = lm(), lm()
    for block in apart.model.layers:
        for name in ("q", "k", "v"):
            getattr(block.attention, name).register_forward_pre_hook(lambda module, args: (args[0].clone(),))
    gradients = case.oracle().gradients()
    together, separate = (
        fit(one.model, toys.TinyData(case.examples), task=case.task, layers=case.layers) for one in (case, apart)
    )
    assert len(set(separate.reads.values())) == len(set(together.reads.values())) + 4
    one, other = together.solve(gradients), separate.solve(gradients)
    for name in case.layers:
        assert_close(one[name], other[name], rtol=1e-7, atol=1e-9 * float(other[name].abs().max()))


def test_a_layer_that_never_has_a_gradient_is_named():
    """q and k do nothing where one token is all there is to attend to; no damping is relative to zero."""
    case = lm()
    pairs = [toys.sequence([n % 7, (n + 2) % 7], number=n) for n in range(4)]

    def fit_and_solve():
        curvature = fit(case.model, toys.TinyData(pairs), task=case.task, layers=case.layers)
        curvature.solve(case.oracle().gradients())

    with pytest.raises(WhenceError, match=r"attention\.[qk]"):
        fit_and_solve()
