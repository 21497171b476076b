"""A curvature kept in bfloat16: half the bytes, nearly the same ranking, and the same numbers when read again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from whence.jobs.run import run
from whence.jobs.settings import RunSettings


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def test_bfloat16_bases_halve_the_disk_and_keep_the_ranking(toy, tmp_path):
    settings = RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), batch_tokens=64
    )
    full = run(tmp_path / "full", settings, stop_after="score")
    half = run(tmp_path / "half", replace(settings, store="bfloat16"), stop_after="score")

    assert size(tmp_path / "half" / "curvature") < 0.7 * size(tmp_path / "full" / "curvature")  # headers do not shrink
    for ours, theirs in zip(half.documents, full.documents, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.99

    again = run(tmp_path / "half", replace(settings, store="bfloat16"), stop_after="score")
    assert np.array_equal(again.documents, half.documents)
    assert str(again.session.curvature.fingerprint) == str(half.session.curvature.fingerprint)


def test_scores_per_copy_divide_by_the_whole_data_also_where_part_was_read(toy, tmp_path):
    settings = RunSettings(
        model=str(toy / "model"), train=str(toy / "train.jsonl"), query=str(toy / "ask.jsonl"), batch_tokens=64
    )
    whole = run(tmp_path / "whole", settings, stop_after="prepare")
    part = run(tmp_path / "part", replace(settings, limit=5), stop_after="prepare")

    assert part.session.store.documents == 5
    assert part.train_size == whole.train_size == whole.session.store.sequences
