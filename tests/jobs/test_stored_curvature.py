"""A curvature on disk is what was fitted, or it is refused."""

import pytest
import torch

from whence.data.tensors import TensorData
from whence.errors import ArtifactError
from whence.jobs.fit import fit
from whence.jobs.stored_curvature import load_curvature
from whence.tasks import Classification
from whence.testing.tiny import mlp


@pytest.fixture
def folder(tmp_path):
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 4, generator=draw, dtype=torch.float64)
    data = TensorData(inputs, torch.randint(3, (24,), generator=draw), batch_size=8)
    fit(mlp(4, 5, 3), data, task=Classification(), layers="all", folder=tmp_path / "curvature")
    return tmp_path / "curvature"


def test_a_changed_byte_is_found_when_the_curvature_is_read(folder):
    path = folder / "layer-0001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    load_curvature(folder)

    path.write_bytes(content)

    with pytest.raises(ArtifactError, match=r"layer-0001.safetensors was changed"):
        load_curvature(folder)


def test_a_missing_file_is_named(folder):
    (folder / "input-0000.safetensors").unlink()

    with pytest.raises(ArtifactError, match=r"input-0000.safetensors is missing"):
        load_curvature(folder)
