"""A limit of memory: what is planned for it fits, what is run is what was planned, and no fit depends on it."""

from __future__ import annotations

import json

import pytest
import torch
from tests.plan.measured import WITHIN, measured

from whence.artifacts.tensors import load_tensors
from whence.errors import InvalidSetting
from whence.jobs.memory import NAME
from whence.jobs.plan import machine, plan, sinks, subject
from whence.jobs.plan.probe import Seconds
from whence.jobs.plan.view import SLACK
from whence.jobs.plan.within import halvings
from whence.jobs.run import run
from whence.jobs.settings import RunSettings
from whence.jobs.sizes import bytes_of

BASE = 10_000_000
"""Bytes that the model is said to take: those of this process are many and not always the same."""


@pytest.fixture(scope="module", autouse=True)
def _still():
    """No clock, and a process of one size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "resident", lambda device: BASE)
        for module in (machine, sinks):
            patch.setattr(module, "timed", lambda run, device, repeats=2: Seconds(1e-6, 1e-6))
        yield


@pytest.fixture(scope="module")
def wide(toy, tmp_path_factory):
    """The toy's text with a model whose statistics outweigh its activations, and one layer all others."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(toy / "model", folder)
    config = LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2})
    config.head_dim = 32
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def settings(toy, wide):
    return RunSettings(
        model=str(wide), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), top=2, batch_tokens=64
    )


def megabytes(alive: int) -> str:
    return f"{(BASE + SLACK * alive) / 1e6:.3f}MB"


@pytest.fixture(scope="module")
def tight(settings):
    """The settings of a fit with memory for part of what it would take at once, and its plan."""
    free = settings.replace(query=None)
    whole = max(one.memory for one in plan(free.replace(memory="1GB")).passes)
    limited = free.replace(memory=megabytes(int(0.65 * whole)))
    return limited, plan(limited)


def test_a_plan_stays_within_its_limit(settings, tight):
    limited, found = tight
    assert found.peak_memory <= bytes_of(limited.memory)
    groups = found.to_dict()["chosen"]["groups"]
    assert len(groups) > 1
    assert f"layers in {len(groups)} groups" in found.text()
    moments = next(one for one in found.passes if one.name == "fit: moments")
    assert moments.passes == len(groups)
    assert moments.tokens == len(groups) * found.tokens


def test_a_run_is_what_was_planned_and_changes_no_bit_of_the_fit(tight, tmp_path):
    """And its measured memory is near what was planned."""
    limited, planned = tight
    chosen = planned.chosen
    done = run(tmp_path / "r", limited, stop_after="fit")
    assert json.loads((tmp_path / "r" / NAME).read_text())["groups"] == planned.to_dict()["chosen"]["groups"]
    assert done.session.settings.batch_tokens == chosen.batch_tokens
    assert run(tmp_path / "r", limited, stop_after="fit").session.groups == chosen.groups

    free = limited.replace(memory=None, batch_tokens=chosen.batch_tokens)
    run(tmp_path / "free", free, stop_after="fit")
    ours, theirs = (
        {path.name: load_tensors(path) for path in sorted((tmp_path / name / "curvature").glob("*.safetensors"))}
        for name in ("r", "free")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[file][name], theirs[file][name]) for file in ours for name in ours[file])

    found = measured(tmp_path / "measured", free, groups=chosen.groups)
    for one in planned.passes:
        if one.name in found:
            assert one.memory == pytest.approx(found[one.name].memory, rel=WITHIN), one.name


def test_a_layer_that_does_not_fit_is_named_with_what_it_needs(settings, tmp_path):
    fit = settings.replace(query=None)
    with pytest.raises(InvalidSetting) as refused:
        run(tmp_path / "r", fit.replace(memory="11MB"), stop_after="fit")
    assert "mlp.down_proj" in refused.value.message or "mlp.gate_proj and" in refused.value.message
    for words in ("needs", "of it to begin with", "memory is 11 MB"):
        assert words in refused.value.message
    assert "--layers" in refused.value.hint
    assert not (tmp_path / "r" / "data").exists(), "before the first pass"
    least = refused.value.hint.rsplit(" ", 1)[1]
    assert len(plan(fit.replace(memory=least)).chosen.groups) > 1


def test_a_whole_run_within_a_limit(settings, tight, tmp_path):
    """To the report, and once more: batches and groups are those of the first time."""
    asking = settings.replace(memory=tight[0].memory)
    done = run(tmp_path / "r", asking)
    assert (tmp_path / "r" / "report.html").exists()
    assert len(done.session.groups) > 1
    again = RunSettings.from_toml(tmp_path / "r" / "settings.toml")
    assert again.memory == asking.memory
    assert run(tmp_path / "r", again, stop_after="score").session.asked == done.session.asked


def test_batches_are_halved_down_to_one_of_the_longest():
    assert halvings(64, 16) == [64, 32, 16]
    assert halvings(64, 100) == [64]


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "0", "16 bananas"])
def test_a_size_that_is_none_is_refused(settings, text):
    with pytest.raises(InvalidSetting, match="no size of memory"):
        settings.replace(memory=text)


def test_the_command_plans_within_a_limit(settings, tight, capsys):
    from whence.cli import main

    flags = ["--model", settings.model, "--train", settings.train, "--memory", tight[0].memory]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--json", *flags])
    assert ended.value.code == 0
    page = json.loads(capsys.readouterr().out)
    assert page["memory"]["peak"] <= page["chosen"]["memory"]
    assert len(page["chosen"]["groups"]) > 1
    for asked, unlike in (("60GB", "iB"), ("60GiB", "GB")):  # sizes are said in units of the kind that was asked in
        with pytest.raises(SystemExit) as ended:
            main(["plan", *flags[:-1], asked])
        told = capsys.readouterr().out
        assert f"to stay within {asked.replace('G', ' G')}:" in told
        assert unlike not in told
    with pytest.raises(SystemExit) as ended:
        main(["plan", *flags[:-1], "10.1MB"])
    assert ended.value.code == 1
    assert "needs" in capsys.readouterr().err
