"""Pictures with a class each: a folder of class folders, or IDX files as MNIST comes in.

    train = image_folder("pets/train", size=(32, 32))            # pets/train/cat/001.png …
    test = image_folder("pets/test", size=(32, 32), standards=train.standards)
    digits = idx_images("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")

Pixels are held as bytes, as in the files, and become numbers a batch at a time: 0 … 1, less each colour's mean over
its deviation. Files are read by Pillow (``whence[images]``); IDX needs nothing.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from whence.data.split import split
from whence.data.standards import Standards
from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting
from whence.types import TENSORS, Batch

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
PIXELS_AT_ONCE = 2**24
"""Pixels turned into numbers at once when standards are taken."""


class ImageData(TensorData):
    """Pictures in memory as bytes; a `Data`.

    Args:
        pixels: ``[n c h w]``: ``inputs`` of this data, as a report shows them.
        labels: Class numbers.
        classes: What they stand for.
        names: Where each picture is.
        standards: Mean and deviation of each colour, 0 … 1; taken from these pictures when not given. Give those of
            the training set to any other.
    """

    def __init__(
        self,
        pixels: UInt8[Tensor, "n c h w"],
        labels: Int64[Tensor, " n"],
        *,
        classes: Sequence[str],
        names: Sequence[str],
        standards: Standards | None = None,
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(pixels, labels, batch_size=batch_size, names=names)
        self.classes, self.dtype = tuple(classes), dtype
        self.standards = standards_of(pixels) if standards is None else standards
        if len(self.standards.mean) != pixels.shape[1]:
            raise InvalidSetting(
                f"standards of {len(self.standards.mean)} colours for pictures of {pixels.shape[1]}",
                hint="read both sets with the same number of channels",
            )

    def take(self, rows: Sequence[int] | Tensor) -> ImageData:
        """Some of the pictures, in the order given and to the same standards."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        return ImageData(
            self.inputs[index],
            self.targets[index],
            classes=self.classes,
            names=[self.name(row) for row in index.tolist()],
            standards=self.standards,
            batch_size=self.batch_size,
            dtype=self.dtype,
        )

    def split(self, shares: Sequence[float], seed: int) -> tuple[ImageData, ...]:
        """Disjoint parts, as `data.split.split` draws them."""
        return tuple(self.take(rows) for rows in split(self.sequences, shares, seed))

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | self.standards.settings

    def _batch(self, rows: Tensor) -> Batch:
        batch = super()._batch(rows)
        numbers = self.standards.apply(batch.inputs.to(self.dtype) / 255)
        return Batch(**{name: getattr(batch, name) for name in TENSORS} | {"inputs": numbers})


def standards_of(pixels: UInt8[Tensor, "n c h w"]) -> Standards:
    """Mean and deviation of each colour, in 0 … 1."""
    channels = pixels.shape[1]
    total, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for some in pixels.split(max(1, PIXELS_AT_ONCE // pixels[0].numel())):
        numbers = some.double() / 255
        total += numbers.sum((0, 2, 3))
        squares += numbers.square().sum((0, 2, 3))
    count = pixels.numel() / channels
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return Standards(mean, torch.where(std > 1e-6, std, torch.ones_like(std)))


def image_folder(
    path: Path | str,
    *,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    standards: Standards | None = None,
    batch_size: int = 32,
) -> ImageData:
    """Read a folder with a folder of pictures for each class, in the order of their paths.

    Args:
        size: ``(height, width)`` that every picture is brought to, stretched where it must be; None asks for
            pictures of one size.
        channels: 3 for colour, 1 for grey. Transparency is dropped.

    Raises:
        DataError: If a picture cannot be read, is of another size, lies in no class folder, or a class has none; if
            Pillow is not installed.
        InvalidSetting: If ``channels`` is neither 1 nor 3.
    """
    root = Path(path).expanduser()
    if channels not in (1, 3):
        raise InvalidSetting(f"channels must be 3 (colour) or 1 (grey), not {channels}")
    if not root.is_dir():
        raise DataError(f"{path} is not a folder", hint="give the folder that holds a folder for each class")
    astray = [file for file in _visible(root) if file.is_file() and file.suffix.lower() in SUFFIXES]
    if astray:
        raise DataError(f"{astray[0]} lies in no class folder", hint="move it into the folder of its class")
    classes = [folder for folder in _visible(root) if folder.is_dir()]
    files = [(file, number) for number, folder in enumerate(classes) for file in _pictures(folder)]
    if not files:
        raise DataError(f"{path} holds no class folders", hint="put each picture in a folder named after its class")
    pixels: list[Tensor] = []
    for file, _ in files:
        picture = _decoded(file, size, channels)
        if pixels and picture.shape != pixels[0].shape:
            raise DataError(
                f"{file} is {picture.shape[1]} × {picture.shape[2]} pixels, {files[0][0]} {pixels[0].shape[1]} × "
                f"{pixels[0].shape[2]}",
                hint="give a size (height, width) to bring all of them to",
            )
        pixels.append(picture)
    return ImageData(
        torch.stack(pixels),
        torch.tensor([number for _, number in files]),
        classes=[folder.name for folder in classes],
        names=[str(file) for file, _ in files],
        standards=standards,
        batch_size=batch_size,
    )


def idx_images(
    images: Path | str, labels: Path | str, *, standards: Standards | None = None, batch_size: int = 32
) -> ImageData:
    """Read pictures ``[n h w]`` of grey bytes and their class numbers from two IDX files, gzipped or not.

    Raises:
        DataError: If a file is not IDX or is cut short, or the two do not belong together.
    """
    pixels, numbers = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or pixels.dtype != torch.uint8:
        raise DataError(f"{images} holds {_shape(pixels)}, not pictures [n h w] of bytes")
    if numbers.ndim != 1 or len(numbers) != len(pixels) or numbers.is_floating_point() or int(numbers.min()) < 0:
        raise DataError(
            f"{labels} holds {_shape(numbers)}, not the class numbers of {len(pixels)} pictures",
            hint="give the labels that came with the pictures",
        )
    return ImageData(
        pixels[:, None],
        numbers.long(),
        classes=[str(number) for number in range(int(numbers.max()) + 1)],
        names=[f"{images}, image {number}" for number in range(1, len(pixels) + 1)],
        standards=standards,
        batch_size=batch_size,
    )


_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path | str) -> Tensor:
    """An IDX file: two zero bytes, the type, the number of axes, their sizes big-endian, the numbers.

    Raises:
        DataError: If it cannot be read, is something else, or is cut short.
    """
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="check the file and its permissions") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX or raw[3] == 0:
        raise DataError(f"{path} is not an IDX file", hint="MNIST's are called …-idx3-ubyte and …-idx1-ubyte")
    kind, start = np.dtype(_IDX[raw[2]]), 4 + 4 * raw[3]
    shape = [int(size) for size in np.frombuffer(raw[4:start], ">u4")]
    if len(shape) != raw[3] or len(raw) - start != int(np.prod(shape)) * kind.itemsize:
        raise DataError(
            f"{path} is cut short: {len(raw)} bytes for {' × '.join(map(str, shape))}", hint="fetch it again"
        )
    numbers = np.frombuffer(raw, kind, offset=start).reshape(shape)
    return torch.from_numpy(numbers.astype(kind.newbyteorder("=")))


def _visible(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise DataError(f"{folder} holds no pictures", hint=f"files ending in {', '.join(SUFFIXES)} are read")
    yield from found


def _decoded(file: Path, size: tuple[int, int] | None, channels: int) -> UInt8[Tensor, "c h w"]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError("reading pictures needs Pillow", hint='pip install "whence[images]"') from error
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # 16 bits or more: eight of them would be cut off
                raise DataError(f"{file} has pixels of more than 8 bits", hint="convert it to 8 bits a colour")
            upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
            if size is not None and upright.size != size[::-1]:
                upright = upright.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.array(upright)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # a broken PNG is a SyntaxError to Pillow
        raise DataError(
            f"{file} is not a picture that can be read: {error}", hint="remove it, or save it anew"
        ) from error
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1).contiguous()


def _shape(tensor: Tensor) -> str:
    return f"{' × '.join(map(str, tensor.shape))} of {str(tensor.dtype).removeprefix('torch.')}"
