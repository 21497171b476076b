"""The data whose labels are flipped, and the small nets trained on it: digits, banking questions, text messages.

No pretrained weights are used. Texts are hashed words and pairs of words, weighted by rarity, every text of one length.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from whence.data import LabelledText, TensorData, idx_images, read_labelled, split
from whence.evaluate.training import Recipe

BUCKETS = 1024
"""Places that words and pairs of words are hashed to."""
SCALE = 4.0
"""Length of a text's vector."""


@dataclass(frozen=True)
class Flippable:
    """A training set with right labels, clean sets to judge by, and how a net is trained on it."""

    name: str
    inputs: Float[Tensor, "n ..."]
    labels: Int64[Tensor, " n"]
    classes: int
    valid: TensorData
    test: TensorData
    make: Callable[[], nn.Module]
    recipe: Recipe
    net: str

    def data(self, labels: Int64[Tensor, " n"]) -> TensorData:
        """The training set under other labels."""
        return TensorData(self.inputs, labels, batch_size=512)


def mnist(shared: Path) -> Flippable:
    """MNIST's 10,000 test pictures, 70/10/20, and an MLP."""
    files = (shared / f"mnist/t10k-{kind}.gz" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    pictures = idx_images(*files)
    inputs = (pictures.inputs.float().flatten(1) / 255 - 0.1307) / 0.3081
    rows = split(len(inputs), (0.7, 0.1, 0.2), seed=0)
    return _set(
        "mnist_10k",
        [inputs[part] for part in rows],
        [pictures.targets[part] for part in rows],
        lambda width, classes: mlp(width, 64, classes),
        Recipe(learning_rate=1e-3, epochs=6, batch_size=128, weight_decay=0.01, schedule="linear"),
        "MLP 784–64–10, ReLU, 6 epochs of AdamW",
    )


def banking77(shared: Path) -> Flippable:
    """Banking77: 10,003 questions of customers in 77 classes; validation and test from its own test set."""
    folder = shared / "classification"
    train = read_labelled(folder / "banking77_train.csv.gz", label="category")
    other = read_labelled(folder / "banking77_test.csv.gz", label="category")
    if other.classes != train.classes:
        raise ValueError("the two files of Banking77 do not have the same classes")
    return _texts(
        "banking77",
        [train, *other.split((0.3, 0.7), seed=0)],
        Recipe(learning_rate=1e-2, epochs=8, batch_size=128, weight_decay=0.01, schedule="linear"),
        "linear on 1,024 hashed words and pairs, 8 epochs of AdamW",
    )


def sms_spam(shared: Path) -> Flippable:
    """SMS spam: 5,574 messages in two classes, 13 % of them spam; 70/10/20."""
    whole = read_labelled(shared / "classification/sms_spam.tsv.gz", text=1, label=0)
    return _texts(
        "sms_spam",
        list(whole.split((0.7, 0.1, 0.2), seed=0)),
        Recipe(learning_rate=1e-2, epochs=4, batch_size=128, weight_decay=0.01, schedule="linear"),
        "linear on 1,024 hashed words and pairs, 4 epochs of AdamW",
    )


SETS: dict[str, Callable[[Path], Flippable]] = {"mnist_10k": mnist, "banking77": banking77, "sms_spam": sms_spam}


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def linear(inputs: int, outputs: int) -> nn.Module:
    """None."""
    return nn.Sequential(nn.Linear(inputs, outputs))


def hashed(texts: Sequence[str], rarity: Float[Tensor, " b"] | None = None) -> tuple[Tensor, Tensor]:
    """Bags of hashed words and pairs ``[n b]`` of one length, and the rarity used (these texts', if none is given)."""
    bags = torch.zeros(len(texts), BUCKETS)
    for row, text in enumerate(texts):
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        grams = words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
        for gram, count in Counter(zlib.crc32(gram.encode()) % BUCKETS for gram in grams).items():
            bags[row, gram] = math.sqrt(count)
    if rarity is None:
        rarity = torch.log((1 + len(texts)) / (1 + (bags > 0).sum(0))) + 1
    return nn.functional.normalize(bags * rarity, dim=1) * SCALE, rarity


def _texts(name: str, parts: Sequence[LabelledText], recipe: Recipe, net: str) -> Flippable:
    train, rarity = hashed(parts[0].texts)
    inputs = [train, *(hashed(part.texts, rarity)[0] for part in parts[1:])]
    return _set(name, inputs, [part.labels for part in parts], linear, recipe, net)


def _set(
    name: str,
    inputs: Sequence[Tensor],
    labels: Sequence[Tensor],
    make: Callable[[int, int], nn.Module],
    recipe: Recipe,
    net: str,
) -> Flippable:
    classes = int(max(part.max() for part in labels)) + 1

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make(inputs[0].shape[1], classes)

    valid, test = (TensorData(x, y, batch_size=512) for x, y in zip(inputs[1:], labels[1:], strict=True))
    return Flippable(name, inputs[0], labels[0], classes, valid, test, build, recipe, net)
