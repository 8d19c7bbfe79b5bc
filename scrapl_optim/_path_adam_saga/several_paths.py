"""The paths of one step: whose gradients they have, with which weight, how often each was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

Grads = dict[Tensor, Tensor]

_NOTHING = nullcontext()


class Draw(NamedTuple):
    """A path of a step.

    Attributes:
        path: the path p.
        weight: importance weight of the path, if the caller gave one.
        grads: gradients by parameter, added up over ``n_draws``; ``None`` for those that the parameters hold.
        n_draws: number of times that the path was drawn in this step.
        share: part of the draws of the step, 1 for the only path.
        first: True for the path that takes the decay and the mean of the memory along, before any row changes.
        last: True for the path after which the sum may be summed again.
    """

    path: int
    weight: float | None
    grads: Grads | None = None
    n_draws: int = 1
    share: float = 1.0
    first: bool = True
    last: bool = True

    def handed_out(self) -> AbstractContextManager[None]:
        """Let the parameters hold the gradients that were added for the path."""
        return _NOTHING if self.grads is None else _hold(self.grads)


@contextmanager
def _hold(grads: Grads) -> Iterator[None]:
    for p, grad in grads.items():
        p.grad = grad
    try:
        yield
    finally:
        for p in grads:
            p.grad = None


def check_draw(draws: list[Draw], new: Draw) -> None:
    """Raise ValueError if the path of ``new`` was added before with another weight: a path has one in a step."""
    for draw in draws:
        if draw.path == new.path and draw.weight != new.weight:
            raise ValueError(
                f"Invalid weight: {new.weight} for path {new.path}; expected {draw.weight}, as for its earlier "
                "draw in this step"
            )


def with_draw(draws: list[Draw], new: Draw) -> list[Draw]:
    """Return ``draws`` and ``new``, whose gradients are added to those of earlier draws of its path."""
    others = [draw for draw in draws if draw.path != new.path]
    for draw in draws:
        if draw.path == new.path:
            earlier, grads = draw.grads or {}, new.grads or {}
            both = {p: earlier[p] + grads[p] for p in earlier if p in grads}
            new = new._replace(grads=earlier | grads | both, n_draws=draw.n_draws + 1)
    return [*others, new]


def completed(draws: list[Draw]) -> list[Draw]:
    """Return ``draws`` as a step takes them: mean gradients, zeros where other paths have some, and shares."""
    present = dict.fromkeys(p for draw in draws for p in draw.grads or {})
    missing = [p for p in present if any(p not in (draw.grads or {}) for draw in draws)]
    zeros = {p: torch.zeros_like(p) for p in missing}
    total, last = sum(draw.n_draws for draw in draws), len(draws) - 1
    return [
        draw._replace(grads=zeros | _mean(draw), share=draw.n_draws / total, first=i == 0, last=i == last)
        for i, draw in enumerate(draws)
    ]


def _mean(draw: Draw) -> Grads:
    grads = draw.grads or {}
    return grads if draw.n_draws == 1 else {p: grad / draw.n_draws for p, grad in grads.items()}
