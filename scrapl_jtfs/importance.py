"""theta-importance of paths in one call: float64 copies, Taylor series, and what examples leave uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scrapl_jtfs._importance.problem import Batch, KnownDerivatives, Problem, as_conditions, float64, n_series
from scrapl_jtfs._validation import PathIndices
from scrapl_jtfs.any_path_table import as_table
from scrapl_jtfs.loss import PathLoss
from scrapl_optim import Progress, SharedSubspace, ThetaImportance, probabilities, theta_importance
from scrapl_optim._deprecation import rename_fields
from scrapl_optim._validation import as_int, as_switch
from scrapl_optim.importance import reporter

SERIES = 48
"""First layers held at a time: a batch of B examples with U controls has B (1 + U + U (U + 1) / 2) of them."""


@rename_fields(curvature="importance", pi="probs")
@dataclass(frozen=True, repr=False)
class Importance:
    r"""Probabilities of paths and their importances, with the errors that say how far they are to be trusted.

    There are two errors, and the second is far larger. ``residual`` is the error of the eigenvalue search, which
    ``tolerance`` bounds. ``halves`` shows the error from the choice of examples, which falls with their number. In
    a trial with 49 paths, residuals were within 0.01, but pi of 2 to 16 examples differed from pi of 64 others by
    0.13 to 0.26 in total variation. That was 0.5 to 1 times the distance between its own halves.

    Attributes:
        probs: :math:`\pi`, the probabilities of the paths, shape ``(P,)``, float64, for
            :class:`scrapl_optim.PathSampler`; 0 for paths that were not asked for.
        importance: C of each control and path for the loss over all examples, shape ``(U, P)``, float64; NaN for
            paths that were not asked for.
        residual: relative residual of each, shape ``(U, P)``.
        tolerance: residual that was asked for.
        n_examples: the number E of examples.
        halves: pi of either half of the examples alone, shape ``(2, P)``; None where there are no halves.
        paths: the table of paths that were asked for.
    """

    probs: Tensor
    importance: Tensor
    residual: Tensor
    tolerance: float
    n_examples: int
    halves: Tensor | None
    paths: tuple[Any, ...]

    @property
    def unconverged(self) -> list[tuple[int, int]]:
        """Path and control of each value whose residual is above the tolerance."""
        return [(int(p), int(u)) for u, p in (self.residual > self.tolerance).nonzero().tolist()]

    @property
    def halves_apart(self) -> float | None:
        r"""Total variation :math:`\frac12 \sum_p |\pi_p - \pi'_p|` between pi of the halves, from 0 to 1."""
        return None if self.halves is None else _total_variation(self.halves[0], self.halves[1])

    @property
    def from_uniform(self) -> float:
        """Total variation between pi and the uniform distribution over the paths that were asked for."""
        uniform = torch.zeros_like(self.probs)
        uniform[[path.index for path in self.paths]] = 1 / len(self.paths)
        return _total_variation(self.probs, uniform)

    @property
    def n_effective(self) -> float:
        r"""Effective number of paths, :math:`\exp(-\sum_p \pi_p \log \pi_p)`: P for uniform pi, 1 for one path."""
        return math.exp(-float(torch.special.xlogy(self.probs, self.probs).sum()))

    def __repr__(self) -> str:
        n, n_controls = len(self.paths), self.importance.shape[0]
        asked = self.residual[:, [path.index for path in self.paths]]
        unconverged = len(self.unconverged)
        count = f"{unconverged} of {n * n_controls} values not converged"
        first, *others = self.probs.argsort(descending=True)[:5].tolist()
        likeliest = next(path for path in self.paths if path.index == first)
        then = ", ".join(str(p) for p in others if self.probs[p] > 0) or "none"
        if self.halves_apart is None:
            halves = "not compared in halves: their error is unknown"
        else:
            halves = f"pi of two halves {self.halves_apart:.2f} apart in total variation"
        return "\n".join([
            f"theta-importance of {n} paths for {n_controls} controls, from {self.n_examples} examples",
            f"  residuals: at most {float(asked.max()):.0e} (tolerance {self.tolerance:.0e}), {count}",
            f"  examples:  {halves} (pi from uniform: {self.from_uniform:.2f})",
            f"  effective: {self.n_effective:.0f} of {n} paths",
            f"  likeliest: {likeliest}, {n * float(self.probs[first]):.1f} times uniform; then {then}",
        ])  # fmt: skip


def importance(
    encoder: nn.Module | Callable[[Tensor], Tensor],
    synth: Callable[..., Tensor],
    loss_fn: PathLoss,
    examples: Tensor | Iterable[Tensor],
    *,
    targets: Tensor | None = None,
    conditions: Tensor | Sequence[Tensor] = (),
    paths: PathIndices | None = None,
    halves: bool = True,
    tolerance: float = 1e-3,
    batch_size: int | None = None,
    max_graphs: int = 16,
    seed: int = 0,
    progress: bool | Callable[[Progress], None] = False,
) -> Importance:
    r"""Find how much each path tells about the controls of a synthesizer, as probabilities to draw paths by.

    The encoder hears a sound and answers with controls, the synthesizer plays them, and the loss compares the two
    sounds. This is :func:`scrapl_optim.theta_importance` with ``method=SharedSubspace(...)`` and, for paths of the
    JTFS, derivatives by :class:`PathTaylor`; those of other transforms take double backward passes. Call that one
    for other losses, other methods, results on disk or several processes.

    All is computed in float64, on copies of encoder, loss and synthesizer (where it is a module) in evaluation
    mode; the caller's stay as they are, weights, gradients, dtype and mode. While it runs, torch's default dtype
    is float64, so that constants that they make on the way are, too.

    Args:
        encoder: a module, or a method of one such as ``model.encode``: maps ``examples`` to controls (B, U), each
            example by itself. Its trainable weights are those that count.
        synth: maps controls to sounds (B, N) or (B, ..., N), deterministic, differentiable twice, each example
            by itself. Called as ``synth(theta)``; as ``synth(theta, examples)``, with those that the controls
            belong to, if it cannot be called with one argument; or as ``synth(theta, *conditions)``. It is called
            on batches: noise from a seed of its own is the same in all of them, and better given as conditions.
        loss_fn: the loss, on the JTFS or any other transform, which may be in float32.
        examples: E sounds to be matched, (E, N) or (E, 1, N), whichever the encoder takes, of any floating dtype;
            or batches of them, or a list of sounds (N,). Start with 16, and see from ``halves_apart`` whether
            they are enough.
        targets: (E, N) sounds to be matched, where ``examples`` are something else, such as features of them.
        conditions: a tensor, or several, with an entry for each example that the synthesizer takes besides
            controls, such as onsets or seeds; floating ones become float64.
        paths: ids of the paths to draw from, by default all. pi of the others is 0: ids stay what they are.
        halves: also compute pi of two disjoint halves of the examples, chosen by ``seed``, from the same
            derivatives; the search among the encoder's weights runs once more for each.
        tolerance: relative residual of each eigenvalue.
        batch_size: examples whose derivatives are computed at a time; by default as many as make 48 first layers
            (8 for two controls).
        max_graphs: examples whose graph through the encoder's gradient is kept between products: more are faster,
            fewer take less memory.
        seed: of the search and of the halves.
        progress: True for a bar (needs tqdm), or a callable that takes a :class:`scrapl_optim.Progress`.

    Returns:
        The probabilities pi of the paths, their importances C, and the errors of both.

    Raises:
        TypeError: the encoder is no module, the loss no PathLoss, examples are not real floating-point
            tensors, synth takes other arguments, or its sounds are not float64.
        ValueError: examples, targets, conditions and sounds do not fit together or the transform, encoder or synth
            fail on them, or no path depends on a control.
        IndexError: a path id is out of range.
        RuntimeError: encoder or synthesizer are not deterministic, weights do not reach the controls, or a
            synthesizer couples examples; it says which.
        FloatingPointError: a derivative of a path, which is named, is not finite.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss, importance
        >>> from scrapl_optim import PathSampler
        >>> time = torch.arange(1024) / 1024
        >>> def synth(theta):  # loudness and pitch
        ...     return theta[:, :1] * torch.sin(2 * torch.pi * 64 * 2 ** theta[:, 1:] * time)
        >>> encoder = torch.nn.Sequential(torch.nn.Linear(1024, 2), torch.nn.Sigmoid())
        >>> loss_fn = JTFSPathLoss(JTFSPath(1024, J=5, Q=(4, 1), J_fr=2, T=64, sample_rate=1024))
        >>> result = importance(encoder, synth, loss_fn, synth(torch.rand(4, 2)))
        >>> print(str(result).splitlines()[0])
        theta-importance of 21 paths for 2 controls, from 4 examples
        >>> path_idx = PathSampler(result.probs)(0)

    Source: SCRAPL, section 3.4, equations (10) to (12).
    """
    chosen, seed = _chosen(loss_fn, paths), as_int(seed, "seed")
    size = None if batch_size is None else as_int(batch_size, "batch_size")
    if size is not None and size < 1:
        raise ValueError(f"Invalid batch_size: {size}; expected at least 1")
    in_halves = as_switch(halves, "halves")
    extra = as_conditions(conditions)
    method = SharedSubspace(tolerance, split_batch=lambda batch: batch.split(1), max_graphs=max_graphs)
    with float64(loss_fn.transform.device):
        problem = Problem(encoder, synth, loss_fn, len(extra))
        data = problem.data(examples, targets, extra)
        n_controls = problem.try_out(data.rows(slice(2)))
        size = size or max(1, SERIES // n_series(n_controls))
        parts = [part.split(size) for part in (_halved(data, seed) if in_halves else [data])]
        batches = [batch for part in parts for batch in part]
        problem.leave_out_idle_weights(batches)
        groups = [batches, *parts] if len(parts) == 2 else [batches]
        with reporter(progress) as report:
            meter = _Meter(report, len(chosen) * (len(batches) + len(groups) * n_controls))
            derivatives = KnownDerivatives(problem, meter.derivatives)
            results = [
                theta_importance(
                    problem.controls, problem.sounds, problem.loss, group, problem.weights, loss_fn.n_paths,
                    method=method, paths=chosen, derivatives=derivatives, seed=seed, check=group is batches,
                    progress=meter.search,
                )
                for group in groups
            ]  # fmt: skip
    pis = [_probabilities(one, chosen) for one in results]
    count = (
        1 if loss_fn.reduction == "sum" else math.prod(data.target.shape[: -len(loss_fn.transform.signal_shape)])
    )
    return Importance(
        probs=pis[0],
        importance=results[0].importance / count,
        residual=results[0].residual,
        tolerance=results[0].tolerance,
        n_examples=len(data),
        halves=torch.stack(pis[1:]) if len(pis) > 1 else None,
        paths=tuple(loss_fn.paths[p] for p in chosen),
    )


class _Meter:
    """Counts what is done: derivatives of paths on batches, and values of all searches.

    Args:
        report: told of each.
        total: how many there will be.
    """

    def __init__(self, report: Callable[[Progress], None], total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def derivatives(self, path_idx: int) -> None:
        """Count the derivatives of a path on a batch."""
        self._done += 1
        self._report(Progress(self._done, self._total, "derivatives", path_idx))

    def search(self, state: Progress) -> None:
        """Count a value; pass on that a subspace grew."""
        if state.stage != "derivatives":
            self._done += state.stage == "values"
            self._report(state._replace(done=self._done, total=self._total))


def _chosen(loss_fn: Any, paths: PathIndices | None) -> list[int]:
    """Return the ids of the paths to compute, sorted."""
    if not isinstance(loss_fn, PathLoss):
        raise TypeError(
            f"Invalid loss_fn: {type(loss_fn).__name__}; expected a JTFSPathLoss or another PathLoss, as loss_fn "
            "of a SCRAPL is; for other losses call scrapl_optim.theta_importance"
        )
    chosen = sorted(set(as_table(loss_fn.paths).indices(range(loss_fn.n_paths) if paths is None else paths)))
    if not chosen:
        raise ValueError("Invalid paths: none; expected at least one path id")
    return chosen


def _halved(data: Batch, seed: int) -> list[Batch]:
    """Return two disjoint halves of the examples; all of them where there is one."""
    if len(data) < 2:
        return [data]
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(data), generator=generator, device="cpu")
    return [data.rows(half.to(data.x.device)) for half in order.tensor_split(2)]


def _probabilities(result: ThetaImportance, chosen: list[int]) -> Tensor:
    """Return pi, 0 outside of the chosen paths."""
    importance = torch.zeros_like(result.importance)
    importance[:, chosen] = result.importance[:, chosen]
    return probabilities(importance)


def _total_variation(p: Tensor, q: Tensor) -> float:
    return float((p - q).abs().sum()) / 2
