"""How models are retrained for a validation: the recipe file, the bank in the run's folder, and how near it comes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from whence.artifacts.fingerprint import settings_fingerprint, tensors_fingerprint
from whence.errors import InvalidSetting
from whence.evaluate.examples import collect
from whence.evaluate.models import State, parameters_of
from whence.evaluate.retrain import Bank
from whence.evaluate.training import Recipe, is_number, is_whole
from whence.jobs.validation.judged import Judged


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How models are retrained: the file that ``--recipe`` names.

    Example:
        >>> Protocol(start="models/untrained", recipe=Recipe(learning_rate=3e-3, epochs=6, batch_size=32)).seeds
        1
    """

    start: str
    """Where training began: the folder of a checkpoint; of a model made by a function, a safetensors file with its
    weights at that time, or the function that gives them, ``net.py:make``."""
    recipe: Recipe
    seeds: int = 1
    """Models trained for each weighting, in orders of their own; averaged."""
    fraction: float = 0.5
    """Of the training data in each subset of ``lds``."""
    share: float = 0.01
    """Of the training data left out for each question by ``removal``."""
    together: int = 1
    """Training examples left out together by ``retrain``."""

    @classmethod
    def read(cls, path: Path) -> Protocol:
        """A TOML file: ``start``, and a table ``[recipe]`` (docs/validate.md).

        Raises:
            InvalidSetting: If it cannot be read, lacks one of them, or has a key that is not known.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"{path} cannot be read: {error}", hint=HINT) from None
        names = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in names]:
            raise InvalidSetting(f'{path}: unknown setting "{unknown[0]}"', hint=f"there are {', '.join(names)}")
        if "start" not in values or not isinstance(values.get("recipe"), dict):
            raise InvalidSetting(f"{path} needs start = … and a table [recipe]", hint=HINT)
        recipe = Recipe.of(values.pop("recipe"), source=f"{path}, [recipe]")
        made = cls(recipe=recipe, **values)
        if not isinstance(made.start, str):
            raise InvalidSetting(f"{path}: start must name a folder or a file, not {made.start!r}", hint=HINT)
        for name in ("seeds", "together"):
            if not (is_whole(value := getattr(made, name)) and value >= 1):
                raise InvalidSetting(f"{path}: {name} must be a whole number, at least 1, not {value!r}")
        for name in ("fraction", "share"):
            if not (is_number(value := getattr(made, name)) and 0 < value < 1):
                raise InvalidSetting(f"{path}: {name} must be a number between 0 and 1, not {value!r}")
        return made


FAR = 0.05
"""How far from the run's own model retraining on everything may end, as a share of the way that training went."""
HINT = 'start = "models/untrained" and, under [recipe], learning_rate, epochs, batch_size and what else was used'


def bank_of(of: Judged, protocol: Protocol, *, warm: bool = False) -> Bank:
    """Retrained models in RUN/checks, by recipe and start; a warm start goes on from the run's own model."""
    start = parameters_of(of.model)
    if not warm:
        start = _same_shape(parameters_of(of.start(protocol.start)), start, protocol.start)
    name = settings_fingerprint({**protocol.recipe.settings, "start": tensors_fingerprint(start)})[:12]
    return Bank(
        of.model,
        of.task,
        collect(of.data),
        protocol.recipe,
        start=lambda _: start,
        folder=of.folder / "checks" / f"models-{name}",
        progress=partial(of.log.step, "retrain from the model" if warm else "retrain"),
    )


def _same_shape(start: State, own: State, named: str) -> dict[str, Tensor]:
    if {name: t.shape for name, t in start.items()} != {name: t.shape for name, t in own.items()}:
        raise InvalidSetting(
            f"{named} has other parameters than the run's model",
            hint="start is where the training of this very model began",
        )
    return dict(start)


def described(bank: Bank, of: Judged, protocol: Protocol) -> dict[str, Any]:
    """The protocol, and how near retraining on everything comes to the run's own model."""
    own, start = parameters_of(of.model), bank.start(0) if bank.start else {}
    again = bank.models(bank.everything)

    def distance(state: Callable[[str], Tensor]) -> float:
        return (
            sum(float((state(name).cpu().double() - t.cpu().double()).square().sum()) for name, t in own.items()) ** 0.5
        )

    moved = distance(lambda name: start[name])
    apart = distance(lambda name: again[name][0]) / moved if moved > 0 else None  # training began at the model itself
    return {"protocol": asdict(protocol), "retrained_here": bank.trained, "distance_from_model": apart}


def note_on(found: Mapping[str, Any]) -> list[str]:
    """What a person should know of the recipe."""
    apart = found["distance_from_model"]
    if apart is None:
        return ["the start is the run's own model: give the checkpoint from before training as `start` in the recipe"]
    return [
        f"retraining on everything ends at {apart:.2g} of the way that training went from the run's own model"
        + (": the recipe is not the one that made it" if apart > FAR else "")
    ]
