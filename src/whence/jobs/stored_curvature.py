"""A curvature on disk: bases, eigenvalues and counts; shared inputs once.

curvature/  manifest.json   input-0000.safetensors {basis}   layer-0000.safetensors {basis, eigenvalues}
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from whence.artifacts.folder import mark_finished, verify
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.curvature import Block, Curvature, Damping
from whence.layers import TrackedLayer

SCHEMA = 1

STORED: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
"""What bases and eigenvalues may be kept in; None is the precision of the sums."""


def reads_of(layers: Iterable[TrackedLayer]) -> dict[str, str]:
    """Layer → the tensor it reads, by which files are numbered."""
    return {layer.name: layer.reads for layer in layers}


def save_blocks(blocks: Mapping[str, Block], reads: Mapping[str, str], folder: Path) -> None:
    """Write some layers' files.

    Args:
        reads: Of all layers.
    """
    written = set()
    for name, block in blocks.items():
        own, shared = _files(name, reads)
        if block.input_basis is not None and shared not in written:
            save_tensors(folder / shared, {"basis": block.input_basis.contiguous()})
            written.add(shared)
        tensors = {"eigenvalues": block.eigenvalues.contiguous()}
        if block.output_basis is not None:
            tensors["basis"] = block.output_basis.contiguous()
        save_tensors(folder / own, tensors)


def load_blocks(folder: Path, reads: Mapping[str, str], device: torch.device | str = "cpu") -> dict[str, Block]:
    """Every layer's block. On a processor nothing is read before it is used, and the system may let go of it again."""
    inputs: dict[str, torch.Tensor | None] = {}
    blocks = {}
    for name, group in reads.items():
        own, shared = _files(name, reads)
        if group not in inputs:
            path = folder / shared
            inputs[group] = load_tensors(path, device)["basis"] if path.exists() else None
        tensors = load_tensors(folder / own, device)
        blocks[name] = Block(tensors["eigenvalues"], tensors.get("basis"), inputs[group])
    return blocks


def finish_curvature(curvature: Curvature, folder: Path) -> None:
    """Once every layer's files are there: mark the folder finished, and drop the partial sums."""
    files = set()
    for name, block in curvature.blocks.items():
        own, shared = _files(name, curvature.reads)
        files |= {own} if block.input_basis is None else {own, shared}
    facts = {
        "name": curvature.name,
        "reads": curvature.reads,
        "pooled": list(curvature.pooled),
        "damped": curvature.damping is not None,
        "counts": curvature.counts,
        "notes": list(curvature.notes),
        "noise": curvature.noise if curvature.noise is None or math.isfinite(curvature.noise) else None,
    }
    mark_finished(folder, files=sorted(files), facts=facts)
    shutil.rmtree(folder / "parts", ignore_errors=True)


def load_curvature(folder: Path, device: torch.device | str = "cpu") -> Curvature:
    """Read a finished curvature, with the default damping.

    Raises:
        ArtifactError: If the folder is missing, unfinished or damaged.
    """
    Manifest.read(folder, kind="curvature")
    manifest = verify(folder)  # numbers that were changed on disk would be scores that are wrong
    facts = manifest.facts
    return Curvature(
        name=facts["name"],
        blocks=load_blocks(folder, facts["reads"], device),
        reads=facts["reads"],
        pooled=tuple(facts["pooled"]),
        damping=Damping() if facts["damped"] else None,
        settings=manifest.settings,
        counts=facts["counts"],
        notes=tuple(facts["notes"]),
        noise=facts.get("noise"),
    )


def _files(name: str, reads: Mapping[str, str]) -> tuple[str, str]:
    """A layer's own file, and that of the basis it shares with those that read the same."""
    own, shared = list(reads).index(name), list(dict.fromkeys(reads.values())).index(reads[name])
    return f"layer-{own:04d}.safetensors", f"input-{shared:04d}.safetensors"
