r"""Minimising many functions side by side by L-BFGS in the metric of a preconditioner.

    x ← x + α d        d = −H ∇φ(x)        H: the last pairs s = Δx, y = Δ∇φ, on top of M⁻¹

Each member has its own pairs, step and stopping point; what is shared is the pass that gives all the gradients. No
values of φ are asked for: near a minimum their differences are rounding long before the gradients are. A step is
taken as it was tried (α = 1 at first) unless the slope along it has turned round, φ'(α) > 0.8 |φ'(0)|; then it is cut
to where the secant puts slope zero, which is exact where φ is quadratic. M⁻¹ is scaled by what the last pair says.

M⁻¹ decides how long this takes and nothing of where it ends. With M the Hessian it is Newton's method.

Sources: Nocedal 1980; Nocedal & Wright, algorithm 7.4; Hager & Zhang 2005 for a condition on slopes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from whence.solvers.algebra import Product, dot, norm, plus, rows, times
from whence.types import Gradients, Progress

MemberGradient = Callable[[Gradients, Tensor], Gradients]
"""(x of some members, which members these are) → ∇φ of each."""
PAIRS = 10
"""Pairs kept."""
VECTORS = 2 * PAIRS + 10
"""Vectors of a member's size that are held at once."""
TURNED = 0.8
"""Of the slope at the start: a step that ends on a steeper rise is too long."""
CUTS, MOST_CUTS = 8, 40
"""Of one step: before the pairs are dropped, and before a member is given up."""


@dataclass(frozen=True)
class Minimum:
    """Where each member ended."""

    x: Gradients
    """The first to reach the goal; where none did, the one with the least ⟨g, H g⟩, twice what is left to fall."""
    norms: Float[Tensor, " s"]
    """‖∇φ(x)‖."""
    evaluations: Int64[Tensor, " s"]
    """Gradients that each member took."""


def minimise(
    gradient: MemberGradient,
    start: Gradients,
    goal: Float[Tensor, " s"],
    *,
    precondition: Product,
    most: int,
    progress: Progress | None = None,
) -> Minimum:
    """Go on until each member's gradient is no longer than its goal, or ``most`` gradients were taken.

    Args:
        start: Where each member begins, layer → ``[s o i]``.
        goal: ‖∇φ‖ at which a member stops; one whose gradient is NaN or inf from the start stops at once.
        precondition: g → M⁻¹ g, symmetric and positive definite, in the units of an inverse Hessian.
        progress: Told after each gradient how many were taken of ``most``; all of them when every member has stopped.
    """
    tell = progress or (lambda taken, most: None)
    live = torch.arange(len(goal), device=goal.device)
    search = _Search.begin(start, gradient(start, live), precondition)
    best, least, norms = {name: part.clone() for name, part in start.items()}, -search.slope, norm(search.g)
    taken = torch.ones_like(live)
    while int(taken.max()) < most:
        stay = ((norms[live] > goal[live]) & torch.isfinite(norms[live]) & (search.cuts < MOST_CUTS)).nonzero()[:, 0]
        if len(stay) == 0:
            break
        if len(stay) < len(live):
            live, search = live[stay], search.take(stay)
        trial = search.trial()
        there = gradient(trial, live)
        taken[live] += 1
        tell(int(taken.max()), most)
        search = search.stepped(trial, there, precondition)
        length = norm(there)
        left = torch.where(search.cuts == 0, -search.slope, torch.inf)
        left = torch.where(length <= goal[live], 0.0, left)
        better = (left < least[live]).nonzero()[:, 0]
        for name, part in best.items():
            part[live[better]] = trial[name][better]
        least[live[better]], norms[live[better]] = left[better], length[better]
    tell(most, most)
    return Minimum(best, norms, taken)


@dataclass(frozen=True)
class _Pair:
    s: Gradients
    y: Gradients
    over: Float[Tensor, " s"]
    """1 / ⟨s, y⟩; zero for a member that the pair says nothing to."""
    scale: Float[Tensor, " s"]
    """⟨s, y⟩ / ⟨y, M⁻¹ y⟩ of this pair, or of the last one that said something: what M⁻¹ is to be multiplied by."""

    def take(self, some: Tensor) -> _Pair:
        return _Pair(rows(self.s, some), rows(self.y, some), self.over[some], self.scale[some])

    def where(self, mask: Bool[Tensor, " s"], other: _Pair) -> _Pair:
        """This pair of the members in the mask, else the other."""
        over, scale = torch.where(mask, self.over, other.over), torch.where(mask, self.scale, other.scale)
        return _Pair(_where(mask, self.s, other.s), _where(mask, self.y, other.y), over, scale)

    def without(self, dropped: Bool[Tensor, " s"]) -> _Pair:
        return _Pair(self.s, self.y, torch.where(dropped, 0.0, self.over), torch.where(dropped, 1.0, self.scale))


@dataclass(frozen=True)
class _Search:
    """Members under way: where each is, and what it tries next."""

    x: Gradients
    g: Gradients
    z: Gradients
    """M⁻¹ g."""
    d: Gradients
    slope: Float[Tensor, " s"]
    """⟨g, d⟩, negative."""
    alpha: Float[Tensor, " s"]
    cuts: Int64[Tensor, " s"]
    """How often the step along d was cut."""
    pairs: tuple[_Pair, ...]

    @classmethod
    def begin(cls, x: Gradients, g: Gradients, precondition: Product) -> _Search:
        z = precondition(g)
        d = times(z, -1.0)
        slope = dot(g, d)
        return cls(x, g, z, d, slope, torch.ones_like(slope), torch.zeros_like(slope, dtype=torch.int64), ())

    def take(self, some: Tensor) -> _Search:
        pairs = tuple(one.take(some) for one in self.pairs)
        x, g, z, d = (rows(vector, some) for vector in (self.x, self.g, self.z, self.d))
        return _Search(x, g, z, d, self.slope[some], self.alpha[some], self.cuts[some], pairs)

    def trial(self) -> Gradients:
        return plus(self.x, self.d, self.alpha)

    def stepped(self, trial: Gradients, there: Gradients, precondition: Product) -> _Search:
        """After the gradient at the trial point is known: on from there, or a shorter step."""
        ahead = precondition(there)
        along = dot(there, self.d)
        moved = along <= TURNED * self.slope.abs()  # false for NaN
        cuts = torch.where(moved, 0, self.cuts + 1)
        told = torch.stack([one.over > 0 for one in self.pairs] or [moved & False]).any(0)
        dropped = (cuts == CUTS) & told
        pairs = self.pairs
        if bool(moved.any()):
            pairs = _pushed(pairs, _pair(self, trial, there, ahead, moved), moved)
        if bool(dropped.any()):
            pairs = tuple(one.without(dropped) for one in pairs)
        x, g, z = _where(moved, trial, self.x), _where(moved, there, self.g), _where(moved, ahead, self.z)
        anew = moved | dropped
        d, slope = self.d, self.slope
        if bool(anew.any()):
            onward = _direction(g, pairs, precondition)
            d = _where(anew, onward, d)
            slope = torch.where(anew, dot(g, onward), slope)
        secant = (self.slope / (self.slope - along)).nan_to_num(0.1)
        alpha = torch.where(anew, 1.0, self.alpha * secant.clamp(0.05, 0.7))
        return _Search(x, g, z, d, slope, alpha, cuts, pairs)


def _pair(search: _Search, trial: Gradients, there: Gradients, ahead: Gradients, moved: Bool[Tensor, " s"]) -> _Pair:
    """What a step told of the curvature along it; nothing where that is not positive."""
    s, y = plus(trial, search.x, -1.0), plus(there, search.g, -1.0)
    bend = dot(s, y)
    tells = moved & (bend > 0)
    nothing = times(search.g, 0.0)  # not NaN times zero
    s, y = _where(tells, s, nothing), _where(tells, y, nothing)
    before = search.pairs[-1].scale if search.pairs else torch.ones_like(bend)
    scale = torch.where(tells, bend / dot(y, plus(ahead, search.z, -1.0)), before)
    return _Pair(s, y, torch.where(tells, 1 / bend, 0.0), scale)


def _pushed(pairs: tuple[_Pair, ...], new: _Pair, moved: Bool[Tensor, " s"]) -> tuple[_Pair, ...]:
    """The new pair in last place for members that moved; the others keep theirs where they were."""
    longer = (*pairs, new)
    if not bool(moved.all()):
        empty = new.without(torch.ones_like(moved))
        longer = tuple(one.where(moved, other) for one, other in zip(longer, (empty, *pairs), strict=True))
    return longer[-PAIRS:]


def _direction(g: Gradients, pairs: tuple[_Pair, ...], precondition: Product) -> Gradients:
    """−H g, by the two loops."""
    weights = []
    for one in reversed(pairs):
        weights.append(one.over * dot(one.s, g))
        g = plus(g, one.y, -weights[-1])
    d = precondition(g)
    if pairs:
        d = {name: pairs[-1].scale[:, None, None].to(part) * part for name, part in d.items()}
    for one, weight in zip(pairs, reversed(weights), strict=True):
        d = plus(d, one.s, weight - one.over * dot(one.y, d))
    return times(d, -1.0)


def _where(mask: Bool[Tensor, " s"], left: Gradients, right: Gradients) -> Gradients:
    """The left vector of the members in the mask, else the right one."""
    return {name: torch.where(mask[:, None, None], part, right[name]) for name, part in left.items()}
