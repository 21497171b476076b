"""Pictures from class folders and from IDX files: bytes as they are, numbers to the training set's standards."""

from __future__ import annotations

import gzip
import struct
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from whence.data import ImageData, Standards, idx_images, image_folder
from whence.data.images import read_idx, standards_of
from whence.errors import DataError, InvalidSetting
from whence.types import Data

Image = pytest.importorskip("PIL.Image")


def picture(path, size=(4, 3), colour=(10, 20, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], colour).save(path)


def idx(path, numbers, kind=8):
    numbers = np.asarray(numbers)
    head = struct.pack(f">BBBB{numbers.ndim}I", 0, 0, kind, numbers.ndim, *numbers.shape)
    raw = head + numbers.astype({8: ">u1", 12: ">i4", 13: ">f4"}[kind]).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.fixture
def pets(tmp_path):
    picture(tmp_path / "pets" / "cat" / "b.png", colour=(255, 0, 0))
    picture(tmp_path / "pets" / "cat" / "a" / "c.bmp", colour=(0, 0, 0))
    picture(tmp_path / "pets" / "dog" / "a.PNG", colour=(0, 255, 51))
    (tmp_path / "pets" / "cat" / "Thumbs.db").write_bytes(b"not a picture")
    (tmp_path / "pets" / ".hidden").mkdir()
    return tmp_path / "pets"


def whole(data):
    batches = [batch for unit in data.units for batch in data.batches(unit.number)]
    return torch.cat([batch.inputs for batch in batches])


def test_a_folder_of_class_folders_is_read_in_the_order_of_paths(pets):
    data = image_folder(pets, batch_size=2)
    assert isinstance(data, Data)
    assert data.classes == ("cat", "dog")
    assert data.targets.tolist() == [0, 0, 1]
    assert [data.name(n).removeprefix(f"{pets}/") for n in range(3)] == ["cat/a/c.bmp", "cat/b.png", "dog/a.PNG"]
    assert data.inputs.shape == (3, 3, 4, 3)
    assert data.inputs.dtype == torch.uint8
    assert data.inputs[1, :, 0, 0].tolist() == [255, 0, 0]
    (last,) = data.gather([2])
    assert last.real.shape == (1, 1)
    assert last.targets.tolist() == [1]


def test_numbers_have_mean_zero_and_deviation_one_in_each_colour(pets):
    numbers = whole(image_folder(pets)).transpose(0, 1).flatten(1)
    assert_close(numbers.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    assert_close(numbers.std(1, correction=0), torch.ones(3))


def test_other_pictures_are_brought_to_the_training_sets_standards(pets):
    train = image_folder(pets)
    test = image_folder(pets, standards=Standards(torch.tensor([0.5] * 3), torch.tensor([0.25] * 3)))
    assert_close(whole(test)[1, :, 0, 0], torch.tensor([2.0, -2.0, -2.0]))
    assert test.fingerprint != train.fingerprint, "other numbers, other fingerprint"
    some = train.take([2, 0])
    assert_close(whole(some), whole(train)[[2, 0]])
    assert some.name(0) == train.name(2)
    assert [part.sequences for part in train.split((0.67, 0.33), seed=0)] == [2, 1]


def test_pictures_are_brought_to_a_size_and_to_grey(pets):
    picture(pets / "dog" / "b.png", size=(9, 7), colour=(100, 100, 100))
    data = image_folder(pets, size=(5, 6), channels=1)
    assert data.inputs.shape == (4, 1, 5, 6)
    assert set(data.inputs[3].flatten().tolist()) == {100}


def test_standards_are_those_of_all_pixels(monkeypatch):
    """However few pictures are looked at together."""
    pixels = torch.randint(256, (7, 2, 3, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = Standards.of((pixels.double() / 255).transpose(1, 3).reshape(-1, 2))
    monkeypatch.setattr("whence.data.images.PIXELS_AT_ONCE", 50)
    found = standards_of(pixels)
    assert_close(found.mean, expected.mean)
    assert_close(found.std, expected.std)


def test_pictures_turned_by_their_camera_stand_upright(tmp_path):
    (tmp_path / "cat").mkdir()
    image = Image.new("RGB", (3, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "cat" / "a.jpg", exif=exif)
    assert image_folder(tmp_path).inputs.shape == (1, 3, 3, 2)


def broken(pets):
    (pets / "dog" / "z.png").write_bytes((pets / "dog" / "a.PNG").read_bytes()[:40])


def another_size(pets):
    picture(pets / "dog" / "z.png", size=(9, 7))


def beside(pets):
    picture(pets / "z.png")


def empty(pets):
    (pets / "fish").mkdir()


def sixteen_bits(pets):
    picture(pets / "dog" / "z.png", mode="I;16", colour=3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (broken, r"z\.png is not a picture"),
        (another_size, r"z\.png is 9 × 7 pixels.*4 × 3"),
        (beside, r"z\.png lies in no class folder"),
        (empty, "fish holds no pictures"),
        (sixteen_bits, r"z\.png has pixels of more than 8 bits"),
    ],
)
def test_what_cannot_be_used_is_refused_by_file(pets, what, message):
    what(pets)
    with pytest.raises(DataError, match=message):
        image_folder(pets)


def test_other_refusals(pets, monkeypatch):
    with pytest.raises(InvalidSetting, match="channels"):
        image_folder(pets, channels=2)
    with pytest.raises(DataError, match="not a folder"):
        image_folder(pets / "cat" / "b.png")
    with pytest.raises(InvalidSetting, match="1 colours for pictures of 3"):
        image_folder(pets, standards=Standards(torch.zeros(1), torch.ones(1)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"whence\[images\]"):
        image_folder(pets)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_as_mnist_comes(tmp_path, ending):
    pixels = np.arange(24).reshape(2, 3, 4)
    images, labels = idx(tmp_path / f"images{ending}", pixels), idx(tmp_path / f"labels{ending}", [7, 1])
    data = idx_images(images, labels)
    assert isinstance(data, ImageData)
    assert data.inputs[:, 0].tolist() == pixels.tolist()
    assert data.targets.tolist() == [7, 1]
    assert data.classes == tuple("01234567")
    assert data.name(1) == f"{images}, image 2"


def test_every_type_of_idx_is_read_in_its_byte_order(tmp_path):
    assert read_idx(idx(tmp_path / "a", [[1, -2]], 12)).tolist() == [[1, -2]]
    assert read_idx(idx(tmp_path / "b", [0.5, -2.25], 13)).tolist() == [0.5, -2.25]


def test_what_is_not_idx_or_does_not_belong_together_is_refused(tmp_path):
    images, labels = idx(tmp_path / "images", np.zeros((2, 3, 4))), idx(tmp_path / "labels", [7, 1, 2])
    with pytest.raises(DataError, match=r"labels holds 3 of uint8, not the class numbers of 2"):
        idx_images(images, labels)
    with pytest.raises(DataError, match=r"labels holds 3 of uint8, not pictures"):
        idx_images(labels, labels)
    (tmp_path / "short").write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        read_idx(tmp_path / "short")
    (tmp_path / "text").write_text("hello, world")
    with pytest.raises(DataError, match="not an IDX"):
        read_idx(tmp_path / "text")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none")


def test_pictures_are_a_training_stream(pets):
    """Fit on a folder: the same numbers as on tensors."""
    from whence.data import TensorData
    from whence.jobs.fit import fit
    from whence.tasks import Classification
    from whence.testing import convnets

    model = convnets.seeded(lambda: convnets.ResNet(1, (2, 3), 3, 2), 0, scale=0.6).float()
    data = image_folder(pets)
    tensors = TensorData(whole(data), data.targets)
    one, other = (fit(model, each, task=Classification(), labels="expected") for each in (data, tensors))
    for layer in one.blocks:
        assert_close(one.dense(layer), other.dense(layer), rtol=0, atol=0)
