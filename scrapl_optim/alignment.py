"""Alignment of path losses with the errors of controls, measured before training and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scrapl_optim._alignment.scores import correlation, interval, resamples, without_part_of
from scrapl_optim._alignment.search import AlignedProbs, Votes, search_probs
from scrapl_optim._alignment.slopes import Slopes, as_controls, check_pairs_alone, path_slopes, seeded_pairs
from scrapl_optim._validation import (
    as_int,
    as_n_paths,
    as_number,
    as_switch,
    as_uint64,
    check_callable,
    refuse_paths,
)
from scrapl_optim.importance import Progress, reporter
from scrapl_optim.probabilities import as_distribution

__all__ = ["AlignedProbs", "Alignment", "aligned_probs", "measure_alignment"]


@dataclass(frozen=True, eq=False)
class Alignment:
    r"""Slopes of path losses at random pairs of controls, and how well their sums point away from the truth.

    A pair is a true theta and an estimate of it, drawn independently. Descent on a loss moves the estimate against
    the slope, so a slope that leads to the truth has the sign of the error theta_hat - theta. The update that a
    distribution pi over paths makes is

    .. math:: v_{mu} = \sum_p \pi_p \, s_{mpu} / r_p , \qquad r_p^2 = \frac{1}{MU} \sum_{mu} s_{mpu}^2 ,

    where the division gives each path an equal vote, as P-Adam does; ``equal_votes=False`` leaves it out, as Adam
    on the full tree does. Other distributions are scored from the same slopes, without new sounds.

    Two scores of a control are correlations over pairs, from -1 to 1. :meth:`correlation` is that of the update
    with the error. A loss that pulls all estimates to the middle scores high in it without having heard the
    target. :meth:`heard` is the correlation with the truth of what the estimate does not explain: it vanishes for
    such a loss.

    Args:
        theta: (M, U) true controls.
        theta_hat: (M, U) estimates, independent of them.
        slopes: s (M, P, U), derivative of the loss of each path in each control, at the estimate.

    Raises:
        TypeError: one is not a floating tensor.
        ValueError: shapes do not fit, there are fewer than three pairs, or an entry is not finite.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> theta, theta_hat = torch.rand(2, 64, 2, generator=generator)
        >>> error = theta_hat - theta
        >>> hears_one = error * torch.tensor([1.0, 0.0])  # a path that moves the first control only
        >>> hears_none = torch.randn(64, 2, generator=generator)
        >>> alignment = Alignment(theta, theta_hat, torch.stack([hears_one, hears_none], 1))
        >>> alignment.correlation([1.0, 0.0]).round(decimals=3)
        tensor([1., 0.], dtype=torch.float64)
        >>> alignment.score([1.0, 0.0])  # of the worst control
        0.0
    """

    theta: Tensor
    theta_hat: Tensor
    slopes: Tensor

    def __post_init__(self) -> None:
        theta = as_controls(self.theta, "theta")
        theta_hat = as_controls(self.theta_hat, "theta_hat", theta)
        slopes = self.slopes
        if not isinstance(slopes, Tensor) or not slopes.is_floating_point():
            kind = slopes.dtype if isinstance(slopes, Tensor) else type(slopes).__name__
            raise TypeError(f"Invalid slopes: {kind}; expected a floating tensor (M, P, U)")
        if slopes.ndim != 3 or slopes.shape[::2] != theta.shape or slopes.shape[1] == 0:
            raise ValueError(
                f"Invalid slopes: shape {tuple(slopes.shape)}; expected (M, P, U) with M and U of theta, "
                f"{tuple(theta.shape)}"
            )
        if not bool(slopes.isfinite().all()):
            raise ValueError("Invalid slopes: an entry is not finite; expected finite numbers")
        for name, value in (("theta", theta), ("theta_hat", theta_hat), ("slopes", slopes.detach())):
            object.__setattr__(self, name, value.to("cpu", torch.float64))

    @property
    def n_paths(self) -> int:
        """P, the number of paths."""
        return self.slopes.shape[1]

    @property
    def errors(self) -> Tensor:
        """theta_hat - theta, (M, U)."""
        return self.theta_hat - self.theta

    def votes(self) -> Tensor:
        """Return the slopes of each path over their root mean square r_p, (M, P, U); 0 for a silent path."""
        # Over the largest first, as squares of weak paths' slopes underflow.
        largest = self.slopes.abs().amax((0, 2), keepdim=True)
        scaled = self.slopes / torch.where(largest > 0, largest, 1.0)
        size = scaled.square().mean((0, 2), keepdim=True).sqrt()
        return scaled / torch.where(size > 0, size, 1.0)

    def updates(self, probs: Any = None, *, equal_votes: bool = True) -> Tensor:
        """Return v (M, U), what a distribution over paths makes of the slopes.

        Args:
            probs: (P,) pi, by default uniform.
            equal_votes: whether each path's slopes are divided by their root mean square.
        """
        slopes = self.votes() if as_switch(equal_votes, "equal_votes") else self.slopes
        return torch.einsum("mpu,p->mu", slopes, self._weights(probs))

    def correlation(self, probs: Any = None, *, equal_votes: bool = True) -> Tensor:
        """Return the correlation of the update with the error for each control, (U,)."""
        return correlation(self.updates(probs, equal_votes=equal_votes), self.errors)

    def heard(self, probs: Any = None, *, equal_votes: bool = True) -> Tensor:
        """Return the correlation of the update with -theta for each control, (U,), given the estimate.

        From both, the least-squares fit by all controls of the estimate and their squares is taken out first.
        """
        updates = self.updates(probs, equal_votes=equal_votes)
        return correlation(*without_part_of(self.theta_hat, updates, -self.theta))

    def score(self, probs: Any = None, *, equal_votes: bool = True) -> float:
        """Return the correlation of the worst control."""
        return float(self.correlation(probs, equal_votes=equal_votes).min())

    def of_paths(self) -> Tensor:
        """Return the correlation of each path alone with the error for each control, (P, U)."""
        return correlation(self.votes().transpose(0, 1), self.errors)

    def where(self, chosen: Tensor) -> Alignment:
        """Return the alignment over some of the pairs, such as near ones: ``errors.abs().amax(1) < 0.2``.

        Args:
            chosen: (M,) True for these, or indices.
        """
        return Alignment(self.theta[chosen], self.theta_hat[chosen], self.slopes[chosen])

    def interval(
        self, probs: Any = None, *, equal_votes: bool = True, level: float = 0.95, n_resamples: int = 1000,
        seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """Return the bootstrap interval of :meth:`correlation`, (2, U), over resampled pairs.

        Args:
            probs: (P,) pi, by default uniform.
            equal_votes: as in :meth:`updates`; root mean squares stay those of all pairs.
            level: share of the resamples between both ends.
            n_resamples: their number.
            seed: of the draws.
        """
        chosen = self._resamples(n_resamples, seed)
        updates = self.updates(probs, equal_votes=equal_votes)
        return interval(correlation(updates[chosen], self.errors[chosen]), _as_level(level))

    def gain(
        self, other: Alignment, probs: Any = None, other_probs: Any = None, *, equal_votes: bool = True,
        level: float = 0.95, n_resamples: int = 1000, seed: int = 0,
    ) -> tuple[float, float, float]:  # fmt: skip
        """Return by how much the score exceeds that of another loss on the same pairs, with the interval's ends.

        Both are resampled together, which is sharper than two intervals beside each other.

        Args:
            other: another loss, or the same, on the same pairs; it may have other paths.
            probs: (P,) pi, by default uniform.
            other_probs: pi of the other, by default uniform.
            equal_votes: as in :meth:`updates`, for both.
            level: as in :meth:`interval`.
            n_resamples: the same.
            seed: the same.

        Raises:
            ValueError: the pairs differ.
        """
        if not isinstance(other, Alignment):
            raise TypeError(f"Invalid other: {type(other).__name__}; expected an Alignment")
        if not torch.equal(self.theta, other.theta) or not torch.equal(self.theta_hat, other.theta_hat):
            raise ValueError("Invalid other: measured on other pairs; expected the same theta and theta_hat")
        chosen, errors = self._resamples(n_resamples, seed), self.errors
        mine = self.updates(probs, equal_votes=equal_votes)
        its = other.updates(other_probs, equal_votes=equal_votes)
        gains = _worst(mine[chosen], errors[chosen]) - _worst(its[chosen], errors[chosen])
        low, high = interval(gains, _as_level(level)).tolist()
        return float(_worst(mine, errors) - _worst(its, errors)), low, high

    def __repr__(self) -> str:
        (n_pairs, n_controls), (low, high) = self.theta.shape, self.interval()
        lines = [f"alignment of {self.n_paths} paths with {n_controls} controls, from {n_pairs} pairs, uniform pi"]
        scores = zip(self.correlation(), low, high, self.heard(), strict=True)
        lines += [
            f"  control {u}: {score:.2f} (95%: {least:.2f} to {most:.2f}), heard {heard:.2f}"
            for u, (score, least, most, heard) in enumerate(scores)
        ]
        return "\n".join(lines)

    def _weights(self, probs: Any) -> Tensor:
        if probs is None:
            return torch.full((self.n_paths,), 1 / self.n_paths, dtype=torch.float64, device="cpu")
        return torch.from_numpy(as_distribution(probs, self.n_paths))

    def _resamples(self, n_resamples: Any, seed: Any) -> Tensor:
        n = as_int(n_resamples, "n_resamples")
        if n < 1:
            raise ValueError(f"Invalid n_resamples: {n}; expected at least 1")
        return resamples(len(self.theta), n, as_uint64(seed, "seed"))


def measure_alignment(
    synth: Callable[[Tensor, list[int]], Any],
    path_loss: Callable[[Any, Any, int], Tensor],
    theta: Tensor,
    theta_hat: Tensor,
    n_paths: int,
    *,
    renderings: int = 1,
    slopes: Slopes | None = None,
    batch_size: int = 8,
    seed: int = 0,
    check: bool = True,
    progress: bool | Callable[[Progress], None] = False,
) -> Alignment:
    r"""Measure how well the gradients of path losses point from estimates of controls to the truth.

    For each pair the target is g(theta) and the sound g(theta_hat), each with random numbers of its own, and the
    slopes are :math:`s_{mpu} = \partial L_p(g(\hat\theta_m), g(\theta_m)) / \partial \hat\theta_{mu}`. Nothing is
    trained. A path costs one forward and one backward pass for each batch of pairs.

    Args:
        synth: g, called as ``synth(theta, seeds)`` with (B, U) controls and B integers from 0 to 2**63 - 1, from
            which alone it draws random numbers (onsets, phases, noise); a synthesizer without any ignores them.
        path_loss: ``path_loss(sounds, targets, path_idx)``: (B,) losses, one for each pair; one number where
            ``batch_size`` is 1. A loss without paths ignores ``path_idx``, with ``n_paths=1``.
        theta: (M, U) true controls, such as ``torch.rand(64, U)``.
        theta_hat: (M, U) estimates, drawn independently, as an encoder's are at first.
        n_paths: the number P of paths.
        renderings: renderings of each estimate, with seeds of their own; with two or more, ``path_loss`` is given
            a list of them as ``sounds``.
        slopes: ``slopes(theta_hat, seeds, targets)`` yields the slopes (B, U) of paths 0, 1, ... where there is a
            cheaper way than backward passes (``scrapl_jtfs.measure_alignment`` has one); ``seeds`` holds B
            integers for each rendering.
        batch_size: pairs whose graphs are held at a time.
        seed: of the seeds that ``synth`` is given. The same seed and pairs give other losses the same sounds.
        check: whether to look first if a pair has the same loss alone as among others.
        progress: True for a bar (needs tqdm), or a callable.

    Returns:
        The slopes of all paths, which :meth:`Alignment.score` sums under any pi.

    Raises:
        TypeError: controls are no floating tensors, or synth or path_loss cannot be called.
        ValueError: shapes do not fit, or path_loss does not return a loss for each pair.
        RuntimeError: a loss has no gradient in the controls, couples pairs, or is random beyond its seeds.
        FloatingPointError: a slope, whose path is named, is not finite.

    Example:
        >>> import torch
        >>> def synth(theta, seeds):  # a sound without random numbers
        ...     return theta[:, :1] * torch.tensor([1.0, 2.0])
        >>> def path_loss(x, y, path_idx):
        ...     return (x - y)[:, path_idx].square()
        >>> theta, theta_hat = torch.rand(2, 16, 1)
        >>> alignment = measure_alignment(synth, path_loss, theta, theta_hat, n_paths=2)
        >>> round(alignment.score(), 4)
        1.0
    """
    check_callable(synth, "synth")
    check_callable(path_loss, "path_loss")
    if slopes is not None:
        check_callable(slopes, "slopes")
    theta = as_controls(theta, "theta")
    theta_hat = as_controls(theta_hat, "theta_hat", theta)
    refuse_paths(n_paths)
    n_paths = as_n_paths(n_paths)
    counts = {"renderings": as_int(renderings, "renderings"), "batch_size": as_int(batch_size, "batch_size")}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"Invalid {name}: {count}; expected at least 1")
    pairs = seeded_pairs(theta, theta_hat, counts["renderings"], as_uint64(seed, "seed"))
    if as_switch(check, "check") and counts["batch_size"] > 1:
        check_pairs_alone(synth, path_loss, pairs.rows(0, counts["batch_size"]))
    with reporter(progress) as report:
        of_pairs = path_slopes(synth, path_loss, pairs, n_paths, counts["batch_size"], slopes, report)
    return Alignment(theta, theta_hat, of_pairs)


def aligned_probs(measured: Alignment | Sequence[Alignment], *, folds: int = 4, seed: int = 0) -> AlignedProbs:
    r"""Find the paths whose summed update points to the truth for the worst control, to be drawn uniformly.

    Paths that do not hear a sound vote as loudly as others where P-Adam gives equal votes, with the same noise.
    One after the other is left out, the one without which

    .. math:: \min_u \operatorname{corr}\Bigl(\sum_p s_{pu} / r_p, \, \hat\theta_u - \theta_u\Bigr)

    (a smooth minimum) is largest. As there are far more paths than pairs, their number is chosen by
    cross-validation over pairs: the largest whose score on held-out pairs is within a standard error of the best,
    so that all stay where pairs show no gain. The paths that stay are drawn alike, since a path that is drawn
    rarely leaves an old gradient in P-SAGA's memory.

    With few pairs the choice is chance: measure 64 or more, and compare trainings with uniform draws.

    Args:
        measured: slopes of the paths; or several measurements, of other synthesizers with the same paths, over
            which the worst control is taken.
        folds: parts into which pairs are cut, at least two, with at least three pairs in each.
        seed: of the cut.

    Returns:
        pi, with the scores on held-out pairs; printed, it says how many paths stay and what that gains.

    Raises:
        TypeError: what was measured is no Alignment.
        ValueError: numbers of paths differ, or there are too few pairs.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> theta, theta_hat = torch.rand(2, 64, 1, generator=generator)
        >>> hears = (theta_hat - theta).expand(-1, 4)
        >>> deaf = torch.randn(64, 1, generator=generator).expand(-1, 2)  # two paths with the same noise
        >>> slopes = torch.cat([hears, deaf], 1).unsqueeze(2)
        >>> aligned_probs(Alignment(theta, theta_hat, slopes)).probs
        tensor([0.2500, 0.2500, 0.2500, 0.2500, 0.0000, 0.0000], dtype=torch.float64)
    """
    several = [measured] if isinstance(measured, Alignment) else measured
    several = list(several) if isinstance(several, Iterable) else []
    if not several or not all(isinstance(one, Alignment) for one in several):
        raise TypeError(f"Invalid measured: {type(measured).__name__}; expected an Alignment, or a list of them")
    if len({one.n_paths for one in several}) > 1:
        raise ValueError(
            f"Invalid measured: of {', '.join(str(one.n_paths) for one in several)} paths; expected the same "
            "paths in all"
        )
    folds = as_int(folds, "folds")
    n_pairs = min(len(one.theta) for one in several)
    if folds < 2 or n_pairs < 3 * folds:
        raise ValueError(
            f"Invalid folds: {folds} for {n_pairs} pairs; expected at least 2, with 3 pairs in each; measure more"
        )
    votes = [Votes(one.votes().transpose(0, 1).contiguous(), one.errors) for one in several]
    return search_probs(votes, folds, as_uint64(seed, "seed"))


def _worst(updates: Tensor, errors: Tensor) -> Tensor:
    return correlation(updates, errors).amin(-1)


def _as_level(level: Any) -> float:
    number = as_number(level, "level")
    if not 0 < number < 1:
        raise ValueError(f"Invalid level: {level}; expected a share between 0 and 1, such as 0.95")
    return number
