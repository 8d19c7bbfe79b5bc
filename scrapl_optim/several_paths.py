"""What the paths of one step contribute: whose gradients, with which weight, how often drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

Grads = dict[Tensor, Tensor]


class Part(NamedTuple):
    """What one path contributes to a step.

    Attributes:
        path: p.
        weight: its importance weight, if one was given.
        grads: its gradients by parameter, added up over ``n_draws``; ``None`` for those that the parameters hold.
        n_draws: how often it was drawn in this step.
    """

    path: int
    weight: float | None
    grads: Grads | None = None
    n_draws: int = 1

    def handed_out(self) -> AbstractContextManager[None]:
        """Let the parameters hold the gradients that were added for the path."""
        return _NOTHING if self.grads is None else _hold(self.grads)


_NOTHING = nullcontext()


@contextmanager
def _hold(grads: Grads) -> Iterator[None]:
    for p, grad in grads.items():
        p.grad = grad
    try:
        yield
    finally:
        for p in grads:
            p.grad = None


def check_draw(parts: list[Part], path: int, weight: float | None) -> None:
    """Raise ValueError if ``path`` was added before with another weight: a path has one in a step."""
    for part in parts:
        if part.path == path and part.weight != weight:
            raise ValueError(
                f"Invalid weight: {weight} for path {path}; expected {part.weight}, as for its earlier draw in "
                "this step"
            )


def with_draw(parts: list[Part], path: int, weight: float | None, grads: Grads) -> list[Part]:
    """Return ``parts`` with one more draw of ``path``, whose gradients are added to those of its earlier draws."""
    others = [part for part in parts if part.path != path]
    for part in parts:
        if part.path == path:
            earlier = part.grads or {}
            both = {p: earlier[p] + grads[p] for p in earlier if p in grads}
            return [*others, Part(path, weight, earlier | grads | both, part.n_draws + 1)]
    return [*others, Part(path, weight, grads)]


def completed(parts: list[Part]) -> list[Part]:
    """Return ``parts`` with the mean gradients of each path, and zeros where other paths have a gradient."""
    present = dict.fromkeys(p for part in parts for p in part.grads or {})
    missing = [p for p in present if any(p not in (part.grads or {}) for part in parts)]
    zeros = {p: torch.zeros_like(p) for p in missing}
    return [part._replace(grads=zeros | _mean(part)) for part in parts]


def _mean(part: Part) -> Grads:
    grads = part.grads or {}
    return grads if part.n_draws == 1 else {p: grad / part.n_draws for p, grad in grads.items()}
