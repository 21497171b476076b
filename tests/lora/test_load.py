"""An adapter from a folder is on its model whole, or refused with the reason."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from whence.errors import ModelError
from whence.models.hf import load_model
from whence.models.lora import load_adapter, without_adapter

IDS = torch.tensor([[1, 3, 5, 7, 9, 2]])


def adapted(toy, folder, dtype="float32"):
    model = load_model(toy / "model", dtype=dtype)
    return model, load_adapter(model, folder, dtype=getattr(torch, dtype))


def copied(folder, to, **changes):
    """The adapter with other words in its configuration."""
    shutil.copytree(folder, to)
    config = json.loads((to / "adapter_config.json").read_text()) | changes
    (to / "adapter_config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize("settings", [{"lora_alpha": 5}, {"use_rslora": True, "lora_dropout": 0.5}, {"lora_alpha": 1}])
def test_the_adapted_model_is_the_merged_one(toy, adapters, settings):
    """W + s · B A in one matrix: the same logits, whatever the scale; and without the adapter, the base model's."""
    import peft

    folder = adapters(f"scaled{settings}", **settings)
    model, _ = adapted(toy, folder, "float64")
    base = load_model(toy / "model", dtype="float64")
    plain = base(IDS).logits.detach().clone()
    merged = peft.PeftModel.from_pretrained(base, str(folder)).double().merge_and_unload()

    assert_close(model(IDS).logits, merged(IDS).logits, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(model(IDS).logits, plain)
    with without_adapter(model):
        assert_close(model(IDS).logits, plain)
    assert_close(model(IDS).logits, merged(IDS).logits, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_an_adapter_computes_in_what_the_model_computes_in(toy, adapters, dtype):
    model, _ = adapted(toy, adapters(), dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_loading_draws_nothing_and_trains_nothing(toy, adapters):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model, adapter = adapted(toy, adapters("pissa", init_lora_weights="pissa_niter_4"))
    again, other = adapted(toy, adapters("pissa"))

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model(IDS).logits, again(IDS).logits)
    assert adapter == other
    assert not any(module.training for module in model.modules())


def test_the_fingerprint_knows_weights_and_scales(toy, adapters, tmp_path):
    """The same tensors with another alpha are another adapter; another name for the folder is not."""
    first = adapted(toy, adapters())[1]
    renamed = adapted(toy, copied(adapters(), tmp_path / "renamed"))[1]
    scaled = adapted(toy, copied(adapters(), tmp_path / "scaled", lora_alpha=16))[1]
    drawn = adapted(toy, adapters("drawn", seed=2))[1]

    assert first.fingerprint == renamed.fingerprint
    assert len({one.fingerprint for one in (first, scaled, drawn)}) == 3


def test_an_adapter_before_its_first_step_is_idle(toy, adapters):
    assert adapted(toy, adapters("zero", scale=0))[1].idle
    assert not adapted(toy, adapters())[1].idle


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "VERA"}, "VeRA shares one random A and B"),
        ({"peft_type": "ADALORA"}, "AdaLoRA"),
        ({"peft_type": "IA3"}, "is IA3, not LoRA"),
        ({"use_dora": True}, "use_dora set: DoRA"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
        ({"target_modules": ["q_proj"]}, "has no place for"),
        ({"r": 3}, "could not be put onto the model"),
        ({"target_modules": ["query_key_value"]}, "could not be put onto the model"),
        ({"target_modules": ["q_proj", "v_proj", "down_proj", "k_proj"]}, "lacks weights"),
    ],
)
def test_what_is_not_plain_lora_of_this_model_is_refused(toy, adapters, tmp_path, changes, message):
    with pytest.raises(ModelError, match=message) as error:
        adapted(toy, copied(adapters(), tmp_path / "a", **changes))
    assert error.value.hint


def test_an_adapter_of_a_wider_model_is_refused(toy, adapters, tmp_path):
    folder = copied(adapters(), tmp_path / "a")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.cat([t, t]) for name, t in tensors.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="could not be put onto the model"):
        adapted(toy, folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "holds no adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"), "pickled"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "peft_type"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "holds no adapter_config.json"),
        (lambda folder: shutil.rmtree(folder), "no adapter folder"),
    ],
)
def test_a_folder_that_is_none_is_told(toy, adapters, tmp_path, spoil, message):
    folder = copied(adapters(), tmp_path / "a")
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        adapted(toy, folder)


def test_an_adapter_one_folder_down_is_named(toy, adapters, tmp_path):
    copied(adapters(), tmp_path / "checkpoint-5")
    with pytest.raises(ModelError) as error:
        adapted(toy, tmp_path)
    assert "checkpoint-5" in error.value.hint


def test_model_and_adapter_confused_are_told_apart(toy, adapters):
    with pytest.raises(ModelError, match="holds an adapter") as error:
        load_model(adapters())
    assert "--adapter" in error.value.hint
    with pytest.raises(ModelError, match="a model rather than an adapter"):
        adapted(toy, toy / "model")


def test_without_peft_the_line_that_installs_it_is_given(toy, adapters, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="not installed") as error:
        adapted(toy, adapters())
    assert error.value.hint == 'pip install "whence[peft]"'


def test_biases_trained_with_the_adapter_are_in_use(toy, adapters, tmp_path):
    """``bias = all`` keeps the base model's biases in the adapter's file."""
    from whence.testing import tiny
    from whence.testing.lora import save_lora

    base = tiny.huggingface("gpt2")
    base.save_pretrained(tmp_path / "base")
    trained = tiny.huggingface("gpt2", seed=5)
    trained.load_state_dict({**trained.state_dict(), **{n: p for n, p in base.state_dict().items() if "bias" not in n}})
    folder = save_lora(trained, tmp_path / "a", ["c_attn"], bias="all", fan_in_fan_out=True)
    model = load_model(tmp_path / "base", dtype="float64")
    load_adapter(model, folder, dtype=torch.float64)
    assert_close(model(IDS).logits, trained(IDS).logits, rtol=1e-5, atol=1e-5)
