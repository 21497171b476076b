"""One's own model: a function in a Python file makes it, a safetensors file holds its weights.

    --model net.py:make --weights net.safetensors

Naming the file is asking for it to be run: it is imported as Python would import it, with its folder in reach. The
weights are tensors and nothing else; a pickled checkpoint is never opened.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from whence.artifacts.tensors import load_tensors
from whence.errors import ModelError
from whence.models.hf import default_device

_HINT = "name a Python file and a function in it that takes nothing and returns the model: --model net.py:make"


def is_own(model: str) -> bool:
    """Whether a model is told as ``file.py:function``.

    Example:
        >>> is_own("nets/small.py:make"), is_own("models/pythia")
        (True, False)
    """
    file, _, function = model.rpartition(":")
    return file.endswith(".py") and function.isidentifier()


def load_own(model: str, weights: Path | str | None = None, *, device: str | None = None) -> nn.Module:
    """The model that a function makes, with the weights of a file, in eval mode and float32.

    Args:
        model: ``path/to/file.py:function``. The file is run.
        weights: A safetensors file with a tensor for every one of the model's ``state_dict``. None leaves the model
            as the function made it, which is then expected to have loaded its weights itself.
        device: The accelerator where there is one, unless named.

    Raises:
        ModelError: If there is no such file or function, it fails or returns no module, or the weights do not fit.
        ArtifactError: If the weights are missing or no safetensors.
    """
    file, _, name = model.rpartition(":")
    make = getattr(_module(Path(file).expanduser()), name, None)
    if not callable(make):
        raise ModelError(f"{file} has no function {name}", hint=_HINT)
    try:
        made = make()
    except Exception as error:  # whatever a stranger's function raises is about that function
        raise ModelError(f"{model} failed: {type(error).__name__}: {error}", hint=_HINT) from error
    if not isinstance(made, nn.Module):
        raise ModelError(f"{model} returned {type(made).__name__}, not a torch module", hint=_HINT)
    if weights is not None:
        _fill(made, Path(weights).expanduser())
    return made.float().eval().to(torch.device(device or default_device()))


def _module(file: Path) -> ModuleType:
    if not file.is_file():
        raise ModelError(f"no Python file at {file}", hint=_HINT)
    spec = importlib.util.spec_from_file_location(f"whence_own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{file} could not be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def _fill(model: nn.Module, path: Path) -> None:
    state, wanted = load_tensors(path), model.state_dict()
    missing, foreign = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or foreign:
        parts = [
            f"{what} {', '.join(names[:3])}" for what, names in (("lacks", missing), ("has also", foreign)) if names
        ]
        raise ModelError(
            f"{path} does not fit the model: it {' and '.join(parts)}",
            hint="save it with safetensors.torch.save_model, or save_file(model.state_dict(), …), of the same model",
        )
    for name, tensor in wanted.items():
        if tensor.shape != state[name].shape:
            raise ModelError(
                f"{path} does not fit the model: {name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            )
    model.load_state_dict(state)
