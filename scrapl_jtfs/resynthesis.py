"""Resynthesis: a new sound or picture whose coefficients are those of another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs._resynthesis.by_paths import descend_paths
from scrapl_jtfs._resynthesis.by_tree import descend_tree
from scrapl_jtfs._resynthesis.checks import (
    as_count,
    as_fixed,
    as_generator,
    check_callback,
    check_choices,
    check_finite_errors,
    check_start,
)
from scrapl_jtfs._resynthesis.marginals import Histogram, Keep, Kept, make_kept
from scrapl_jtfs._resynthesis.noise import noise
from scrapl_jtfs._resynthesis.quality import Moments, autocorrelation_error, moments
from scrapl_jtfs._resynthesis.steps import Step
from scrapl_jtfs._resynthesis.tree import Tree
from scrapl_jtfs.path_transform import PathTransform, check_path_transform

__all__ = ["Resynthesis", "ResynthesisProgress", "TextureQuality", "measure_texture", "resynthesize"]

# Steps where none are asked for.
_STEPS = {"lbfgs": 100, "paths": 1000}


class ResynthesisProgress(NamedTuple):
    """The state of a resynthesis after a step, as its callback gets it.

    Attributes:
        step: steps done; 0 at the start.
        n_steps: steps asked for.
        errors: (...) relative errors, float64: those of this step, or the last ones computed before it.
        seconds: time since the start.
        signals: returns the signals as they are now, with what is kept; to be called within the callback.
    """

    step: int
    n_steps: int
    errors: Tensor
    seconds: float
    signals: Callable[[], Tensor]


class TextureQuality(NamedTuple):
    """Nearness of signals to their target; none of it says how they sound or look.

    Attributes:
        error: (...) relative error of all coefficients, float64: 0 for equal ones, 1 for silence.
        moments: moments of the samples of the signals, each (...).
        target_moments: moments of the target's.
        autocorrelation_error: (...) relative distance of the autocorrelations, up to lags of a quarter of each
            axis; NaN where the target does not vary.
    """

    error: Tensor
    moments: Moments
    target_moments: Moments
    autocorrelation_error: Tensor


class Resynthesis(NamedTuple):
    """Result of :func:`resynthesize`.

    Attributes:
        signals: the signals, of the shape of the target or, with ``n_outputs``, of as many targets stacked.
        errors: (evaluations, ...) relative errors, float64, of the start and on the way, without the histogram
            exchanged; the error of the result is in ``quality``.
        steps: for each of ``errors`` the number of steps done.
        n_steps: steps done in all.
        stopped: whether the callback ended it.
        seconds: time that it took, without ``quality``.
        quality: nearness of the result to the target.
    """

    signals: Tensor
    errors: Tensor
    steps: tuple[int, ...]
    n_steps: int
    stopped: bool
    seconds: float
    quality: TextureQuality


def resynthesize(
    transform: PathTransform,
    target: Tensor,
    *,
    n_outputs: int | None = None,
    start: Tensor | str = "spectrum",
    keep: Keep = None,
    method: Literal["lbfgs", "paths"] = "lbfgs",
    steps: int | None = None,
    seed: int | torch.Generator = 0,
    callback: Callable[[ResynthesisProgress], object] | None = None,
) -> Resynthesis:
    r"""Make signals from noise whose coefficients are those of a target, by descending

    .. math:: E(x)^2 = \frac{\sum_p \lVert \phi_p(x) - \phi_p(y) \rVert^2}{\sum_p \lVert \phi_p(y) \rVert^2} .

    Where coefficients are averages, such as those of a transform with T="global", the result is a new texture that
    sounds or looks like the target and is another one.

    Args:
        transform: any path transform, of sounds or of images.
        target: (..., \*signal_shape) what is to be resynthesised, each by itself; of the transform's dtype and
            device.
        n_outputs: number of different outputs of each target, in a new first axis; None for one without the axis.
        start: noise to start from, "spectrum" with the target's magnitude spectrum or "white" with its mean and
            standard deviation; or signals, of the shape of the result.
        keep: "level" for signals of exactly the target's root mean square, "histogram" for signals whose samples
            have exactly the target's values, in another order. Without, both come near by themselves.
        method: "lbfgs" descends all paths at once and gets nearer in less time to a texture. Every output has a
            line search and a memory of its own, and is what it would be alone, up to rounding. "paths" descends
            one random path a step, with Adam: for trees of which a single gradient takes too long, and where
            averages are short it may end lower.
        steps: evaluations of the full tree and its gradient after that of the start (100), or paths (1000).
        seed: of noise and paths; a generator goes on from where it is.
        callback: called at the start and after each step; ends the descent where it returns True.

    Returns:
        The signals, their errors on the way, and measures of quality.

    Raises:
        TypeError: the transform is no path transform, or a signal no real floating-point tensor.
        ValueError: a signal does not fit the transform, a target requires a gradient, is silent or not finite, a
            start has another shape, or an option is unknown.

    Memory: the gradient is accumulated over bundles of paths, so that the graph of one bundle is kept at a time,
    with the coefficients of the target and, for "lbfgs", twenty copies of the signals.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, resynthesize
        >>> jtfs = JTFSPath(1024, J=6, Q=(4, 1), J_fr=2, T="global", orders=(1, 2))
        >>> clicks = (torch.arange(1024) % 128 == 0).float()
        >>> found = resynthesize(jtfs, clicks, n_outputs=2, keep="level", steps=20)
        >>> found.signals.shape, bool((found.errors[-1] < 0.2 * found.errors[0]).all())
        (torch.Size([2, 1024]), True)

    Source: not in the paper. That L-BFGS on the full tree gets nearer to one recording than random paths is in
    benchmarks/results/recordings.json.
    """
    transform = check_path_transform(transform)
    check_choices(keep, method)
    check_callback(callback)
    count = 1 if n_outputs is None else as_count(n_outputs, "n_outputs")
    n_steps = _STEPS[method] if steps is None else as_count(steps, "steps")
    target = as_fixed(transform, target, "target")
    if not isinstance(start, str):
        start = as_fixed(transform, start, "start")
    check_start(start, target, n_outputs, keep, len(transform.signal_shape))
    generator = as_generator(seed)
    # Tensors of inference mode cannot be differentiated; copies made outside of it can.
    with torch.inference_mode(False), torch.no_grad():
        targets = target.reshape(-1, *transform.signal_shape).clone()
        tree, kept = Tree(transform, targets), make_kept(keep, targets, count)
        # First, such that paths do not depend on how much noise is drawn.
        draws = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        first = noise(start, targets, count, generator) if isinstance(start, str) else start.clone()
        first = first.reshape(-1, *transform.signal_shape)
        if isinstance(kept, Histogram):
            kept.weigh(tree.errors(kept.exchanged(first)))
        if method == "lbfgs":
            descent = descend_tree(tree, kept, first, n_steps)
        else:
            descent = descend_paths(tree, kept, first, n_steps, draws)
        shape = target.shape if n_outputs is None else (count, *target.shape)
        return _run(tree, kept, targets, descent, n_steps, callback, torch.Size(shape))


def _run(
    tree: Tree,
    kept: Kept,
    targets: Tensor,
    descent: Iterator[Step],
    n_steps: int,
    callback: Callable[[ResynthesisProgress], object] | None,
    shape: torch.Size,
) -> Resynthesis:
    """Go down, tell the callback, and measure what came out."""
    batch = shape[: len(shape) - (targets.ndim - 1)]
    started = time.perf_counter()
    steps: list[int] = []
    errors: list[Tensor] = []
    stopped, step, u = False, 0, targets
    for step, (u, new) in enumerate(descent):
        if new is not None:
            check_finite_errors(new)
            steps.append(step)
            errors.append(new.reshape(batch))
        if callback is not None:
            signals_now = partial(_finished, kept, u, shape)
            passed = time.perf_counter() - started
            stopped = callback(ResynthesisProgress(step, n_steps, errors[-1], passed, signals_now)) is True
            if stopped:
                break
    if steps[-1] != step:
        steps.append(step)
        errors.append(tree.errors(kept.signals(u)).reshape(batch))
    signals = kept.finished(u)
    seconds = time.perf_counter() - started
    quality = _quality(tree, signals, targets, batch)
    return Resynthesis(signals.reshape(shape), torch.stack(errors), tuple(steps), step, stopped, seconds, quality)


def _finished(kept: Kept, u: Tensor, shape: torch.Size) -> Tensor:
    with torch.no_grad():
        return kept.finished(u).reshape(shape)


def measure_texture(transform: PathTransform, signals: Tensor, target: Tensor) -> TextureQuality:
    r"""Measure how near signals come to a target in coefficients, moments of the samples and autocorrelation.

    Args:
        transform: any path transform.
        signals: (..., \*signal_shape) signals, of the shape of the target, or with axes of outputs before it.
        target: (..., \*signal_shape) target.

    Returns:
        Measures of the shape of the leading axes of the signals.

    Raises:
        TypeError: the transform is no path transform, or a signal no real floating-point tensor.
        ValueError: the signals do not fit the transform or each other, are not finite, or the target is silent.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, measure_texture
        >>> jtfs = JTFSPath(1024, J=6, Q=(4, 1), J_fr=2, T="global", orders=(1, 2))
        >>> y = torch.randn(1024, generator=torch.Generator().manual_seed(0))
        >>> quality = measure_texture(jtfs, 0 * y, y)
        >>> round(float(quality.error), 6), float(quality.autocorrelation_error), float(quality.moments.std)
        (1.0, 1.0, 0.0)
    """
    transform = check_path_transform(transform)
    with torch.no_grad():
        target, signals = as_fixed(transform, target, "target"), as_fixed(transform, signals, "signals")
        outputs = signals.ndim - target.ndim
        if outputs < 0 or signals.shape[outputs:] != target.shape:
            raise ValueError(
                f"Invalid signals: shape {tuple(signals.shape)}; expected that of the target, "
                f"{tuple(target.shape)}, or more axes before it; compare each with its own target"
            )
        targets = target.reshape(-1, *transform.signal_shape)
        rows = signals.reshape(-1, *transform.signal_shape)
        batch = signals.shape[: signals.ndim - len(transform.signal_shape)]
        return _quality(Tree(transform, targets), rows, targets, batch)


def _quality(tree: Tree, x: Tensor, y: Tensor, batch: torch.Size) -> TextureQuality:
    """Measure signals (n * T, ...) against targets (T, ...); ``batch`` is the shape of the measures."""
    of_target = Moments(*(value.repeat(len(x) // len(y)).reshape(batch) for value in moments(y)))
    of_signals = Moments(*(value.reshape(batch) for value in moments(x)))
    return TextureQuality(
        tree.errors(x).reshape(batch), of_signals, of_target, autocorrelation_error(x, y).reshape(batch)
    )
