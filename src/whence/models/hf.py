"""Loading Hugging Face checkpoints from disk. The only file that imports transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whence.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64, "float16": torch.float16}


def load_model(
    path: str | Path, *, dtype: str = "float32", attention: str = "eager", device: str | None = None
) -> nn.Module:
    """A causal language model in eval mode, from a local folder.

    Args:
        dtype: What the weights are held and computed in. Float32 by default: transformers would take whatever
            the checkpoint was saved in.
        attention: ``eager`` by default: fused kernels can make a sequence's gradient depend on its batch-mates.
            Mixtures of experts run one expert after another whatever it is: their grouped kernel has no forward-mode
            derivative, which the attribution to output tokens takes.
        device: The accelerator where there is one, unless named.

    Raises:
        ModelError: If the folder is missing, holds no checkpoint, or is not a causal language model.
    """
    return _loaded(path, "AutoModelForCausalLM", "causal language model", dtype, attention, device)


def load_classifier(path: str | Path, *, device: str | None = None) -> nn.Module:
    """A sequence classifier in eval mode and float32, from a local folder.

    Raises:
        ModelError: If the folder is missing, holds no checkpoint, or one without a trained classification head.
    """
    model = _loaded(path, "AutoModelForSequenceClassification", "sequence classifier", "float32", "eager", device)
    architectures = getattr(model.config, "architectures", None) or ["no classifier"]
    if not architectures[0].endswith("ForSequenceClassification"):
        raise ModelError(  # transformers would give it a head of random numbers
            f"{path} holds {architectures[0]}, which has no classification head", hint="train a classifier from it"
        )
    return model


def _loaded(path: str | Path, auto: str, what: str, dtype: str, attention: str, device: str | None) -> nn.Module:
    folder = _folder(path)
    _refuse_adapter(folder)
    quantised = "quantization_config" in _config(folder)
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = torch.device(device or default_device())
    placed = {"device_map": {"": str(place)}} if quantised else {}  # rounded weights are made where they stay
    try:
        model: nn.Module = getattr(transformers, auto).from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            attn_implementation=attention,
            experts_implementation="eager",
            local_files_only=True,
            **placed,
        )
    except ImportError as error:
        raise ModelError(
            f"{folder} needs a library that is not installed: {_first_line(error)}",
            hint="install it, or save the model unquantised",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} could not be loaded as a {what}: {_first_line(error)}", hint=_HINT) from error
    model.eval()
    if not quantised:
        model.to(place)
    for module in model.modules():
        # bitsandbytes repacks a weight for a kernel of the processor that has no backward, on its first input that
        # wants no gradient; the model's first layer has one in every pass.
        if getattr(module, "support_avx512bf16_for_cpu", False):
            vars(module)["support_avx512bf16_for_cpu"] = False
    return model


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{folder} holds no config.json, so it is not a checkpoint", hint=_HINT)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {_first_line(error)}") from error
    return found if isinstance(found, dict) else {}


def _refuse_adapter(folder: Path) -> None:
    """Transformers would load the adapter's base from wherever its file says, and put the adapter on it unasked."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds an adapter, not a model alone",
            hint="give the base model as --model and the adapter's folder as --adapter (each in a folder of its own)",
        )


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer saved beside a checkpoint.

    Raises:
        ModelError: If there is none.
    """
    folder = _folder(path)
    if not any(
        (folder / name).exists()
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    ):
        raise ModelError(
            f"{folder} holds no tokenizer",
            hint="save it beside the model: tokenizer.save_pretrained(folder)",
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer in {folder} could not be loaded: {_first_line(error)}") from error


def tokenizer_text(tokenizer: Any) -> str:
    """All that decides how a tokenizer cuts text and writes chats, for its fingerprint."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = str(backend.to_str()) if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return text
    return "\0".join([text, str(template), repr(sorted(tokenizer.special_tokens_map.items()))])


def context_of(path: str | Path) -> int:
    """`context_length` of a checkpoint, from its configuration alone.

    Raises:
        ModelError: If there is none.
    """
    from transformers import AutoConfig

    folder = _folder(path)
    try:
        return _context(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the configuration in {folder} could not be read: {_first_line(error)}") from error


def context_length(model: nn.Module | None) -> int:
    """The longest sequence the model was made for, or 2,048 where it does not say."""
    return _context(getattr(model, "config", None))


def _context(config: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def attention_kernels(model: nn.Module) -> list[str]:
    """The attention kernels that this model can be run with here; none where it has but its own."""
    own = _kernel(model)
    if own is None or not callable(getattr(model, "set_attn_implementation", None)):
        return []
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    found = []
    for name in ("eager", "sdpa", *(["flash_attention_2"] if half and torch.cuda.is_available() else [])):
        with suppress(ValueError, ImportError, RuntimeError), with_attention(model, name):
            found += [name] if _kernel(model) == name else []
    return found or [own]


@contextmanager
def with_attention(model: nn.Module, kernel: str) -> Iterator[None]:
    """The model with another attention kernel for a while."""
    own = _kernel(model)
    if own is None or own == kernel:
        yield
        return
    try:
        model.set_attn_implementation(kernel)  # type: ignore[operator]
        yield
    finally:
        model.set_attn_implementation(own)  # type: ignore[operator]


def _kernel(model: nn.Module) -> str | None:
    kernel = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return kernel if isinstance(kernel, str) else None


def default_device() -> str:
    """``cuda`` where there is one (its local rank's), else ``cpu``."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


_HINT = "give the path of a folder written by model.save_pretrained(...); nothing is downloaded"


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        near = sorted(p.name for p in folder.parent.iterdir() if p.is_dir())[:6] if folder.parent.is_dir() else []
        raise ModelError(
            f"no model folder at {folder}",
            hint=f"{_HINT}" + (f"; beside it there are: {', '.join(near)}" if near else ""),
        )
    return folder


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
