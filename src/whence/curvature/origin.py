"""What a curvature was fitted on, in the process that did: so that a person need not say it again."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from torch import nn

from whence.errors import InvalidSetting
from whence.types import Task


@dataclass(frozen=True)
class Origin:
    """The model, remembered weakly (it lives no longer because of this), the task, and the tokenizer if there was one.

    A weight that is written to counts its versions, so that a model trained on since is told from the one that was
    fitted on, at no cost.
    """

    model_reference: weakref.ref[nn.Module]
    task: Task
    tokenizer: Any
    versions: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module, task: Task, tokenizer: Any = None) -> Origin:
        return cls(weakref.ref(model), task, tokenizer, _versions(model))

    @property
    def model(self) -> nn.Module:
        """The model.

        Raises:
            InvalidSetting: If it is gone, or its weights were written to since.
        """
        model = self.model_reference()
        if model is None:
            raise InvalidSetting("the model that the curvature was fitted on is gone", hint="keep it, or pass model=…")
        if _versions(model) != self.versions:
            raise InvalidSetting(
                "the model's weights were written to since the curvature was fitted on it",
                hint="fit again; or pass model=… to say that these weights are the ones meant",
            )
        return model


def _versions(model: nn.Module) -> tuple[int, ...]:
    return tuple(parameter._version for parameter in model.parameters())
