"""A curvature on disk: bases, eigenvalues and counts; shared inputs once.

curvature/  manifest.json   input-0000.safetensors {basis}   layer-0000.safetensors {basis, eigenvalues}
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from whence.artifacts.folder import mark_finished, verify
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.curvature import Block, Curvature, Damping

SCHEMA = 1


def save_curvature(curvature: Curvature, folder: Path) -> None:
    """Write every layer, then mark the folder finished and drop the partial sums."""
    groups = list(dict.fromkeys(curvature.reads.values()))
    files = {}
    for name, block in curvature.blocks.items():
        number = groups.index(curvature.reads[name])
        shared = f"input-{number:04d}.safetensors"
        if block.input_basis is not None and shared not in files:
            save_tensors(folder / shared, {"basis": block.input_basis.contiguous()})
            files[shared] = shared
        tensors = {"eigenvalues": block.eigenvalues.contiguous()}
        if block.output_basis is not None:
            tensors["basis"] = block.output_basis.contiguous()
        own = f"layer-{len([f for f in files if f.startswith('layer')]):04d}.safetensors"
        save_tensors(folder / own, tensors)
        files[own] = own
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
    reads: dict[str, str] = facts["reads"]
    groups = list(dict.fromkeys(reads.values()))
    inputs: dict[str, torch.Tensor | None] = {}
    for number, group in enumerate(groups):
        path = folder / f"input-{number:04d}.safetensors"
        inputs[group] = load_tensors(path, device)["basis"] if path.exists() else None
    blocks = {}
    for number, name in enumerate(reads):
        tensors = load_tensors(folder / f"layer-{number:04d}.safetensors", device)
        blocks[name] = Block(tensors["eigenvalues"], tensors.get("basis"), inputs[reads[name]])
    return Curvature(
        name=facts["name"],
        blocks=blocks,
        reads=reads,
        pooled=tuple(facts["pooled"]),
        damping=Damping() if facts["damped"] else None,
        settings=manifest.settings,
        counts=facts["counts"],
        notes=tuple(facts["notes"]),
        noise=facts.get("noise"),
    )
