"""In how many groups layers are fitted, and what interrupts which of them, changes no bit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.cases import OURS, THEIRS, Interrupted, architecture, lm

from whence.artifacts.manifest import Manifest
from whence.capture.check import verified
from whence.errors import InvalidSetting
from whence.jobs import fitting
from whence.jobs.fit import fit
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.progress import Unfinished
from whence.layers.groups import by_reads
from whence.layers.select import track
from whence.testing import toys

CUTS = (1, 2, 3)
FITTED = ("identity", "diagonal", "kfac", "ekfac")


def fitted(case, data=None, **options):
    data = data or toys.TinyData(case.examples, batch_size=2, padding=1, cuts=CUTS)
    return fit(case.model, data, task=case.task, layers=case.layers, **options)


def assert_same(one, other):
    """Order, counts, notes and noise too: what is written of them is the same file."""
    assert list(one.blocks) == list(other.blocks)
    for name, block in one.blocks.items():
        for part in ("eigenvalues", "output_basis", "input_basis"):
            mine, theirs = getattr(block, part), getattr(other.blocks[name], part)
            assert (mine is None and theirs is None) or torch.equal(mine, theirs), f"{part} of {name}"
    for said in ("counts", "notes", "noise", "reads", "pooled", "settings"):
        assert json.dumps(getattr(one, said)) == json.dumps(getattr(other, said)), said


@pytest.mark.parametrize("name", OURS)
def test_any_number_of_groups_gives_the_same_bits(name):
    case = OURS[name]()
    whole = fitted(case, samples=2)
    for groups in (2, 99):
        assert_same(whole, fitted(case, samples=2, groups=groups))


@pytest.mark.parametrize("name", [name for name in THEIRS if "tied" not in name])
def test_of_any_architecture_in_float32(name):
    case = THEIRS[name]()
    case.model.float()
    assert_same(fitted(case), fitted(case, groups=3))


@pytest.mark.parametrize("curvature", FITTED)
def test_for_every_curvature_and_on_disk(curvature, tmp_path):
    """Checksums of every file included; nothing of the groups is left."""
    case = lm()
    whole = fitted(case, curvature=curvature, folder=tmp_path / "one")
    for groups in (2, 99):
        folder = tmp_path / str(groups)
        assert_same(whole, fitted(case, curvature=curvature, groups=groups, folder=folder))
        assert Manifest.read(folder) == Manifest.read(tmp_path / "one")
        assert sorted(path.name for path in folder.iterdir()) == [*sorted(Manifest.read(folder).files), "manifest.json"]
        assert_same(whole, fitted(case, curvature=curvature, folder=folder))


def test_with_a_fused_attention_kernel():
    case = architecture("llama")
    case.model.set_attn_implementation("sdpa")
    data = toys.TinyData([toys.sequence([1 + n, 3, 5, 7, 9 - n], number=n) for n in range(4)], batch_size=2, cuts=())
    whole = fitted(case, data)
    assert_same(whole, fitted(case, data, groups=3))


@cache
def reference():
    return fitted(lm(count=8), samples=2)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("changing", [False, True], ids=["the same groups", "other groups each time"])
def test_a_fit_killed_again_and_again_gives_the_same_bits(every, changing, tmp_path):
    """In whichever group and stage; also where every attempt divides the layers otherwise."""
    case, interrupted = lm(count=8), 0
    while True:
        data = Interrupted(case.examples, batch_size=2, padding=1, cuts=CUTS).killed_after(every + 2)
        groups = 2 + interrupted // 12 if changing else 3  # each goes on long enough to finish one
        try:
            found = fitted(case, data, samples=2, groups=groups, folder=tmp_path / "c")
            break
        except KeyboardInterrupt:
            interrupted += 1
            assert interrupted < 99
    assert interrupted > 2
    assert_same(found, fitted(case, samples=2))


def test_a_finished_group_is_not_fitted_again(tmp_path, monkeypatch):
    case, seen, inner = lm(), [], fitting.run_stage

    def killed(stage, layers, *rest):
        seen.append((stage.name, len(layers)))
        if len(seen) == 3:
            raise KeyboardInterrupt
        inner(stage, layers, *rest)

    monkeypatch.setattr(fitting, "run_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(case, groups=2, folder=tmp_path / "c")
    fitted(case, groups=2, folder=tmp_path / "c")
    stages = [name for name, _ in seen]
    assert stages == ["moments", "squares", "moments", "moments", "squares"]


def test_units_in_any_order_by_any_worker_give_the_same_bits(tmp_path):
    """A worker gives its units to every group before it waits, so that two rounds do, as without groups."""
    case = lm(count=8)
    ranges = [range(0, 1), range(1, 3), range(3, 4)]
    random.Random(0).shuffle(ranges)
    for _ in range(2):
        for mine in ranges:
            with contextlib.suppress(Unfinished):
                fitted(case, samples=2, groups=3, folder=tmp_path / "c", units=mine)
    assert_same(fitted(case, samples=2, folder=tmp_path / "c"), reference())


def test_two_processes_give_the_same_bits(tmp_path):
    """Gloo, two ranks on one machine."""
    script = tmp_path / "job.py"
    script.write_text(
        "import torch\n"
        "from pathlib import Path\n"
        "from tests.laws.test_layer_groups import CUTS, fitted, lm\n"
        "from whence.world import World\n"
        f"fitted(lm(count=8), samples=2, groups=3, folder=Path({str(tmp_path / 'c')!r}), world=World.current())\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert_same(fitted(lm(count=8), samples=2, folder=tmp_path / "c"), reference())


def test_statistics_of_one_group_are_in_memory_at_a_time(monkeypatch):
    case, sizes, inner = lm(), [], fitting.run_stage

    def watch(stage, layers, *rest):
        sizes.append(sum(total.numel() for total in stage.empty().sums.values()))
        inner(stage, layers, *rest)

    monkeypatch.setattr(fitting, "run_stage", watch)
    fitted(case)
    whole = sizes.copy()
    sizes.clear()
    fitted(case, groups=99)
    assert len(sizes) > 2 * 3
    assert max(sizes) < max(whole) / 3


def test_layers_that_read_one_tensor_stay_together():
    case = lm()
    layers = verified(case.model, track(case.model, case.layers), case.task, case.examples[0]).layers
    shared = next(members for members in by_reads(layers).values() if len(members) > 1)
    for count in range(1, len(layers) + 2):
        parts = LayerGroups.count(layers, count).among(layers)
        assert len(parts) == min(count, len(by_reads(layers)))
        assert sorted(layer.name for part in parts for layer in part) == sorted(layer.name for layer in layers)
    apart = [[layer] for layer in layers]
    with pytest.raises(InvalidSetting, match=f"{shared[0].name} and .* read the same tensor"):
        fitted(case, groups=LayerGroups.of(apart))
    with pytest.raises(InvalidSetting, match="are not the"):
        fitted(case, groups=LayerGroups.of([layers[:1]]))
    with pytest.raises(InvalidSetting, match="at least 1"):
        fitted(case, groups=0)
