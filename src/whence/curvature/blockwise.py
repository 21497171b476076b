"""A fitted curvature: a block and a damping for every tracked layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from whence.artifacts.fingerprint import tensors_fingerprint
from whence.counted import counted
from whence.curvature.block import Block
from whence.curvature.damping import Damping
from whence.curvature.origin import Origin
from whence.errors import ArtifactMismatch, InvalidSetting, NumericalError
from whence.layers import TrackedLayer
from whence.layers.select import named
from whence.types import Gradients


@dataclass(frozen=True)
class Curvature:
    """Block-diagonal G over the tracked layers, and the λ that makes it invertible.

    Everything that acts on gradients goes layer → ``[q o i]`` in, the same out.
    """

    name: str
    """Which estimator made it: a key of `CURVATURES`."""
    blocks: dict[str, Block]
    reads: dict[str, str]
    """Layer → the group of layers that read the same tensor."""
    pooled: tuple[str, ...] = ()
    """Layers applied to one row an example."""
    damping: Damping | Mapping[str, float] | None = field(default_factory=Damping)
    """A rule, or λ of every layer by name; None only where nothing is inverted (identity)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was fitted, as its manifest records it."""
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: Origin | None = field(default=None, repr=False, compare=False)
    """The model and task it was fitted on, where that was in this process and from Python."""
    noise: float | None = None
    """Variance of a question's scores that chance in the fit leaves, over that of the scores in expectation."""

    @cached_property
    def dampings(self) -> dict[str, float]:
        """λ of each layer, in the units of its eigenvalues."""
        if self.damping is None:
            return dict.fromkeys(self.blocks, 0.0)
        if not isinstance(self.damping, Damping):
            return {name: self.damping[name] for name in self.blocks}
        found = {name: self.damping.of(block) for name, block in self.blocks.items()}
        dead = [name for name, value in found.items() if not value > 0]
        if dead:
            raise NumericalError(
                f"layer {dead[0]} never received a gradient while fitting, so damping relative to its mean is zero",
                hint="leave it out with --layers, fit on more data, or give an absolute damping such as abs:1e-6",
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the bases, eigenvalues and damping: other numbers, other fingerprint."""
        tensors = {f"{name}.eigenvalues": block.eigenvalues for name, block in self.blocks.items()}
        tensors |= {f"{n}.outputs": b.output_basis for n, b in self.blocks.items() if b.output_basis is not None}
        tensors |= {
            f"inputs.{self.reads[n]}": b.input_basis for n, b in self.blocks.items() if b.input_basis is not None
        }
        return f"{tensors_fingerprint(tensors)}, damping {self.damping}"

    def with_damping(self, damping: str | float | Damping | Mapping[str, float]) -> Curvature:
        """The same curvature, damped otherwise: no refitting is needed. The identity stays undamped.

        Args:
            damping: A rule, or λ of every layer: another curvature's `dampings`, so that both invert the same Λ.

        Raises:
            InvalidSetting: If the damping is not positive, or a layer has none.
        """
        if self.damping is None:
            return self
        if not isinstance(damping, Mapping):
            return replace(self, damping=Damping.parse(damping))
        bad = [name for name in self.blocks if not damping.get(name, 0.0) > 0]
        if bad:
            raise InvalidSetting(f"layer {bad[0]} needs a positive λ, and has {damping.get(bad[0], 'none')}")
        return replace(self, damping={name: damping[name] for name in self.blocks})

    def solve(self, grads: Gradients) -> Gradients:
        """(G + λI)⁻¹ g, layer by layer."""
        return {name: self.blocks[name].solve(grad, self.dampings[name]) for name, grad in grads.items()}

    def matvec(self, grads: Gradients) -> Gradients:
        """G g, undamped, layer by layer."""
        return {name: self.blocks[name].matvec(grad) for name, grad in grads.items()}

    def dense(self, layer: str) -> Float[Tensor, "oi oi"]:
        """One layer's undamped matrix over row-major ``vec([o i])``: for tests and toys."""
        return self.blocks[layer].dense()

    def tracked(self, model: nn.Module) -> tuple[TrackedLayer, ...]:
        """This curvature's layers in a model.

        Raises:
            LayerError, ArtifactMismatch: If the model lacks one, or has it in another size.
        """
        layers = named(model, list(self.blocks)).with_reads(self.reads, self.pooled).layers
        for layer in layers:
            shape = self.blocks[layer.name].shape
            if shape != (layer.outputs, layer.inputs):
                raise ArtifactMismatch(
                    artifact=f"the curvature of {layer.name}",
                    field="model",
                    made_with=f"a layer of {shape[0]} × {shape[1]}",
                    used_with=f"{layer.outputs} × {layer.inputs}",
                    hint="use the model that it was fitted on, or fit again",
                )
        return layers

    def __repr__(self) -> str:
        weights = sum(block.eigenvalues.numel() for block in self.blocks.values())
        return (
            f"Curvature({self.name}, {counted(len(self.blocks), 'layer')}, {weights:,} weights, damping {self.damping})"
        )
