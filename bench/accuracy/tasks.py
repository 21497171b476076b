"""The nets and data of the accuracy figures: tables, digits with a plain and a residual net, a small language model.

Sizes are what one processor core judges in minutes, with an exact solve to compare with. Where they are smaller than
the paper's it is said in `note`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.accuracy.training import SGD, Trained, train
from whence.data.images import idx_images
from whence.data.tabular import read_table
from whence.data.tensors import TensorData
from whence.evaluate.training import Recipe
from whence.tasks import CausalLM, Classification, Regression
from whence.testing.convnets import ResNet
from whence.testing.tiny import TinyLM
from whence.types import Task

SHARES = (0.7, 0.2, 0.1)
SWEEP = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Damping, times the mean eigenvalue of a layer."""
PICTURES, FEW_PICTURES, ROWS = 1_500, 500, 2_000
"""At most, of a set; few where every product is dear."""
SYMBOLS = '\n abcdefghijklmnopqrstuvwxyz.,!"?'
"""Of the language model; an apostrophe or whatever else is read as the last."""


@dataclass(frozen=True)
class Problem:
    """One row of the figures."""

    name: str
    trained: Trained
    task: Task
    data: TensorData
    test: TensorData
    layers: str
    points: int
    """Training points that PBRF is solved for."""
    queries: int
    note: str
    outputs: int
    """Numbers at a position."""
    solved_at: tuple[float, ...] = (0.1,)
    """Multiples of the mean eigenvalue at which PBRF is solved."""
    most: int = 40
    """Gradients that a solve of PBRF may take."""
    deep: int = 5
    """Times N: the second depth that LiSSA is run to; 0 leaves it out."""
    streamed: bool = False
    """Whether the Gauss-Newton matrix is summed up a sequence at a time: many positions, few weights."""

    @property
    def model(self) -> nn.Module:
        return self.trained.model


def mlp(inputs: int, hidden: int, outputs: int, activation: type[nn.Module]) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, outputs)
    )


def table(shared: Path, name: str, target: int = -1, drop: tuple[int, ...] = ()) -> Problem:
    """A UCI regression with MLP 2 × 128 tanh; inputs and target standardised."""
    whole = read_table(shared / f"regression/{name}_data.csv.gz", target=target, drop=drop)
    share = min(1.0, ROWS / len(whole.inputs))
    parts = whole.split(tuple(share * one for one in SHARES) + ((1 - share,) if share < 1 else ()), seed=0)[:3]
    standards = parts[0].standards()
    data, valid, test = (part.data(standards, batch_size=2048) for part in parts)
    width = data.inputs.shape[1]
    trained = train(lambda: mlp(width, 128, 1, nn.Tanh), Regression(), data, valid, SGD)
    note = "MLP 2×128 tanh, 60 epochs" + (f"; {ROWS:,} of the {len(whole.inputs):,} rows" if share < 1 else "")
    return Problem(name, trained, Regression(), data, test, "all", 200, 10, note, 1, solved_at=SWEEP[1:], most=120)


def digits(shared: Path) -> Problem:
    """MNIST pictures at half size with MLP 2 × 256 ReLU."""
    data, valid, test = _digits(shared, PICTURES, flat=True)
    trained = train(
        lambda: mlp(196, 256, 10, nn.ReLU), Classification(), data, valid, replace(SGD, epochs=15), rates=(0.03, 0.1)
    )
    note = f"MLP 2×256 ReLU, 15 epochs; {PICTURES:,} of the 10,000 pictures, at 14×14"
    return Problem("mnist_mlp", trained, Classification(), data, test, "all", 25, 10, note, 10, solved_at=(0.1, 10.0))


def residual(shared: Path) -> Problem:
    """The same digits at half size with a narrow ResNet-20 (batch norm in eval mode)."""
    data, valid, test = _digits(shared, FEW_PICTURES, flat=False)
    trained = train(
        lambda: ResNet(3, (4, 8, 16), 1, 10),
        Classification(),
        data,
        valid,
        replace(SGD, epochs=20),
        rates=(0.1,),
        decays=(1e-4,),
    )
    note = f"ResNet-20 of widths 4/8/16, 20 epochs; {FEW_PICTURES:,} of the 10,000 pictures, at 14×14"
    return Problem("mnist_resnet20", trained, Classification(), data, test, "all", 25, 5, note, 10, most=16, deep=0)


def language(shared: Path) -> Problem:
    """A transformer of two narrow blocks on windows of TinyStories, a letter a token."""
    text = gzip.decompress((shared / "text/tinystories_2MiB.txt.gz").read_bytes()).decode()[:20_000].lower()
    letters = torch.tensor([SYMBOLS.find(letter) % len(SYMBOLS) for letter in text])
    windows = letters[: 288 * 32].view(-1, 32)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    data, valid, test = (_tokens(part) for part in windows[order].split([160, 64, 64]))

    def make() -> nn.Module:
        model = TinyLM(vocab=len(SYMBOLS), width=16, heads=2, hidden=44, blocks=2, context=32, bias=False)
        for embedding in (model.embedding, model.positions):
            nn.init.normal_(embedding.weight, std=0.02)  # GPT-2's: with torch's 1 it learns windows by heart
        return model

    adam = Recipe(learning_rate=0.01, epochs=30, batch_size=16, betas=(0.9, 0.95), schedule="cosine", clip=5.0)
    trained = train(make, CausalLM(), data, valid, adam, rates=(0.003, 0.01), decays=(1e-4,))
    note = "transformer of 2 blocks, width 16, AdamW, batch 16, 30 epochs; 160 windows of 32 letters of TinyStories"
    size = len(SYMBOLS)
    return Problem(
        "tinystories_lm", trained, CausalLM(), data, test, "blocks", 25, 10, note, size, (0.1, 10.0), streamed=True
    )


PROBLEMS: dict[str, Callable[[Path], Problem]] = {
    "concrete": lambda shared: table(shared, "concrete"),
    "energy": lambda shared: table(shared, "energy"),
    "parkinsons": lambda shared: table(shared, "parkinsons", drop=(0,)),
    "wine": lambda shared: table(shared, "wine", target=10),
    "mnist_mlp": digits,
    "mnist_resnet20": residual,
    "tinystories_lm": language,
}


def _digits(shared: Path, count: int, *, flat: bool) -> list[TensorData]:
    files = (shared / f"mnist/t10k-{kind}.gz" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    pictures = idx_images(*files)
    pixels = functional.avg_pool2d((pictures.inputs[:count].float() / 255 - 0.1307) / 0.3081, 2)
    inputs = pixels.flatten(1) if flat else pixels
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    sizes = [round(share * len(inputs)) for share in SHARES]
    return [TensorData(inputs[rows], pictures.targets[rows], batch_size=512) for rows in order.split(sizes)]


def _tokens(windows: Tensor) -> TensorData:
    scored = torch.ones_like(windows, dtype=torch.bool)
    scored[:, -1] = False
    targets = torch.where(scored, windows.roll(-1, 1), 0)
    return TensorData(windows, targets, batch_size=64, real=torch.ones_like(scored), scored=scored)
