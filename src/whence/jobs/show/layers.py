"""Every parameter of a model: tracked by which layers, or left out and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from whence.jobs.model import base_model, put_adapter
from whence.jobs.settings import RunSettings
from whence.layers import TrackedLayer
from whence.layers.select import track

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Alike:
    """Tracked layers that differ in the number of their block alone."""

    names: str
    """``model.layers.{0-4}.mlp.up_proj``; a glob says the same with a star."""
    count: int
    outputs: int
    inputs: int
    """Of each, with the bias where there is one."""
    parameters: int
    """Of all."""
    share: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One kind of parameter that takes no part."""

    kind: str
    parameters: int
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class ShownLayers:
    """The coverage of a model."""

    total: int
    tracked: list[Alike]
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def share(self) -> float:
        """Tracked parameters over all."""
        return 1 - sum(row.parameters for row in self.left_out) / max(self.total, 1)


def layers_of(settings: RunSettings) -> ShownLayers:
    """What a run with these settings would track.

    Raises:
        ModelError, LayerError: As the run would.
    """
    settings = settings.replace(device="cpu")
    model = base_model(settings)
    put_adapter(model, settings)
    tracked = track(model, settings.layers, settings.params)
    coverage = tracked.coverage
    left_out = [
        LeftOut(row.kind, row.parameters, row.parameters / coverage.total, row.reason)
        for row in coverage.rows
        if not row.tracked
    ]
    return ShownLayers(coverage.total, alike(tracked.layers, coverage.total), left_out, list(coverage.notes))


def alike(layers: tuple[TrackedLayer, ...], total: int) -> list[Alike]:
    """Layers of the same name and size in different blocks, as one line."""
    groups: dict[tuple[str, int, int], list[TrackedLayer]] = {}
    for layer in layers:
        key = _NUMBER.sub("{}", layer.name), layer.outputs, layer.inputs
        groups.setdefault(key, []).append(layer)
    found = []
    for (_, outputs, inputs), members in groups.items():
        parameters = sum(layer.weights for layer in members)
        names = spanned([layer.name for layer in members])
        found.append(Alike(names, len(members), outputs, inputs, parameters, parameters / max(total, 1)))
    return found


def spanned(names: list[str]) -> str:
    """Names that differ in their numbers alone, as one.

    Example:
        >>> spanned(["h.0.attn", "h.1.attn", "h.3.attn"]), spanned(["h.7.attn"])
        ('h.{0-1,3}.attn', 'h.7.attn')
    """
    columns = list(zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True))
    spans = iter([_ranges(sorted(set(column))) for column in columns])
    return _NUMBER.sub(lambda _: next(spans), names[0])


def _ranges(numbers: list[int]) -> str:
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    parts = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    return f"{{{','.join(parts)}}}" if len(numbers) > 1 else parts[0]
