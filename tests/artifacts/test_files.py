"""What is on disk is whole and ours, or is refused by name."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.artifacts import (
    Manifest,
    claim,
    finished,
    load_tensors,
    map_tensors,
    mark_finished,
    open_tensors,
    require,
    save_tensors,
    verify,
)
from whence.artifacts.fingerprint import model_fingerprint, settings_fingerprint
from whence.errors import ArtifactError, ArtifactMismatch, StorageError


def manifest(**changes) -> Manifest:
    given = {
        "kind": "data",
        "schema": 1,
        "settings": {"context": 64, "limit": None},
        "made_from": {"tokenizer": "9f2c"},
    }
    return Manifest(**(given | changes))


def test_tensors_come_back_as_they_were(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": shared,
        "b": shared.T,
        "c": shared[0],
        "again": shared,
        "n": torch.tensor(3),
        "none": torch.zeros(0, 2),
    }
    save_tensors(tmp_path / "x.safetensors", tensors, {"note": "yes"})
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    mapped = map_tensors(tmp_path / "x.safetensors")
    assert all(np.array_equal(mapped[name], tensors[name].numpy()) for name in tensors)
    with open_tensors(tmp_path / "x.safetensors") as file:
        assert file.metadata() == {"note": "yes"}


@given(st.data())
def test_a_file_cut_short_does_not_open(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "x.safetensors"
    save_tensors(path, {"a": torch.arange(40)})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    for opens in (load_tensors, map_tensors):
        with pytest.raises(ArtifactError, match=r"x\.safetensors"):
            opens(path)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_cut_short_leaves_nothing_new_and_nothing_broken(tmp_path, monkeypatch, failure):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)})

    def fails(number):
        raise failure

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    if isinstance(failure, OSError):
        assert "no space left" in str(caught.value)
        assert "kept" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert torch.equal(load_tensors(tmp_path / "x.safetensors")["a"], torch.zeros(2))


def test_a_disk_that_is_truly_full_is_said_to_be(tmp_path):
    """The writer is another language's; its refusal must reach the user as ours."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_claimed_folder_is_gone_on_with(tmp_path):
    assert claim(tmp_path / "new", manifest()) is False
    assert claim(tmp_path / "new", manifest(settings={"limit": None, "context": 64})) is True


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"made_from": {"tokenizer": "41be"}}, ["belong to this tokenizer", "9f2c", "41be"]),
        ({"settings": {"context": 128, "limit": None}}, ["context = 64", "context = 128"]),
        ({"settings": {"context": 64}}, ["limit = None", "no limit"]),
        ({"made_from": {}}, ["tokenizer = 9f2c"]),
        ({"kind": "scores"}, ["holds data, not scores"]),
        ({"schema": 2}, ["older layout 1"]),
        ({"schema": 0}, ["newer whence"]),
    ],
)
def test_a_folder_of_another_run_is_refused_naming_both(tmp_path, other, says):
    claim(tmp_path, manifest())
    with pytest.raises(ArtifactError) as caught:
        claim(tmp_path, manifest(**other))
    assert all(text in str(caught.value) for text in says), caught.value
    assert caught.value.hint


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"thesis\.txt"):
        claim(tmp_path, manifest())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert claim(tmp_path, manifest(), beside=["thesis.txt"]) is False


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        claim(tmp_path / "out", manifest())


def test_finished_means_every_file_is_there(tmp_path):
    claim(tmp_path, manifest())
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)})
    assert not finished(tmp_path)
    with pytest.raises(ArtifactError, match="not finished"):
        verify(tmp_path)
    mark_finished(tmp_path, ["x.safetensors"], {"documents": 3})
    assert finished(tmp_path)
    assert verify(tmp_path).facts == {"documents": 3}
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    with pytest.raises(ArtifactError, match=r"x\.safetensors was changed"):
        verify(tmp_path)
    (tmp_path / "x.safetensors").unlink()
    assert not finished(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "data"}'])
def test_a_broken_manifest_is_an_error_of_ours(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Manifest.read(tmp_path)


def test_require_compares_what_is_given(tmp_path):
    require(tmp_path, manifest(), made_from={"tokenizer": "9f2c"}, settings={"context": 64})
    with pytest.raises(ArtifactMismatch, match="does not belong to this model"):
        require(tmp_path, manifest(), made_from={"model": "1"})


def test_a_fingerprint_sees_every_bit_of_a_model():
    module = torch.nn.Linear(3, 2)
    before = model_fingerprint(module)
    assert before == model_fingerprint(module)
    assert before != model_fingerprint(torch.nn.Linear(3, 2).bfloat16())
    with torch.no_grad():
        module.bias[1] = torch.nextafter(module.bias[1], torch.tensor(9.0))
    assert model_fingerprint(module) != before
    assert len(before) == 16


def test_settings_are_compared_by_value():
    assert settings_fingerprint({"a": (1, 2), "b": None}) == settings_fingerprint({"b": None, "a": [1, 2]})
    assert settings_fingerprint({"a": 1}) != settings_fingerprint({"a": "1"})
