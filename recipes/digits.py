"""A residual net on digits, and which training pictures help and harm its reading of a test picture.

    python recipes/digits.py digits/t10k-images-idx3-ubyte.gz --out digits.safetensors
    whence value runs/digits --model recipes/digits.py:make --weights digits.safetensors \\
        --train 'digits/t10k-images-idx3-ubyte.gz#[0:4000]' \\
        --valid 'digits/t10k-images-idx3-ubyte.gz#[4507:4512]' --each
    whence self runs/digits --labels

The first trains on rows 0 to 3,999 and names the test pictures that it gets wrong: good ones to ask about. The second
writes runs/digits/report.html. The net has ResNet-18's layout (four stages of two blocks) at an eighth of its width,
on pictures of half the size, so that a processor trains it in a minute or two. Any folder of class folders of
pictures can take the digits' place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from whence.data.examples import Reading, read_examples
from whence.testing.convnets import ResNet

EPOCHS, BATCH, RATE = 4, 64, 3e-3


def make() -> nn.Module:
    """The net, untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(2), ResNet(2, (8, 16, 32, 64), channels=1, classes=10))


def train(images: str, count: int, out: Path) -> None:
    """Fit the net to the first ``count`` pictures and write its weights."""
    reading = Reading(outputs=lambda _: 10, channels=1)
    examples = read_examples(f"{images}#[0:{count}]", reading)
    net = make().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    draw = torch.Generator().manual_seed(0)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(count, generator=draw).split(BATCH):
            (batch,) = examples.data.gather(rows.tolist())
            loss = nn.functional.cross_entropy(net(batch.inputs), batch.targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss of the last batch {loss.item():.3f}")
    save_file(net.state_dict(), out)
    _report(net.eval(), images, count, reading.like(examples))


def _report(net: nn.Module, images: str, count: int, reading: Reading) -> None:
    rest = read_examples(f"{images}#[{count}:]", reading)
    with torch.no_grad():
        said = torch.cat([net(batch.inputs).argmax(1) for batch in rest.data.gather(range(len(rest)))])
    wrong = (said != rest.data.targets).nonzero()[:, 0] + count
    print(f"right on {1 - len(wrong) / len(rest):.1%} of {len(rest):,} others; wrong on rows {wrong[:20].tolist()} …")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small residual net on digits.")
    parser.add_argument("images", help="IDX file of pictures, its labels beside it")
    parser.add_argument("--count", type=int, default=4000, help="train on the first so many")
    parser.add_argument("--out", type=Path, default=Path("digits.safetensors"))
    chosen = parser.parse_args()
    train(chosen.images, chosen.count, chosen.out)


if __name__ == "__main__":
    main()
