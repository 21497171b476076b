"""A run over an adapter, at the command line: begun, gone on with, asked again, and refused with another adapter."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
import torch
from tests.cli.conftest import whence  # noqa: F401 (a fixture)

from whence.artifacts.tensors import load_tensors
from whence.jobs.model import base_model, put_adapter
from whence.jobs.run import run
from whence.jobs.settings import RunSettings
from whence.layers.select import track


@pytest.fixture(scope="module")
def settings(toy, adapters):
    return RunSettings(
        model=str(toy / "model"),
        adapter=str(adapters()),
        train=str(toy / "train.jsonl"),
        query=str(toy / "ask.jsonl"),
        top=3,
        batch_tokens=64,
    )


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    return run(tmp_path_factory.mktemp("run") / "r", settings)


def test_the_command_runs_over_the_adapter_and_goes_on(whence, toy, adapters, tmp_path):  # noqa: F811
    folder = tmp_path / "r"
    line = ["--model", toy / "model", "--adapter", adapters(), "--train", toy / "train.jsonl"]
    asked = ["--ask", "the capital of france is", "--answer", " paris"]

    first = whence("run", folder, *line, *asked, "--top", 2, "--json")
    assert first.code == 0, first.err
    assert "adapter: the loss of the first 10 sequences is" in first.err
    assert "adapter factors" not in first.err  # what is tracked needs no reason
    assert "base model's linear layers" in first.err
    assert (folder / "report.html").exists()
    text = (folder / "settings.toml").read_text()
    assert f'adapter = "{adapters()}"' in text
    manifest = json.loads((folder / "curvature" / "manifest.json").read_text())
    assert manifest["settings"]["params"] == "adapter"
    assert set(manifest["made_from"]) == {"model", "tokenizer", "adapter", "data"}
    assert all(".lora_" in name for name in manifest["facts"]["reads"])

    times = {path: path.stat().st_mtime_ns for path in (folder / "curvature").iterdir()}
    again = whence("score", folder, "--ask", "a cat sat on", "--answer", " mat", "--json")
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in (folder / "curvature").iterdir()} == times
    assert whence("report", folder).code == 0


def test_what_is_shown_of_an_adapter_adds_up(done):
    """Report, explanation and table speak of one number."""
    from whence.jobs.explain import explain, full_rank_query

    session = done.session
    full = full_rank_query(session.curvature, session.model, session.parts_of(0), session.task)
    (shown,) = explain(session.curvature, session.model, full, session.store, [0], session.task)
    scale = abs(shown.by_layer_token).sum()
    assert abs(shown.raw - done.documents[0, 0]) < 1e-4 * scale
    assert abs(shown.output_tokens.sum() - shown.raw) < 1e-4 * scale


@pytest.mark.parametrize("change", ["weights", "scale", "none"])
def test_another_adapter_is_refused_naming_both(whence, settings, done, tmp_path, change):  # noqa: F811
    other = tmp_path / "other"
    shutil.copytree(settings.adapter, other)
    if change == "weights":
        from safetensors.torch import save_file

        tensors = load_tensors(other / "adapter_model.safetensors")
        save_file({name: tensor * 2 for name, tensor in tensors.items()}, other / "adapter_model.safetensors")
    if change == "scale":
        config = json.loads((other / "adapter_config.json").read_text())
        (other / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 32}))
    if change == "none":
        (tmp_path / "s.toml").write_text(settings.replace(adapter=None).to_toml())
        refused = whence("run", done.folder, "--settings", tmp_path / "s.toml")
        assert "no adapter" in refused.err
    else:
        refused = whence("run", done.folder, "--adapter", other)
        assert str(other) in refused.err
    assert refused.code == 1
    assert settings.adapter in refused.err
    assert "Traceback" not in refused.err


def test_the_report_names_model_and_adapter(done, settings):
    page = done.report.read_text()
    assert "<title>Influence on" in page
    assert "model + adapter</title>" in page
    assert settings.adapter not in page
    assert done.session.digests["adapter"] in page


@pytest.mark.parametrize("extra", [{"modules_to_save": ["lm_head"]}, {"targets": ["q_proj", "lm_head"]}], ids=str)
def test_a_head_trained_with_the_adapter_is_used_and_named(settings, adapters, tmp_path, extra):
    """What the head became is part of the model; its factor is left out unless it is named."""
    folder = adapters(f"head{list(extra)}", **extra)
    short = settings.replace(adapter=str(folder), limit=5, query=None, ask="a cat sat on", answer=" mat")
    found = run(tmp_path / "r", short, stop_after="score").session
    assert not any("lm_head" in name for name in found.curvature.blocks)
    kinds = [row.kind for row in track(found.model).coverage.rows if not row.tracked]
    assert "adapter of the output head" in kinds
    whole = run(tmp_path / "whole", short.replace(layers=("blocks", "lm_head")), stop_after="score").session
    assert any("lm_head" in name for name in whole.curvature.blocks)


def test_other_parameters_are_another_fit(whence, done):  # noqa: F811
    refused = whence("fit", done.folder, "--params", "all")
    assert refused.code == 1
    assert 'params = "adapter"' in refused.err
    assert 'params = "all"' in refused.err


def test_an_adapter_that_does_nothing_is_refused_before_anything_is_written(whence, toy, adapters, tmp_path):  # noqa: F811
    line = ["--model", toy / "model", "--train", toy / "train.jsonl", "--ask", "a cat", "--answer", " sat"]
    refused = whence("run", tmp_path / "r", *line, "--adapter", adapters("zero", scale=0))
    assert refused.code == 1
    assert "every one of its B factors is zero" in refused.err
    assert not (tmp_path / "r").exists()
    refused = whence("run", tmp_path / "r", *line, "--params", "adapter")
    assert (refused.code, "there is no adapter" in refused.err) == (1, True)


def test_all_parameters_run_too(settings, tmp_path):
    chosen = settings.replace(params="all", limit=5, query=None, ask="a cat sat on", answer=" mat")
    layers = run(tmp_path / "r", chosen, stop_after="score").session.curvature.blocks
    assert {name.rpartition(".")[2] for name in layers} == {
        "default",
        "base_layer",
        "k_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
    }


def test_a_plan_knows_the_adapter(settings, monkeypatch):
    import whence.jobs.plan.job as job

    planned = []
    monkeypatch.setattr(job, "plan_for", lambda model, *_, params, **__: planned.append((model, params)))
    job.plan(settings.replace(params="adapter"))
    ((model, params),) = planned
    assert params == "adapter"
    assert any(".lora_" in name for name, _ in model.named_parameters())


def test_show_knows_the_adapter(whence, toy, adapters):  # noqa: F811
    shown = whence("show", "--model", toy / "model", "--adapter", adapters(), "--layers")
    assert shown.code == 0, shown.err
    assert "q_proj.lora_A" in shown.out
    assert "base model's linear layers" in shown.out


@pytest.mark.parametrize("width", [60, 80])
def test_a_layer_s_name_is_broken_between_its_words(whence, toy, adapters, monkeypatch, width):  # noqa: F811
    monkeypatch.setenv("COLUMNS", str(width))
    page = whence("show", "--model", toy / "model", "--adapter", adapters(), "--layers").out
    first, *rest = [line.split("  ")[0] for line in page.split("share\n")[1].split("\n\n")[0].splitlines()]
    assert max(map(len, page.splitlines())) <= width
    assert len(rest) > 6  # that is, some are broken
    names = first + "".join(line if line.startswith(".") else f" {line}" for line in rest)
    ends = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
    halves = ("lora_A", "lora_B")
    assert names.split() == [f"model.layers.{{0-1}}.{end}.{half}.default" for end in ends for half in halves]


def test_pbrf_judges_a_run_over_an_adapter(whence, done, monkeypatch, tmp_path):  # noqa: F811
    """Every other weight is held; what would retrain whole models is refused."""
    import whence.jobs.validation.points as jobs

    monkeypatch.setattr(jobs, "pbrf", partial(jobs.pbrf, most=2))
    found = whence("validate", "pbrf", done.folder, "--count", 3, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["check"] == "pbrf"
    (tmp_path / "recipe.toml").write_text("")
    refused = whence("validate", "lds", done.folder, "--recipe", tmp_path / "recipe.toml")
    assert (refused.code, "was of an adapter" in refused.err) == (1, True)


def test_the_settings_model_is_the_adapted_one(settings):
    model = base_model(settings)
    plain = model(torch.tensor([[1, 3, 5]])).logits.detach().clone()
    put_adapter(model, settings)
    assert not torch.allclose(model(torch.tensor([[1, 3, 5]])).logits, plain)
