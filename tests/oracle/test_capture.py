"""Traces against autograd: every layer type, every architecture, batched and padded."""

from __future__ import annotations

import pytest
import torch
from tests.cases import OURS, THEIRS, Case, architecture, lm
from torch import nn
from torch.testing import assert_close

from whence.capture import capture
from whence.layers.select import track
from whence.testing import tiny, toys


def traces_of(case, batch, layers=None):
    """Every trace of one batch, by layer."""
    seen = {}
    tracked = track(case.model, case.layers if layers is None else layers).layers
    with capture(case.model, tracked, batch.real, lambda trace: seen.__setitem__(trace.layer, trace)):
        case.task.loss(case.model, batch).sum().backward()
    return seen


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_traces_give_autograds_gradient_of_each_example(name):
    """The capture law, bias column and padding included."""
    case = (OURS | THEIRS)[name]()
    expected = case.oracle().gradients()

    traces = traces_of(case, toys.collate(case.examples, padding=2, fill=1))

    assert set(traces) == set(case.layers)
    for layer, trace in traces.items():
        scale = expected[layer].abs().max()
        assert_close(
            trace.gradient() / scale,
            expected[layer] / scale,
            **case.tolerance,
            msg=lambda m, layer=layer: f"{layer}: {m}",
        )


@pytest.mark.parametrize("name", OURS)
def test_traces_are_the_inputs_and_output_gradients_of_each_position(name):
    case = OURS[name]()
    oracle = case.oracle()

    traces = traces_of(case, toys.collate(case.examples, padding=1))

    for n, one in enumerate(case.examples):
        inputs = oracle.inputs(one)
        draw = oracle.true_draw(one)
        for layer, trace in traces.items():
            length = len(inputs[layer])
            assert_close(trace.inputs[n, :length], inputs[layer])
            assert_close(trace.output_grads[n, :length], draw.output_grads[layer])
            assert not trace.inputs[n, length:].any(), "padding counted in A"
            assert not trace.output_grads[n, length:].any()


def gradients_agree(case, tolerance):
    expected = case.oracle().gradients()
    for layer, trace in traces_of(case, toys.collate(case.examples, padding=1)).items():
        scale = expected[layer].abs().max()
        assert_close(trace.gradient() / scale, expected[layer] / scale, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cap", [0.7, 30.0])
def test_what_a_model_does_after_its_head_is_not_skipped(cap):
    """The head is applied in chunks, where the model is no more than body and head. A soft cap is more."""
    import transformers

    config = transformers.Gemma2Config(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        vocab_size=11,
        final_logit_softcapping=cap,
    )
    config._attn_implementation = "eager"
    capped = tiny.seeded(lambda: transformers.AutoModelForCausalLM.from_config(config), 0, scale=0.4)
    layers = [name for name, part in capped.named_modules() if isinstance(part, nn.Linear) and ".layers." in name]
    gradients_agree(Case(capped, layers, toys.sequences(4, vocab=11), "tokens"), 5e-5)


@pytest.mark.parametrize("elements", [1, 16 * 11, 2**21])
def test_the_size_of_a_chunk_changes_no_gradient(elements, monkeypatch):
    monkeypatch.setattr("whence.tasks.chunked.CHUNK_ELEMENTS", elements)
    case = architecture("llama")
    many = toys.sequences(12, vocab=11, longest=9)
    gradients_agree(Case(case.model, case.layers, many, "tokens"), 2e-4)


def test_a_sequence_with_nothing_scored_has_no_gradient():
    case = lm()
    silent = toys.sequence([1, 2, 3], prompt=3, number=6)
    traces = traces_of(case, toys.collate([*case.examples, silent]))
    alone = traces_of(case, silent)
    for layer, trace in traces.items():
        assert not trace.gradient()[-1].any()
        assert trace.gradient()[0].any()
        assert not alone[layer].gradient().any()


def test_prompt_positions_carry_gradient():
    """Their loss is masked; through attention they matter all the same."""
    case = lm()
    prompted = toys.sequence([1, 2, 3, 4, 5], prompt=4)
    trace = traces_of(case, prompted)["layers.0.mlp.up"]
    assert trace.output_grads[0, :3].abs().sum(1).gt(0).all()
    assert not trace.output_grads[0, 4].any(), "the last position predicts nothing, and none sees it"


def test_the_model_is_returned_as_it_was_found():
    case = lm()
    frozen = case.model.layers[0].mlp.up.weight.requires_grad_(False)
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in case.model.named_parameters()}

    traces_of(case, toys.collate(case.examples))

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in case.model.modules())
    for name, parameter in case.model.named_parameters():
        assert parameter.grad is None, f"{name} was given a gradient"
        assert parameter.requires_grad is before[name][0]
        assert torch.equal(parameter, before[name][1])
    assert not frozen.requires_grad


def test_the_model_is_returned_as_it_was_found_after_an_error():
    case = lm()
    with pytest.raises(RuntimeError, match="planted"):
        with capture(case.model, track(case.model, case.layers).layers, case.examples[0].real, lambda trace: None):
            raise RuntimeError("planted")
    assert all(p.requires_grad for p in case.model.parameters())
    assert not any(module._forward_hooks for module in case.model.modules())


def test_nothing_below_the_first_tracked_layer_is_differentiated():
    case = lm()
    needed = []
    below = case.model.layers[0].register_forward_hook(lambda module, args, out: needed.append(out.requires_grad))
    try:
        traces_of(case, toys.collate(case.examples), layers="layers.1.*")
    finally:
        below.remove()
    assert needed == [False]


def test_half_tracked_layers_have_the_gradients_they_have_when_all_are():
    case = lm()
    batch = toys.collate(case.examples)
    every, few = traces_of(case, batch), traces_of(case, batch, layers=["layers.0.mlp.up", "layers.1.attention.k"])
    for name, trace in few.items():
        assert_close(trace.gradient(), every[name].gradient())


def test_shared_inputs_equal_separate_ones():
    """q, k and v grouped by what they read give the traces they give alone; the same tensor serves all three."""
    case = lm()
    batch = toys.collate(case.examples, padding=1)
    tracked = track(case.model, case.layers)
    reads = {
        n: n.rsplit(".", 1)[0] + "/in" if n.rsplit(".", 1)[1] in ("q", "k", "v", "gate", "up") else n
        for n in case.layers
    }
    together, seen = tracked.with_reads(reads), {}
    with capture(case.model, together.layers, batch.real, lambda trace: seen.__setitem__(trace.layer, trace)):
        case.task.loss(case.model, batch).sum().backward()

    for name, trace in traces_of(case, batch).items():
        assert_close(seen[name].gradient(), trace.gradient(), rtol=0, atol=0)
    q, k, v = (seen[f"layers.0.attention.{part}"] for part in "qkv")
    assert q.shared is k.shared is v.shared
    assert sum(trace.first for trace in (q, k, v)) == 1
