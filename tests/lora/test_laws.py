"""A LoRA factor is a linear layer like any other: gradients, scores and sums, in float64 against autograd."""

from __future__ import annotations

import pytest
import torch
from tests.cases import Case, linears, lm, lora
from tests.oracle.test_capture import traces_of
from torch import nn
from torch.testing import assert_close

from whence.errors import LayerError
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score
from whence.layers.select import track
from whence.testing import tiny, toys
from whence.testing.lora import with_lora


def run_over(case, params, curvature="ekfac", layers="blocks"):
    """Scores of three examples against all, over those parameters."""
    data = toys.TinyData(case.examples, padding=1)
    fitted = fit(case.model, data, task=case.task, layers=layers, params=params, curvature=curvature)
    three = toys.collate(case.examples[:3])
    asked = [QueryBatch(three, torch.arange(3), torch.ones(3, dtype=torch.float64))]
    queries = query_gradients(fitted, case.model, asked, task=case.task, rank=None)
    return score(fitted, queries, data, model=case.model, task=case.task, by_layer=True)


def test_scores_over_the_adapter_are_products_of_its_gradients():
    """Of every A and B as autograd gives them, and of nothing else."""
    case = lora()
    factors = [p for name, p in case.model.named_parameters() if ".lora_" in name]

    def gradient(example):
        grads = torch.autograd.grad(case.oracle().measurement(example), factors)
        return torch.cat([grad.flatten() for grad in grads])

    for parameter in factors:
        parameter.requires_grad_(True)
    every = torch.stack([gradient(one) for one in case.examples])

    found = run_over(case, "adapter", "identity")

    assert set(found.layers) == set(case.layers)
    assert_close(found.total, every[:3] @ every.T)


def test_a_conv1d_carries_an_adapter_as_a_linear_does():
    """GPT-2's layers keep their weight as ``[i o]``; the factors do not."""
    case = lora(["qkv", "down"], fused=True)
    expected = case.oracle().gradients()
    for layer, trace in traces_of(case, toys.collate(case.examples, padding=2)).items():
        assert_close(trace.gradient(), expected[layer])


@pytest.mark.parametrize("curvature", ["identity", "kfac", "ekfac"])
def test_all_is_base_and_adapter_together(curvature):
    """The parts sum to the whole, layer by layer: what a base layer and its A read is one tensor with one basis."""
    case = lora()
    adapter, base, both = (run_over(case, params, curvature) for params in ("adapter", "base", "all"))

    assert set(both.layers) == set(adapter.layers) | set(base.layers)
    assert not set(adapter.layers) & set(base.layers)
    assert_close(both.total, adapter.total + base.total, rtol=1e-7, atol=1e-9)
    for part in (adapter, base):
        rows = [both.layers.index(name) for name in part.layers]
        assert_close(both.by_layer[rows], part.by_layer, rtol=1e-7, atol=1e-9)


def test_an_adapter_is_what_influence_is_over_unless_told():
    case = lora()
    assert {layer.name for layer in track(case.model).layers} == set(case.layers)
    assert all("lora" not in layer.name for layer in track(case.model, params="base").layers)
    assert all(layer.name in linears(lm().model) for layer in track(lm().model).layers)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.lora_A.*", 6),
        ("*.q", 4),
        ("layers.0.attention.q", 2),
        ("*.mlp.*", 4),
        ("mlp", 4),
    ],
)
def test_a_glob_names_a_factor_or_what_it_is_on(glob, expected):
    assert len(track(lora().model, glob)) == expected


def test_a_layer_of_the_other_parameters_is_told_from_a_mistyped_one():
    case = lora()
    with pytest.raises(LayerError, match=r"no layer matches '\*\.gate'") as error:
        track(case.model, "*.gate")
    assert "--params" in error.value.hint
    with pytest.raises(LayerError, match="has no adapter") as error:
        track(lm().model, params="adapter")
    assert "--adapter" in error.value.hint


def test_coverage_accounts_for_every_parameter_of_base_and_adapter():
    case = lora()
    size = sum(p.numel() for p in case.model.parameters())
    own = sum(p.numel() for name, p in case.model.named_parameters() if ".lora_" in name)
    blocks = sum(
        part.numel() for p in lm().model.layers.modules() if isinstance(p, nn.Linear) for part in p.parameters()
    )

    for params, taken in (("adapter", own), ("base", blocks), ("all", own + blocks)):
        coverage = track(case.model, params=params).coverage
        assert sum(row.parameters for row in coverage.rows) == size
        assert sum(row.parameters for row in coverage.rows if row.tracked) == taken
    left = {row.kind: row.reason for row in track(case.model).coverage.rows if not row.tracked}
    assert "--params all" in left["base model's linear layers"]
    assert left.keys() >= {"embeddings", "norms", "output head"}


def test_factors_of_embeddings_and_head_are_left_out_by_name():
    model = with_lora(tiny.language_model(), ["q", "embedding", "head"])
    rows = {row.kind: row for row in track(model).coverage.rows}

    assert rows["adapter factors"].tracked
    assert "lookup" in rows["adapter of the embeddings"].reason
    assert "vocabulary²" in rows["adapter of the output head"].reason
    assert rows["adapter of the output head"].parameters == 2 * (6 + 7)


def test_factors_of_the_head_are_taken_when_named():
    """A head in pieces is still called once, on every position."""
    model = with_lora(tiny.language_model(), ["q", "head"])
    case = Case(model, ["head.lora_A.default", "head.lora_B.default"], toys.sequences(4), "tokens")
    expected = case.oracle().gradients()
    assert {layer.name for layer in track(model, "head").layers} == set(case.layers)
    for layer, trace in traces_of(case, toys.collate(case.examples)).items():
        assert_close(trace.gradient(), expected[layer])


def test_modules_saved_with_the_adapter_are_the_adapters():
    """The copy takes part; what it replaced takes none and is never tracked."""
    model = with_lora(tiny.language_model(), ["q"], modules_to_save=["down"])
    names = {layer.name for layer in track(model).layers}

    assert {f"layers.{n}.mlp.down.modules_to_save.default" for n in (0, 1)} < names
    assert not any("original_module" in layer.name for layer in track(model, "all", "all").layers)
    rows = {row.kind: row for row in track(model).coverage.rows}
    assert rows["layers saved with the adapter"].tracked
    assert rows["idle modules"].parameters == rows["layers saved with the adapter"].parameters

    case = Case(model, sorted(names), toys.sequences(4), "tokens")
    expected = case.oracle().gradients()
    for layer, trace in traces_of(case, toys.collate(case.examples)).items():
        assert_close(trace.gradient(), expected[layer])


def test_dora_is_refused_by_name():
    model = with_lora(tiny.language_model(), ["q"], use_dora=True)
    with pytest.raises(LayerError, match="Dora"):
        track(model)


def test_a_peft_model_from_python_is_taken_as_it_is():
    """Names begin with PEFT's own prefix; the numbers are those of the model inside."""
    import peft

    inner = tiny.huggingface("llama")
    model = peft.get_peft_model(inner, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    case = Case(model, [], toys.sequences(4, vocab=11), "tokens", exact=False)
    found = run_over(case, None, "identity")
    again = run_over(Case(model.get_base_model(), [], case.examples, "tokens"), None, "identity")

    assert found.layers[0] == "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default"
    assert_close(found.total, again.total)


def test_a_merged_adapter_has_nothing_of_its_own():
    case = lora()
    for module in case.model.modules():
        if hasattr(module, "merge"):
            module.merge()
    with pytest.raises(LayerError, match="merged"):
        track(case.model, params="adapter")
