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
from whence.jobs.solved import refuse_too_large
from whence.jobs.valuation.settings import ValueSettings
from whence.jobs.valuation.values import Suspects, Values, agreement, predictions, suspects, validation_queries, value
from whence.models.hf import load_classifier, load_tokenizer
from whence.models.own import is_own, load_own
from whence.tasks import Classification, Regression
from whence.types import OutputTask

KIND, SCHEMA = "valuation", 1
MOST_EACH = 64
"""Validation examples asked about one by one: the report shows them all."""


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

    @property
    def asked_in_words(self) -> list[str]:
        """What each query asks about the loss of."""
        if self.settings.each or len(self.valid) == 1:
            return [self.valid.place(row) for row in range(len(self.valid))]
        return [counted(len(self.valid), "validation example")]

    @cached_property
    def values(self) -> Values:
        """Influence of the training examples on the validation loss."""
        asked = {"valid": self.valid.data.fingerprint, "each": self.settings.each, "damping": self.damping}
        if self.settings.solver != "fitted":
            asked["solver"] = self.settings.solver
        return value(
            self.curvature,
            self.train.data,
            self.valid.data,
            model=self.model,
            task=self.task,
            each=self.settings.each,
            solver=self.settings.solver,
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

    def refuse_unsolvable(self) -> None:
        """Refuse a solver that cannot take a matrix of this size, before anything is fitted."""
        of = self.settings
        refuse_too_large(of.solver, self.model, of.layers, task=self.task, data=self.train.data)

    @property
    def method(self) -> str:
        """The curvature's name, or the solver's where there is another: of the influence on the validation loss."""
        return "ekfac" if self.settings.solver == "fitted" else self.settings.solver

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
