"""Slopes of path losses in the controls, by one backward pass for each path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scrapl_optim.importance import Progress

# (estimates (B, U), B seeds for each rendering, targets) -> slopes (B, U) of paths 0, 1, ...
Slopes: TypeAlias = Callable[[Tensor, list[list[int]], Any], Iterable[Tensor]]


class Pairs(NamedTuple):
    """Pairs of controls with the seeds of their sounds.

    Attributes:
        theta: (M, U) true controls.
        theta_hat: (M, U) estimates, independent of them.
        target_seeds: M seeds of the targets.
        seeds: for each rendering of the estimates, M seeds.
    """

    theta: Tensor
    theta_hat: Tensor
    target_seeds: list[int]
    seeds: list[list[int]]

    def __len__(self) -> int:
        return len(self.theta)

    def rows(self, start: int, stop: int) -> Pairs:
        """Return some of the pairs."""
        part = slice(start, stop)
        seeds = [of_rendering[part] for of_rendering in self.seeds]
        return Pairs(self.theta[part], self.theta_hat[part], self.target_seeds[part], seeds)


def seeded_pairs(theta: Tensor, theta_hat: Tensor, renderings: int, seed: int) -> Pairs:
    """Return pairs whose seeds, from 0 to 2**63 - 1, differ for target and renderings and do not depend on M."""
    target, *others = (
        (np.random.SeedSequence((seed, r)).generate_state(len(theta), np.uint64) >> np.uint64(1)).tolist()
        for r in range(1 + renderings)
    )
    return Pairs(theta, theta_hat, target, others)


def path_slopes(
    synth: Callable[[Tensor, list[int]], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    pairs: Pairs,
    n_paths: int,
    batch_size: int,
    given: Slopes | None,
    report: Callable[[Progress], None],
) -> Tensor:
    """Return the slopes of all paths at the estimates, (M, P, U), float64 on the CPU."""
    slopes = torch.empty(len(pairs), n_paths, pairs.theta.shape[1], dtype=torch.float64, device="cpu")
    starts = range(0, len(pairs), batch_size)
    for i, start in enumerate(starts):
        batch = pairs.rows(start, start + batch_size)
        if given is None:
            of_paths = _backward(synth, path_loss, batch, n_paths)
        else:
            with torch.no_grad():
                target = synth(batch.theta, batch.target_seeds)
            of_paths = given(batch.theta_hat, batch.seeds, target)
        for p, slope in zip(range(n_paths), of_paths, strict=True):
            slopes[start : start + batch_size, p] = slope.double().cpu()
            report(Progress(i * n_paths + p + 1, len(starts) * n_paths, "slopes", p))
    bad = (~slopes.isfinite()).any(2).any(0).nonzero().flatten().tolist()
    if bad:
        raise FloatingPointError(
            f"Invalid slopes: those of path {bad[0]} are not all finite; expected finite ones; look for square "
            "roots and logarithms at 0 in synth and path_loss"
        )
    return slopes


def _backward(
    synth: Callable[[Tensor, list[int]], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    batch: Pairs,
    n_paths: int,
) -> Iterator[Tensor]:
    """Yield the slopes of each path by a backward pass through the loss and the synthesizer."""
    estimates, sounds, target = _played(synth, batch)
    for p in range(n_paths):
        with torch.enable_grad():
            losses = _one_per_pair(path_loss(sounds, target, p), len(batch), p)
        yield _slope(losses, estimates, p)


def check_pairs_alone(
    synth: Callable[[Tensor, list[int]], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    pairs: Pairs,
) -> None:
    """Raise RuntimeError unless the first pair's loss is the same alone as among the others."""
    losses: list[Tensor] = []
    with torch.no_grad():
        for batch in (pairs, pairs.rows(0, 1)):
            _, sounds, target = _played(synth, batch, grad=False)
            losses.append(_one_per_pair(path_loss(sounds, target, 0), len(batch), 0).reshape(-1)[:1].double())
    if not torch.allclose(*losses, rtol=1e-3, atol=0.0, equal_nan=True):
        among, alone = (float(loss) for loss in losses)
        raise RuntimeError(
            f"Invalid path_loss: path 0 of the first pair is {among:.6g} in a batch and {alone:.6g} alone; "
            "expected equal losses, each of a pair by itself and determined by its seeds; look for statistics of "
            "the batch, and draw random numbers from the seeds that synth is given"
        )


def _played(synth: Callable[[Tensor, list[int]], Any], pairs: Pairs, grad: bool = True) -> tuple[Tensor, Any, Any]:
    """Return the estimates as a leaf, their sounds (a list for several renderings), and the targets."""
    with torch.no_grad():
        target = synth(pairs.theta, pairs.target_seeds)
    estimates = pairs.theta_hat.clone().requires_grad_()
    with torch.set_grad_enabled(grad):
        sounds = [synth(estimates, seeds) for seeds in pairs.seeds]
    return estimates, sounds[0] if len(sounds) == 1 else sounds, target


def _one_per_pair(losses: Any, n_pairs: int, path: int) -> Tensor:
    if not isinstance(losses, Tensor) or losses.numel() != n_pairs:
        kind = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
        raise ValueError(
            f"Invalid path_loss: {kind} for path {path} and {n_pairs} pairs; expected a loss for each pair; take "
            "no mean over them, or give batch_size=1 where a loss returns one number"
        )
    return losses


def _slope(losses: Tensor, estimates: Tensor, path: int) -> Tensor:
    if not losses.requires_grad:
        raise RuntimeError(
            f"Invalid path_loss: that of path {path} has no gradient in the controls; expected synth and "
            "path_loss to be differentiable; mind detach(), no_grad() and rounding"
        )
    (slope,) = torch.autograd.grad(losses.sum(), estimates, retain_graph=True, materialize_grads=True)
    return slope


def as_controls(values: Any, name: str, like: Tensor | None = None) -> Tensor:
    """Return controls (M, U), detached.

    Raises:
        TypeError: they are not a dense floating tensor.
        ValueError: of another shape than (M, U) or than ``like``, or not finite.
    """
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.layout is not torch.strided:
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"Invalid {name}: {kind}; expected a dense floating tensor (M, U); use torch.rand(M, U)")
    if like is not None and values.shape != like.shape:
        raise ValueError(
            f"Invalid {name}: shape {tuple(values.shape)}; expected {tuple(like.shape)}, that of theta; give an "
            "estimate for each"
        )
    if values.ndim != 2 or values.shape[0] < 3 or values.shape[1] < 1:
        raise ValueError(
            f"Invalid {name}: shape {tuple(values.shape)}; expected (M, U) with at least three pairs; 64 or more "
            "tell losses apart"
        )
    if not bool(values.isfinite().all()):
        raise ValueError(f"Invalid {name}: an entry is not finite; expected finite controls")
    return values.detach()
