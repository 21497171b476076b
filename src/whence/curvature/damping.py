"""λ, a number a layer: relative to the layer's mean eigenvalue, or absolute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whence.curvature.block import Block
from whence.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Damping:
    """What is added to every eigenvalue before inversion.

    Relative damping of 0.1 is that of Grosse et al. 2023: λ_ℓ = 0.1 × mean(Λ_ℓ).

    Raises:
        InvalidSetting: If the value is not a positive number.
    """

    value: float = 0.1
    absolute: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise InvalidSetting(
                f"damping must be positive, not {self.value}",
                hint="0.1 (a tenth of the mean eigenvalue, per layer) is the paper's; `abs:1e-4` gives λ itself",
            )

    @classmethod
    def parse(cls, text: str | float | Damping) -> Damping:
        """``0.1`` is relative, ``abs:1e-4`` absolute.

        Example:
            >>> Damping.parse("abs:1e-4")
            Damping(value=0.0001, absolute=True)
        """
        if isinstance(text, Damping):
            return text
        words = str(text).strip()
        absolute = words.startswith("abs:")
        try:
            return cls(float(words.removeprefix("abs:")), absolute)
        except ValueError as error:
            raise InvalidSetting(f"damping {text!r} is not a number", hint="write 0.1, or abs:1e-4") from error

    def of(self, block: Block) -> float:
        """λ of one layer, in the units of its eigenvalues."""
        return self.value if self.absolute else self.value * float(block.eigenvalues.double().mean())

    def __str__(self) -> str:
        return f"abs:{self.value:g}" if self.absolute else f"{self.value:g}"
