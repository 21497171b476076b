"""Convolutional networks: the residual nets of He et al. 2016 at any width, and a small one with odd kernels.

`resnet20` is the CIFAR net of the paper's section 4.2 (three stages of three blocks, 0.27 M weights at width 16),
with a 1 × 1 convolution where a stage changes size; narrower, it is what a processor can retrain many times.

Source: He, Zhang, Ren & Sun 2016, arXiv:1512.03385.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from whence.testing.tiny import seeded


class ResidualBlock(nn.Module):
    """conv, norm, ReLU, conv, norm, plus what came in (through a 1 × 1 convolution where the size changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut_norm = nn.Identity() if same else nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        inner = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        inner = self.norm2(self.conv2(inner))
        inner += self.shortcut_norm(self.shortcut(x))
        return functional.relu(inner, inplace=True)


class ResNet(nn.Module):
    """A first convolution, stages of residual blocks that halve the image, a mean over locations, a linear layer.

    Args:
        blocks: Residual blocks a stage; 6 · blocks + 2 layers with three stages.
        widths: Channels of each stage.
        channels: Channels of an image.
    """

    def __init__(self, blocks: int, widths: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stages.append(ResidualBlock(before, width, 2 if stage and not block else 1))
                before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n v"]:
        x = functional.relu(self.norm(self.conv(images)))
        return self.head(self.stages(x).mean((2, 3)))


def resnet20(*, width: int = 16, channels: int = 3, classes: int = 10, seed: int = 0) -> ResNet:
    """ResNet-20 as it is trained: float32, train mode, torch's initialisation from ``seed``.

    Args:
        width: Channels of the first stage; the paper's is 16, and 4 has a fifteenth of its weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(3, (width, 2 * width, 4 * width), channels, classes)


class OddConvolutions(nn.Module):
    """Every setting of a convolution somewhere, and rectangular kernels: for tests. Images are ``[n 2 6 5]``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.strided = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0))
        self.grouped = nn.Conv2d(4, 6, 2, groups=2, padding=1, padding_mode="circular")
        self.dilated = nn.Conv2d(6, 4, 2, dilation=2, padding="same", bias=False)
        self.depthwise = nn.Conv2d(4, 4, 2, groups=4, padding=1, padding_mode="reflect", bias=False)
        self.line = nn.Conv1d(4, 3, 3, stride=2, padding=1, padding_mode="replicate")
        self.head = nn.Linear(3, classes)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n v"]:
        x = torch.tanh(self.strided(images))
        x = torch.tanh(self.dilated(self.activation(self.grouped(x) + 1)))
        x = torch.tanh(self.line(self.depthwise(x).flatten(2)))
        return self.head(x.mean(2))


def tiny_resnet(*, classes: int = 3, seed: int = 0) -> ResNet:
    """Two stages of one block, widths 2 and 3, on images ``[n 2 6 5]``: for tests, in float64 and eval mode."""
    return with_statistics(seeded(lambda: ResNet(1, (2, 3), 2, classes), seed, scale=0.6), seed)


def odd_convolutions(*, classes: int = 3, seed: int = 0) -> OddConvolutions:
    """An `OddConvolutions` whose outputs are far from uniform, in float64 and eval mode."""
    return seeded(lambda: OddConvolutions(classes), seed, scale=0.6)


def with_statistics(model: ResNet, seed: int) -> ResNet:
    """Running statistics as training might leave them: batch norm is then no identity."""
    draw = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            noise = torch.randn(buffer.shape, generator=draw, dtype=torch.float64)
            buffer.copy_(1 + noise.square() if name.endswith("var") else 0.3 * noise)
    return model
