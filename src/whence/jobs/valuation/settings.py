"""What a valuation is asked to do: from flags, and from the folder's last one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from whence.errors import InvalidSetting
from whence.jobs.settings import SolverName


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
    solver: SolverName = "fitted"
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
        if (solver := merged.get("solver", "fitted")) not in get_args(SolverName):
            raise InvalidSetting(f"no solver is called {solver!r}", hint=f"there are {', '.join(get_args(SolverName))}")
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
