"""The nets and data of the accuracy figures: tables, digits with a plain and a residual net, a small language model.

Sizes are what two processor cores retrain in minutes. Where they are smaller than the paper's it is said in `note`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.accuracy.training import Trained, train
from whence.data.images import idx_images
from whence.data.tabular import read_table
from whence.data.tensors import TensorData
from whence.tasks import CausalLM, Classification, Regression
from whence.testing.convnets import ResNet
from whence.types import Task

SHARES = (0.7, 0.2, 0.1)
PICTURES = 2_000


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
    steps: int = 300
    """Of PBRF's first round."""
    ablate: bool = True
    """Whether the exact solve is cheap enough here to follow the accuracy through the approximations."""

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
    parts = whole.split(SHARES, seed=0)
    standards = parts[0].standards()
    data, valid, test = (part.data(standards, batch_size=1024) for part in parts)
    width = data.inputs.shape[1]
    trained = train(lambda: mlp(width, 128, 1, nn.Tanh), Regression(), data, valid, epochs=60)
    return Problem(name, trained, Regression(), data, test, "all", 25, 10, "MLP 2×128 tanh; 60 epochs")


def digits(shared: Path) -> Problem:
    """MNIST pictures at half size with MLP 2 × 256 ReLU."""
    data, valid, test = _digits(shared, flat=True)
    trained = train(lambda: mlp(196, 256, 10, nn.ReLU), Classification(), data, valid, epochs=15, rates=(0.03, 0.1))
    note = "MLP 2×256 ReLU, 14×14 pictures, 1,400 of them; 15 epochs"
    return Problem("mnist_mlp", trained, Classification(), data, test, "all", 12, 10, note, ablate=False)


def residual(shared: Path) -> Problem:
    """The same digits at half size with a narrow ResNet-20 (batch norm in eval mode)."""
    data, valid, test = _digits(shared, flat=False)
    trained = train(
        lambda: ResNet(3, (4, 8, 16), 1, 10), Classification(), data, valid, epochs=12, rates=(0.1,), decays=(1e-4,)
    )
    note = "ResNet-20, widths 4/8/16, 14×14 pictures, 1,400 of them; 12 epochs"
    return Problem("mnist_resnet20", trained, Classification(), data, test, "all", 12, 10, note, ablate=False)


def language(shared: Path) -> Problem:
    """A byte-level Llama of two blocks on windows of TinyStories."""
    from transformers import LlamaConfig, LlamaForCausalLM

    text = gzip.decompress((shared / "text/tinystories_2MiB.txt.gz").read_bytes())[: 400 * 64]
    windows = torch.tensor(list(text)).view(-1, 64)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    parts = windows[order].split([256, 80, 64])
    data, valid, test = (_tokens(part) for part in parts)

    def make() -> nn.Module:
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=88,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=256,
            max_position_embeddings=64,
            tie_word_embeddings=False,
            attn_implementation="eager",
        )
        return LlamaForCausalLM(config)

    trained = train(make, CausalLM(), data, valid, epochs=40, rates=(0.003, 0.01), decays=(1e-4,))
    note = "byte-level Llama, width 32, 2 blocks, 256 windows of 64 bytes of TinyStories; 40 epochs"
    return Problem("tinystories_lm", trained, CausalLM(), data, test, "blocks", 12, 10, note, ablate=False)


PROBLEMS: dict[str, Callable[[Path], Problem]] = {
    "concrete": lambda shared: table(shared, "concrete"),
    "energy": lambda shared: table(shared, "energy"),
    "parkinsons": lambda shared: table(shared, "parkinsons", drop=(0,)),
    "wine": lambda shared: table(shared, "wine", target=10),
    "mnist_mlp": digits,
    "mnist_resnet20": residual,
    "tinystories_lm": language,
}


def _digits(shared: Path, *, flat: bool) -> list[TensorData]:
    files = (shared / f"mnist/t10k-{kind}.gz" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    pictures = idx_images(*files)
    pixels = functional.avg_pool2d((pictures.inputs[:PICTURES].float() / 255 - 0.1307) / 0.3081, 2)
    inputs = pixels.flatten(1) if flat else pixels
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    sizes = [round(share * len(inputs)) for share in SHARES]
    return [TensorData(inputs[rows], pictures.targets[rows], batch_size=512) for rows in order.split(sizes)]


def _tokens(windows: Tensor) -> TensorData:
    scored = torch.ones_like(windows, dtype=torch.bool)
    scored[:, -1] = False
    targets = torch.where(scored, windows.roll(-1, 1), 0)
    return TensorData(windows, targets, batch_size=64, real=torch.ones_like(scored), scored=scored)
