"""Comparison of an optimizer with a literal twin of its definition, step by step."""

# Annotations stay strings: help() would else spell ArrayLike out, half a screen long.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from scrapl_optim._validation import check_callable
from scrapl_optim.testing._numbers import as_array, check_tolerances, show

_PATHS_SHOWN = 20


class Twin(Protocol):
    """A definition to hold an optimizer against: slow, literal, in NumPy."""

    @property
    def w(self) -> npt.ArrayLike:
        """The weights as they are now."""
        ...

    def step(self, path: int, gradient: npt.NDArray[np.float64], /) -> Any:
        """Move the weights by the gradient of a path."""
        ...


class HasGradients(Protocol):
    """Path losses: :class:`scrapl_optim.testing.PathLosses`, or anything with these two."""

    @property
    def n_weights(self) -> int:
        """Size of the vector of weights."""
        ...

    def gradient(self, w: Tensor, p: int) -> Tensor:
        """Return the gradient of the loss of path p at w."""
        ...


def step_with_path_idx(optimizer: Optimizer, path: int) -> None:
    """Take a step as :class:`scrapl_optim.PathAdamSAGA` wants it."""
    optimizer.step(path_idx=path)  # type: ignore[call-arg]


def assert_matches_twin(
    make_optimizer: Callable[[list[Parameter]], Optimizer],
    make_twin: Callable[[npt.NDArray[np.float64]], Twin],
    losses: HasGradients | Sequence[npt.ArrayLike],
    path_sequence: Sequence[int],
    *,
    step: Callable[[Any, int], Any] = step_with_path_idx,
    start: npt.ArrayLike | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
    dtype: torch.dtype = torch.float64,
    rtol: float = 1e-8,
    atol: float = 0.0,
) -> None:
    r"""Assert that an optimizer takes the same steps as a literal twin of its definition.

    Both start at one vector w. At step k the gradient of path :math:`p_k` is taken at the optimizer's weights and
    given to both, so that the first step at which they part is the first that differs. After each step,

    .. math:: |w_i - w^\text{twin}_i| \leq \text{atol} + \text{rtol} \, \max_{j, k' \leq k} |w^\text{twin}_j(k')|

    Args:
        make_optimizer: returns the optimizer of a list of parameters of ``dtype``: one, or as many as ``shapes``.
        make_twin: returns the twin that starts at a float64 vector: anything with ``step(p, gradient)``, both in
            float64, and ``w``, an array.
        losses: :class:`PathLosses` or the like, or one gradient for each step, whatever the weights are.
        path_sequence: the path of each step.
        step: ``step(optimizer, p)`` takes the optimizer's step; by default ``optimizer.step(path_idx=p)``.
        start: w, any shape; by default ones.
        shapes: of the parameters that the entries of w are dealt out to, in order; by default one, of the shape
            of w. The twin keeps w in one piece.
        dtype: of the parameters.
        rtol: relative tolerance; raise it for a lower precision than float64.
        atol: absolute tolerance.

    Raises:
        AssertionError: if they part; says at which step and path, what was expected and what was found.
        ValueError: if gradients and paths are not equally many, shapes differ, or ``shapes`` do not hold as many
            entries as w.

    Example:
        >>> import torch
        >>> from scrapl_optim.testing import PathLosses
        >>> class GradientDescent:
        ...     def __init__(self, w):
        ...         self.w = w
        ...     def step(self, p, gradient):
        ...         self.w = self.w - 0.1 * gradient
        >>> def plain(optimizer, p):
        ...     optimizer.step()
        >>> losses = PathLosses(centers=((0,), (2,)), curvatures=((1,), (3,)))
        >>> sgd = lambda w: torch.optim.SGD(w, lr=0.1)
        >>> assert_matches_twin(sgd, GradientDescent, losses, [0, 1, 1], step=plain)
        >>> heavy_ball = lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9)
        >>> assert_matches_twin(heavy_ball, GradientDescent, losses, [0, 1, 1], step=plain)
        Traceback (most recent call last):
        AssertionError: the optimizer parts from its twin at step 2 of 3, path 1, after paths [0]
          weight (0,): expected 1.23, found 1.14, difference 0.09 (allowed 1.23e-08)
          expected [1.23]
          found [1.14]
          gradient [-3.3]
    """
    for name, function in (("make_optimizer", make_optimizer), ("make_twin", make_twin), ("step", step)):
        check_callable(function, name)
    check_tolerances(rtol, atol)
    for name, values in (("losses", losses), ("path_sequence", path_sequence)):
        if not hasattr(values, "gradient") and not hasattr(values, "__len__"):
            raise TypeError(f"Invalid {name}: a {type(values).__name__}; expected a sequence")
    gradients = None if hasattr(losses, "gradient") else losses
    if gradients is not None and len(gradients) != len(path_sequence):  # type: ignore[arg-type]
        raise ValueError(
            f"Invalid losses: {len(gradients)} gradients for {len(path_sequence)} paths; expected one for each"  # type: ignore[arg-type]
        )
    w = torch.from_numpy(_start(losses, start)).to(dtype)
    params = _parameters(w, shapes)
    optimizer, twin = make_optimizer(params), make_twin(as_array(w))
    largest = w.abs().max().item() if w.numel() else 0.0
    for k, path in enumerate(path_sequence):
        gradient = losses.gradient(w, path) if gradients is None else torch.from_numpy(as_array(gradients[k]))  # type: ignore
        if gradient.shape != w.shape:
            raise ValueError(
                f"Invalid gradient of step {k + 1}: shape {tuple(gradient.shape)}; expected that of the weights, "
                f"{tuple(w.shape)}"
            )
        gradient = gradient.detach().to(dtype)
        for param, part in zip(params, _deal(gradient, params), strict=True):
            param.grad = part.clone()
        rounded = as_array(gradient)
        step(optimizer, path)
        twin.step(path, rounded)
        w = torch.cat([param.detach().flatten() for param in params]).reshape(w.shape)
        expected, actual = as_array(twin.w), as_array(w)
        if expected.shape != actual.shape:
            raise ValueError(f"Invalid w of the twin: shape {expected.shape}; expected {actual.shape}")
        largest = max(largest, float(np.abs(expected).max(initial=0.0)))
        allowed = atol + rtol * largest
        if not np.all(np.abs(actual - expected) <= allowed):
            raise AssertionError(_explain(expected, actual, rounded, path_sequence, k, allowed))


def _parameters(w: Tensor, shapes: Sequence[Sequence[int]] | None) -> list[Parameter]:
    templates = [w] if shapes is None else [w.new_empty(tuple(shape)) for shape in shapes]
    n_entries = sum(template.numel() for template in templates)
    if not templates or n_entries != w.numel():
        raise ValueError(
            f"Invalid shapes: {shapes} of {n_entries} entries; expected as many as w has, {w.numel()}"
        )
    return [Parameter(part.clone()) for part in _deal(w, templates)]


def _deal(w: Tensor, templates: Sequence[Tensor]) -> list[Tensor]:
    """Return the entries of w in the shapes of the templates."""
    parts = w.flatten().split([template.numel() for template in templates])
    return [part.reshape(template.shape) for part, template in zip(parts, templates, strict=True)]


def _start(losses: Any, start: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    if start is not None:
        return as_array(start)
    if hasattr(losses, "n_weights"):
        return np.ones(losses.n_weights)
    return np.ones(np.shape(losses[0])) if len(losses) else np.ones(1)


def _explain(
    expected: npt.NDArray[np.float64],
    actual: npt.NDArray[np.float64],
    gradient: npt.NDArray[np.float64],
    paths: Sequence[int],
    k: int,
    allowed: float,
) -> str:
    difference = np.nan_to_num(np.abs(actual - expected), nan=np.inf)
    worst = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
    before = [int(path) for path in paths[max(0, k - _PATHS_SHOWN) : k]]
    dots = "..., " * (k > _PATHS_SHOWN)
    return "\n".join(
        [
            f"the optimizer parts from its twin at step {k + 1} of {len(paths)}, path {paths[k]}, after paths "
            f"[{dots}{', '.join(map(str, before))}]",
            f"  weight {worst}: expected {expected[worst]:.6g}, found {actual[worst]:.6g}, difference "
            f"{difference[worst]:.3g} (allowed {allowed:.3g})",
            f"  expected {show(expected)}",
            f"  found {show(actual)}",
            f"  gradient {show(gradient)}",
        ]
    )
