"""Quantised weights have no influence to speak of; a LoRA adapter on top of them has."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.cases import Case
from tests.lora.test_laws import run_over
from torch import nn
from torch.testing import assert_close

from whence.errors import LayerError, ModelError
from whence.layers.quantised import is_quantised
from whence.layers.select import track
from whence.models.hf import load_model
from whence.testing import tiny, toys
from whence.testing.lora import with_lora


class Int8Linear(nn.Linear):
    """As bitsandbytes does it: a Linear whose weight is whole numbers, and a forward that makes floats of them."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.step = linear.weight.abs().max().item() / 127
        rounded = (linear.weight.detach() / self.step).round().to(torch.int8)
        self.weight = nn.Parameter(rounded, requires_grad=False)

    def forward(self, x):
        return x @ (self.weight.to(x.dtype) * self.step).T


class PackedLinear(nn.Module):
    """As GPTQ and AWQ do it: no Linear at all, and the weight a buffer of packed integers."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("qweight", torch.zeros(linear.out_features, 1, dtype=torch.int32))

    def forward(self, x):
        return x.new_zeros(*x.shape[:-1], self.out_features)


def quantised(kind):
    """A language model with every linear layer of its blocks rounded."""
    model = tiny.language_model(bias=False)
    for name, module in list(model.layers.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(model.layers.get_submodule(parent), child, kind(module))
    return model


@pytest.mark.parametrize("kind", [Int8Linear, PackedLinear])
@pytest.mark.parametrize("layers", ["blocks", "mlp", "*.down"])
def test_influence_of_quantised_weights_is_refused(kind, layers):
    with pytest.raises(LayerError, match=f"{kind.__name__}.*quantised") as error:
        track(quantised(kind), layers)
    assert "--adapter" in error.value.hint


def test_what_is_left_unquantised_may_be_named():
    assert [layer.name for layer in track(quantised(Int8Linear), "head").layers] == ["head"]


def test_influence_of_an_adapter_on_quantised_weights_is_that_of_its_gradients():
    """Rounded weights pass gradients on, and want none."""
    model = with_lora(quantised(Int8Linear), ["q", "down"])
    case = Case(model, [layer.name for layer in track(model).layers], toys.sequences(4), "tokens")
    expected = case.oracle().gradients()
    products = [expected[name][:3].flatten(1) @ expected[name].flatten(1).T for name in case.layers]

    found = run_over(case, None, "identity")

    assert len(case.layers) == 8
    assert_close(found.by_layer, torch.stack(products))
    assert torch.isfinite(run_over(case, None, "ekfac").total).all()
    with pytest.raises(LayerError, match="quantised"):
        track(model, params="all")


@pytest.mark.parametrize("kind", [Int8Linear, PackedLinear])
def test_coverage_counts_quantised_weights_as_the_weights_they_stand_for(kind):
    plain = tiny.language_model(bias=False)
    size = sum(p.numel() for part in plain.layers.modules() if isinstance(part, nn.Linear) for p in part.parameters())
    rows = {row.kind: row for row in track(quantised(kind), "head").coverage.rows}

    assert rows["quantised weights"].parameters == size
    assert "rounded" in rows["quantised weights"].reason


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_a_weight_of_a_byte_is_quantised(dtype):
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.zeros(2, 2).to(dtype), requires_grad=False)
    assert is_quantised(module)
    assert not any(is_quantised(nn.Linear(2, 2, dtype=kind)) for kind in (torch.bfloat16, torch.float16))


def test_a_tensor_of_a_quantising_library_is_quantised():
    """Torchao's say that they are float32."""
    tensor = type("AffineQuantizedTensor", (torch.Tensor,), {"__module__": "torchao.dtypes"})
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.zeros(2, 2).as_subclass(tensor))
    assert is_quantised(module)


def test_a_checkpoint_whose_library_is_missing_says_which(toy, tmp_path, monkeypatch):
    folder = tmp_path / "quantised"
    shutil.copytree(toy / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_4bit.is_bitsandbytes_available", lambda *_, **__: False)
    with pytest.raises(ModelError, match="bitsandbytes"):
        load_model(folder)
