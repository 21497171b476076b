"""A LoRA adapter saved by PEFT, put onto its base model. The only file that imports peft.

    FOLDER/adapter_config.json           what it is, its ranks and scales
    FOLDER/adapter_model.safetensors     A and B of every module it targets, and modules saved whole

The base model is changed in place: each targeted module becomes one that adds s · B A x to what it gave. That every
tensor of the file has found its place, and that no place was left without one, is checked here: PEFT itself only warns.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whence.artifacts.fingerprint import settings_fingerprint, tensors_fingerprint
from whence.artifacts.tensors import load_tensors
from whence.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_HINT = "give a folder written by peft_model.save_pretrained(...); nothing is downloaded"
_PLAIN = "plain LoRA is supported (rank-stabilised too)"
_TYPES = {
    "VERA": "VeRA shares one random A and B among all layers and trains vectors between them",
    "ADALORA": "AdaLoRA trains singular values that are no linear layers",
}
_VARIANTS = {
    "use_dora": "DoRA divides each column of W + BA by its norm, so that A and B are no linear layers of their own",
    "target_parameters": "it targets parameters rather than modules (stacked experts), which capture does not see",
    "ensure_weight_tying": "it ties the factors of the embeddings and of the output head",
}


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter that is on its model."""

    path: str
    fingerprint: str
    """A hash of its tensors and of the scale of each layer: all that it adds to the base model."""
    base: str | None
    """What the base model was called where it was trained."""
    idle: bool
    """Whether every B is zero: then it adds nothing, and A has no gradient."""


def load_adapter(model: nn.Module, path: str | Path, *, dtype: torch.dtype) -> LoraAdapter:
    """Put the adapter of a folder onto its base model, in place and in eval mode.

    Args:
        dtype: What its weights are held and computed in: the base model's, where that is not quantised.

    Raises:
        ModelError: If the folder holds no adapter, one that is not plain LoRA or does not fit the model, or peft is
            not installed.
        ArtifactError: If its weights are no safetensors.
    """
    folder = Path(path).expanduser()
    config = _config(folder)
    _refuse_other_kinds(folder, config)
    saved = load_tensors(_weights(folder))
    wrapped = _wrap(model, folder, next(model.parameters()).device)
    loaded = _loaded_state(wrapped)
    _refuse_misfit(folder, saved, loaded, wrapped.state_dict().keys())
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name or ".modules_to_save." in name:
            parameter.data = parameter.data.to(dtype)
    wrapped.eval()
    scales = {
        name: scales
        for name, module in model.named_modules()
        if isinstance(scales := getattr(module, "scaling", None), dict)  # an attention's own is a number
    }
    fingerprint = settings_fingerprint({"weights": tensors_fingerprint(saved), "scales": scales})
    outer = [tensor for name, tensor in saved.items() if ".lora_B." in name or ".lora_embedding_B" in name]
    return LoraAdapter(
        path=str(path),
        fingerprint=fingerprint,
        base=config.get("base_model_name_or_path") or None,
        idle=bool(outer) and not any(bool(tensor.any()) for tensor in outer) and not config.get("modules_to_save"),
    )


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """The base model alone, for a while."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wrappers = [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    try:
        for wrapper in wrappers:
            wrapper.enable_adapters(False)
        yield
    finally:
        for wrapper in wrappers:
            wrapper.enable_adapters(True)
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ModelError(f"no adapter folder at {folder}", hint=_HINT)
    path = folder / CONFIG
    if not path.exists():
        below = sorted(found.parent.name for found in folder.glob(f"*/{CONFIG}"))
        what = "is a model rather than an adapter" if (folder / "config.json").exists() else f"holds no {CONFIG}"
        raise ModelError(
            f"{folder} {what}", hint=f"adapters lie in it: {', '.join(below[:4])}; name one" if below else _HINT
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if not isinstance(config, dict) or "peft_type" not in config:
        raise ModelError(f"{path} does not say of which kind the adapter is (peft_type)", hint=_HINT)
    return config


def _refuse_other_kinds(folder: Path, config: Mapping[str, Any]) -> None:
    kind = str(config["peft_type"])
    if kind != "LORA":
        reason = _TYPES.get(kind, f"the parameters of {kind} are no linear layers that capture can take")
        raise ModelError(f"the adapter in {folder} is {kind}, not LoRA: {reason}", hint=_PLAIN)
    for flag, reason in _VARIANTS.items():
        if config.get(flag):
            raise ModelError(f"the adapter in {folder} has {flag} set: {reason}", hint=_PLAIN)
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"the adapter in {folder} was trained for the task {task}, not for a causal language model", hint=_HINT
        )


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.exists():
        return path
    if (folder / "adapter_model.bin").exists():
        raise ModelError(
            f"the weights of the adapter in {folder} are pickled, and never opened: unpickling a file is running it",
            hint="save it again with peft_model.save_pretrained(folder, safe_serialization=True)",
        )
    raise ModelError(f"{folder} holds no {WEIGHTS}", hint=_HINT)


def _wrap(model: nn.Module, folder: Path, device: torch.device) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(
            "an adapter needs the library peft, which is not installed", hint='pip install "whence[peft]"'
        ) from error
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # what it would warn of is checked by name
            torch.manual_seed(0)  # PiSSA's start is drawn; the global generator is left alone
            return PeftModel.from_pretrained(
                model, str(folder), autocast_adapter_dtype=False, torch_device=str(device), local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, NotImplementedError, ImportError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError(
            f"the adapter in {folder} could not be put onto the model: {line}",
            hint="give the base model that it was trained on as --model",
        ) from error


def _loaded_state(wrapped: Any) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(wrapped, save_embedding_layers=False))


def _refuse_misfit(folder: Path, saved: Mapping[str, Tensor], loaded: Mapping[str, Tensor], every: Any) -> None:
    """Every place of the adapter has its tensor, and every tensor of the file its place."""
    # Beside the factors a file may hold weights of the base model: biases trained too, embeddings that were resized.
    homeless = sorted(name for name in saved.keys() - loaded.keys() if name not in every)
    empty = sorted(loaded.keys() - saved.keys())
    other = sorted(n for n, t in loaded.items() if n in saved and not torch.equal(saved[n].to(t.dtype), t.cpu()))
    for names, what in (
        (homeless, "holds weights that the model has no place for"),
        (empty, "lacks weights that the model has a place for"),
        (other, "holds weights that did not reach the model"),
    ):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelError(
                f"the adapter in {folder} {what}: {shown}",
                hint="give the base model that it was trained on as --model",
            )
