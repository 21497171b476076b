"""Influence on a validation loss, and suspicion of labels, against the dense definition."""

import torch
from torch.testing import assert_close

import whence as wh
from whence.data import TensorData
from whence.jobs.valuation.values import agreement, predictions
from whence.tasks import CausalLM, Classification, Regression

TASK = Classification()


def net(outputs=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, outputs)).double()


def labelled(count, seed, batch_size=4):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw, dtype=torch.float64)
    return TensorData(x, torch.randint(0, 3, (count,), generator=draw), batch_size=batch_size)


def gradients(model, task, data):
    """∇L of each example, layer by layer as ``[n o·(i+1)]``."""
    rows = []
    for batch in data.gather(range(data.sequences)):
        for loss in task.loss(model, batch):
            grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            layers = zip(grads[::2], grads[1::2], strict=True)
            rows.append([torch.cat([weight, bias[:, None]], dim=1).flatten() for weight, bias in layers])
    return [torch.stack(layer) for layer in zip(*rows, strict=True)]


def dense_inverses(curvature):
    return [
        torch.linalg.inv(curvature.dense(name) + lam * torch.eye(len(curvature.dense(name)), dtype=torch.float64))
        for name, lam in curvature.dampings.items()
    ]


def test_value_is_the_gradient_of_the_mean_validation_loss_through_the_damped_inverse():
    model, train, valid = net(), labelled(11, 1), labelled(7, 2)
    curvature = wh.fit(model, train, task=TASK)

    found = wh.value(curvature, train, valid, model=model, task=TASK)

    expected = sum(
        g @ inverse @ v.mean(0)
        for g, v, inverse in zip(
            gradients(model, TASK, train), gradients(model, TASK, valid), dense_inverses(curvature), strict=True
        )
    )
    assert_close(found.raw, expected[None])
    assert_close(found.per_copy, found.raw / 11)


def test_the_mean_s_value_is_the_mean_of_each_one_s():
    model, train, valid = net(), labelled(11, 1), labelled(7, 2)
    curvature = wh.fit(model, train, task=TASK)

    whole = wh.value(curvature, train, valid, model=model, task=TASK)
    each = wh.value(curvature, train, valid, model=model, task=TASK, each=True)

    assert_close(each.raw.mean(0), whole.raw[0])
    assert_close(each.loss.mean(), whole.loss[0])


def test_how_validation_is_cut_into_batches_does_not_matter():
    model, train = net(), labelled(11, 1)
    curvature = wh.fit(model, train, task=TASK)

    found = [
        wh.value(curvature, train, labelled(7, 2, batch_size), model=model, task=TASK, each=each).raw
        for each in (False, True)
        for batch_size in (1, 3, 7)
    ]

    assert_close(found[0], found[1])
    assert_close(found[0], found[2])
    assert_close(found[3], found[5])


def test_helpful_and_harmful_are_the_two_ends_and_only_of_their_sign():
    model, train, valid = net(), labelled(11, 1), labelled(7, 2)
    found = wh.value(wh.fit(model, train, task=TASK), train, valid, model=model, task=TASK)
    scores = found.raw[0]

    helpful, harmful = found.helpful(100), found.harmful(100)

    assert helpful == sorted((r for r in range(11) if scores[r] > 0), key=lambda r: -scores[r])
    assert harmful == sorted((r for r in range(11) if scores[r] < 0), key=lambda r: scores[r])
    assert found.helpful(2) == helpful[:2]


def test_a_step_towards_a_helpful_example_lowers_the_validation_loss():
    """The sign, seen from outside: with the curvature left out of it, influence is the slope itself."""
    model, train, valid = net(), labelled(11, 1), labelled(7, 2)
    curvature = wh.fit(model, train, task=TASK, curvature="identity")
    found = wh.value(curvature, train, valid, model=model, task=TASK)
    best, worst = found.helpful(1)[0], found.harmful(1)[0]

    def after(row):
        stepped = net()
        (batch,) = train.gather([row])
        TASK.loss(stepped, batch).sum().backward()
        with torch.no_grad():
            for parameter in stepped.parameters():
                parameter -= 1e-4 * parameter.grad
        return sum(TASK.loss(stepped, b).sum().item() for u in valid.units for b in valid.batches(u.number)) / 7

    before = float(found.loss[0])
    assert after(best) < before < after(worst)
    assert_close((before - after(best)) / 1e-4, float(found.raw[0, best]), rtol=1e-2, atol=0)


def test_suspicion_is_self_influence_and_stands_beside_that_of_the_most_probable_other_class():
    model, train = net(), labelled(11, 1)
    curvature = wh.fit(model, train, task=TASK)

    found = wh.suspects(curvature, train, model=model, task=TASK)

    own = sum(
        torch.einsum("np,pr,nr->n", g, inverse, g)
        for g, inverse in zip(gradients(model, TASK, train), dense_inverses(curvature), strict=True)
    )
    assert_close(found.self_influence, own)
    p = model(train.inputs).softmax(1)
    for row in range(11):
        others = [c for c in range(3) if c != train.targets[row]]
        assert found.suggested[row] == max(others, key=lambda c: p[row, c])
        assert_close(found.probabilities[row], p[row, [train.targets[row], found.suggested[row]]].detach())
    swapped = TensorData(train.inputs, found.suggested)
    other = wh.suspects(curvature, swapped, model=model, task=TASK).self_influence
    assert_close(found.relative, own.log() - other.log())
    assert found.top(3) == torch.argsort(-own)[:3].tolist()


def test_a_quantity_is_suspect_beside_its_prediction():
    model, task = net(outputs=1), Regression()
    train = TensorData(torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64))

    found = wh.suspects(wh.fit(model, train, task=task), train, model=model, task=task)

    assert found.probabilities is None
    assert found.relative is None
    assert found.top(6) == torch.argsort(-found.self_influence).tolist()
    assert_close(found.suggested, model(train.inputs)[:, 0].detach())
    assert_close(found.given, train.targets[:, 0])


def test_a_language_model_has_no_label_to_suspect():
    import pytest

    with pytest.raises(wh.WhenceError, match="CausalLM has no label"):
        wh.suspects(None, labelled(3, 1), model=net(), task=CausalLM())


def test_agreement_is_accuracy_or_the_share_of_variance_explained():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    assert agreement(logits, torch.tensor([0, 1, 1])) == 2 / 3

    y = torch.tensor([[1.0], [2.0], [6.0]])
    assert agreement(y, y) == 1.0
    assert agreement(y.mean().expand(3, 1), y) == 0.0


def test_predictions_come_in_the_order_of_the_examples_and_leave_the_model_as_it_was():
    model, train = net().train(), labelled(11, 1, batch_size=2)

    said, given = predictions(model, train, TASK)

    assert_close(said, model(train.inputs).detach())
    assert torch.equal(given, train.targets)
    assert model.training
