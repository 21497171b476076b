"""``whence value`` and ``whence self --labels``: a folder for one model and its training examples.

OUT/  manifest.json  settings.toml  events.jsonl
      curvature/            fitted once
      scores/<asked>/       influence on a validation set, a file a work unit
      self/<damping>/       influence of each example on itself, under the given and the suggested label
      values.csv  values.json  report.html         of `whence value`
          suspects.csv  suspects.json  suspects.html   of `whence self --labels`
      checks/               of `whence validate`
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import model_fingerprint, settings_fingerprint
from whence.artifacts.folder import claim
from whence.artifacts.manifest import Manifest
from whence.counted import counted
from whence.curvature import Curvature
from whence.data.examples import Examples, Reading, read_examples
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting
from whence.jobs.fit import fit
from whence.jobs.log import Log
from whence.jobs.valuation.values import Suspects, Values, agreement, predictions, suspects, validation_queries, value
from whence.models.hf import load_classifier, load_tokenizer
from whence.models.own import is_own, load_own
from whence.tasks import Classification, Regression
from whence.types import OutputTask

KIND, SCHEMA = "valuation", 1
MOST_EACH = 64
"""Validation examples asked about one by one: the report shows them all."""


@dataclass(frozen=True, kw_only=True)
class ValueSettings:
    """What a valuation is asked to do. Paths are read relative to the working directory."""

    model: str
    train: str
    weights: str | None = None
    valid: str | None = None
    target: str | None = None
    text: str = "text"
    size: str | None = None
    as_is: bool = False
    each: bool = False
    layers: tuple[str, ...] = ("all",)
    """A classifier's head is among all of them: it is small, and wrong labels pull at it first."""
    damping: float | str = 0.1
    top: int = 20

    @classmethod
    def build(cls, folder: Path, given: Mapping[str, Any]) -> ValueSettings:
        """Settings of a folder's last valuation, if it had one, and those given now, which win.

        Raises:
            InvalidSetting: If the model or the training examples are not named, or a value cannot be honoured.
        """
        kept = folder / "settings.toml"
        try:
            base = tomllib.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"{kept} cannot be read: {error}", hint="remove it and give every flag") from None
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in base if name not in known]:
            raise InvalidSetting(
                f'{kept}: unknown setting "{unknown[0]}": {folder} is a run of a language model, not a valuation',
                hint="give a folder of its own",
            )
        if given.get("valid") is not None:  # another validation set is asked about in its own way
            base.pop("each", None)
        merged = {**base, **{name: one for name, one in given.items() if one is not None}}
        for name in ("model", "train"):
            if name not in merged:
                raise InvalidSetting(f"nothing says which {name} to use", hint=f"give --{name}")
        if "layers" in merged:
            merged["layers"] = tuple(merged["layers"])
        if int(merged.get("top", 20)) < 1:
            raise InvalidSetting(f"top must be at least 1, not {merged['top']}")
        return cls(**merged)

    def to_toml(self) -> str:
        """What is set, as TOML."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lines = [f"{name} = {json.dumps(one, ensure_ascii=False)}" for name, one in values.items() if one is not None]
        return "\n".join(["# Settings of `whence value` and `whence self --labels`.", *lines]) + "\n"

    @property
    def pixels(self) -> tuple[int, int] | None:
        """``size`` as height and width."""
        if self.size is None:
            return None
        height, _, width = self.size.lower().partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            raise InvalidSetting(f"size {self.size!r} is not HEIGHTxWIDTH", hint="write 32x32")
        return int(height), int(width)


class Valuation:
    """A model and its training examples, each loaded once."""

    def __init__(self, folder: Path, settings: ValueSettings, log: Log) -> None:
        self.folder, self.settings, self.log = folder, settings, log
        pixels = settings.pixels
        self.model, reading = _model(settings)
        self.reading = Reading(
            outputs=self._outputs,
            target=settings.target,
            text=settings.text,
            size=pixels,
            channels=channels_of(self.model),
            as_is=settings.as_is,
            **reading,
        )
        self.train = read_examples(settings.train, self.reading)
        log.note(str(self.train))
        self.task: OutputTask = Classification() if self.train.classes else Regression()
        self.sources = {"model": model_fingerprint(self.model), "data": self.train.data.fingerprint}

    def open(self) -> None:
        """Claim the folder.

        Raises:
            ArtifactMismatch, ArtifactError: If it belongs to another valuation, or is not ours.
        """
        claim(self.folder, Manifest(KIND, SCHEMA, dict(self.task.settings), self.sources), beside={"settings.toml"})
        self.log.keep(self.folder)
        for warning in self.warnings:
            self.log.note(f"warning: {warning}")

    def keep_settings(self) -> None:
        """Write the settings beside what they made."""
        write_text(self.folder / "settings.toml", self.settings.to_toml())

    @cached_property
    def said(self) -> tuple[Tensor, Tensor]:
        """What the model says of every training example, and the targets."""
        return predictions(self.model, self.train.data, self.task)

    @cached_property
    def agreement(self) -> float:
        """Share of training labels that the model finds most probable, or R²."""
        return agreement(*self.said)

    @property
    def warnings(self) -> list[str]:
        """A model that cannot be the one that was trained on these examples as they are read here."""
        said, given = self.said
        plain = float(given.bincount().max()) / len(given) if self.train.classes else 0.0
        if self.agreement > plain or said.shape[1] == 0 or len(self.train.classes) == 1:
            return []
        what = "says the given label" if self.train.classes else "explains"
        often = f"{self.agreement:.0%}, and the most frequent class is {plain:.0%}" if self.train.classes else "nothing"
        return [
            f"the model {what} {'of ' if self.train.classes else ''}{often} of the training examples: was it trained on"
            " these, with classes numbered and inputs prepared as here (see --as-is)?"
        ]

    @cached_property
    def curvature(self) -> Curvature:
        """The fitted curvature, damped as asked."""
        return fit(
            self.model,
            self.train.data,
            task=self.task,
            layers=self.settings.layers,
            damping=self.settings.damping,
            folder=self.folder / "curvature",
            made_from=self.sources,
            log=self.log,
        )

    @cached_property
    def valid(self) -> Examples:
        """The validation examples, read as the training examples were.

        Raises:
            InvalidSetting: If there are none, or too many to be asked about one by one.
        """
        if self.settings.valid is None:
            raise InvalidSetting(
                "nothing says which validation examples to use", hint="name them: `whence value RUN --valid DATA`"
            )
        found = read_examples(self.settings.valid, self.reading.like(self.train))
        if self.settings.each and len(found) > MOST_EACH:
            raise InvalidSetting(
                f"--each asks about each of {counted(len(found), 'validation example')}, more than {MOST_EACH}",
                hint=f"choose some: --valid '{self.settings.valid.partition('#')[0]}#[0:20]'",
            )
        self.log.note(str(found))
        return found

    @cached_property
    def parts(self) -> list[QueryBatch]:
        """The validation set as one query, or each example of it."""
        return validation_queries(self.valid.data, each=self.settings.each)

    @property
    def questions_digest(self) -> str:
        """A digest of what is asked, however it is damped."""
        return settings_fingerprint({"valid": self.valid.data.fingerprint, "each": self.settings.each})[:12]

    @cached_property
    def values(self) -> Values:
        """Influence of the training examples on the validation loss."""
        asked = {"valid": self.valid.data.fingerprint, "each": self.settings.each, "damping": self.damping}
        return value(
            self.curvature,
            self.train.data,
            self.valid.data,
            model=self.model,
            task=self.task,
            each=self.settings.each,
            folder=self.folder / "values" / settings_fingerprint(asked)[:12],
            log=self.log,
        )

    @cached_property
    def suspects(self) -> Suspects:
        """How suspect each training label is."""
        return suspects(
            self.curvature,
            self.train.data,
            model=self.model,
            task=self.task,
            folder=self.folder / "self" / settings_fingerprint({"damping": self.damping})[:12],
            log=self.log,
        )

    @property
    def damping(self) -> str:
        """How the curvature is damped, as text."""
        return str(self.curvature.damping)

    def _outputs(self, inputs: Tensor) -> int:
        """How many numbers the model says of an example; an HF classifier knows without being asked."""
        labels = getattr(getattr(self.model, "config", None), "num_labels", None)
        if isinstance(labels, int):
            return labels
        device = next(self.model.parameters()).device
        try:
            with torch.no_grad():
                said = self.model(inputs.to(device))
        except (RuntimeError, ValueError, TypeError) as error:
            raise InvalidSetting(
                f"the model cannot read these examples, of shape {tuple(inputs.shape[1:])}: {error}",
                hint="the model takes [n columns] of a table and [n channels height width] of pictures",
            ) from error
        if not isinstance(said, Tensor) or len(said) != len(inputs):
            raise InvalidSetting("the model does not return one row of numbers an example")
        return said.flatten(1).shape[1]


def _model(settings: ValueSettings) -> tuple[nn.Module, dict[str, Any]]:
    """The model, and what it says of how text is to be read."""
    if is_own(settings.model):
        return load_own(settings.model, settings.weights), {}
    if settings.weights is not None:
        raise InvalidSetting(
            "--weights belongs to a model made by a function", hint="name it as --model file.py:function"
        )
    model = load_classifier(settings.model)
    tokenizer = load_tokenizer(settings.model)
    config: Any = model.config
    named = {str(label): int(number) for label, number in (getattr(config, "label2id", None) or {}).items()}
    unnamed = all(label.startswith("LABEL_") for label in named)
    return model, {
        "tokenize": lambda text: tokenizer(text, truncation=False)["input_ids"],
        "longest": getattr(config, "max_position_embeddings", None),
        "padding": tokenizer.pad_token_id or 0,
        "numbering": None if unnamed else named,
    }


def channels_of(model: nn.Module) -> int:
    """Colours of the pictures a model reads, told from its first convolution; 3 where there is none."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 else 3
