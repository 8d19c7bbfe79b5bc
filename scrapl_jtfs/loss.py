"""Losses on paths of a transform, the JTFS or any other: on one, on several, on all."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from functools import reduce
from numbers import Real
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scrapl_jtfs._loss.distance import Distance
from scrapl_jtfs._loss.pairs import in_order, select, stream_pairs
from scrapl_jtfs._validation import (
    PathIndices,
    as_dense,
    as_path_index,
    as_renderings,
    check_shapes,
    is_number,
    is_several,
)
from scrapl_jtfs.any_path_table import AnyPathTable, as_table
from scrapl_jtfs.path_table import PathTable
from scrapl_jtfs.path_transform import check_coefficients, check_path_transform
from scrapl_jtfs.prepared_target import PreparedTarget
from scrapl_jtfs.transform import JTFSPath

# Signals, or a list of two and more independent renderings of the same controls.
Signals: TypeAlias = "Tensor | Sequence[Tensor]"
Reduction = Literal["mean", "sum", "none"]
# A factor for all paths, or one for each.
Weights: TypeAlias = "float | Sequence[float] | NDArray[np.floating[Any]] | Tensor | None"


def path_distance(
    a: Signals,
    b: Tensor,
    *,
    p: float = 2.0,
    squared: bool = True,
    log1p_eps: float | None = None,
    relative_eps: float | None = None,
) -> Tensor:
    r"""Compute the distance between the coefficients of one path.

    ||rho(a) - rho(b)||_p^2, or without the square, over rows and frames; rho(s) = log(1 + s / eps), or the
    identity without eps. For several independent renderings :math:`a_1, \ldots, a_K` of the same controls it is
    the mean over all pairs of

    .. math:: \langle \rho(a_i) - \rho(b), \, \rho(a_j) - \rho(b) \rangle , \qquad i < j ,

    whose mean over renderings is :math:`\lVert \mathbb E \rho(a) - \rho(b) \rVert^2`; it may be negative.

    Args:
        a: (..., rows, frames) coefficients, non-negative; or a list of two or more renderings of them.
        b: (..., rows, frames) coefficients of the target.
        p: order of the norm, at least 1; 2 for several renderings.
        squared: whether to square it; True for several renderings.
        log1p_eps: eps of rho, in the units of the coefficients.
        relative_eps: divide by ||rho(b)||_p^2 + relative_eps^2, or by its root without the square.

    Returns:
        (...) real.

    Raises:
        TypeError: the coefficients are not real floating-point tensors.
        ValueError: they differ in shape, or an option is out of range.

    Example:
        >>> import torch
        >>> path_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
        tensor(25.)
        >>> path_distance([torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 2.0]])], torch.tensor([[0.0, 4.0]]))
        tensor(11.)

    Source: paper, Equations 1 (rho) and 3; with ``squared=False`` the distance of scrapl-loss. That of several
    renderings is not in the paper.
    """
    distance = Distance(p, squared, log1p_eps, relative_eps)
    distance.check()
    several = _are_renderings(a)
    if several:
        distance.check_takes_renderings()
    renderings, b = as_renderings(a, "a") if several else (as_dense(a, "a"),), as_dense(b, "b")
    if renderings[0].shape != b.shape or b.ndim < 2:
        raise ValueError(
            f"Invalid a and b: shapes {tuple(renderings[0].shape)} and {tuple(b.shape)}; expected coefficients "
            "(..., rows, frames) of one shape; expand one to the other"
        )
    return distance(renderings if several else renderings[0], b)


def _are_renderings(x: object) -> bool:
    return isinstance(x, (list, tuple)) and any(isinstance(rendering, Tensor) for rendering in x)


def _factors(weights: Any, n: int) -> list[float | Tensor]:
    if isinstance(weights, (Tensor, np.ndarray)) and weights.ndim == 0:
        weights = [weights if isinstance(weights, Tensor) else weights.item()] * n
    if weights is None or isinstance(weights, Real):
        factors = [1.0 if weights is None else weights] * n
    elif isinstance(weights, str) or not hasattr(weights, "__len__") or not hasattr(weights, "__iter__"):
        raise TypeError(f"Invalid weights: {weights!r}; expected a number, or one for each path")
    elif isinstance(weights, Tensor) and weights.ndim != 1:
        raise ValueError(f"Invalid weights: shape {tuple(weights.shape)}; expected one for each of {n} paths")
    else:
        factors = list(weights)
    if len(factors) != n:
        raise ValueError(f"Invalid weights: {len(factors)} of them; expected one for each of {n} paths")
    for weight in factors:
        scalar = isinstance(weight, Tensor) and weight.ndim == 0 and not (weight.is_complex() or weight.is_meta)
        if not scalar and not isinstance(weight, Real):
            raise TypeError(f"Invalid weight: {weight!r}; expected a number for each path")
        switch = isinstance(weight, bool)  # 0 or 1
        if not scalar and not switch and not is_number(weight, -sys.float_info.max, sys.float_info.max):
            raise ValueError(f"Invalid weight: {weight!r}; expected a finite number")
    return [float(weight) if isinstance(weight, Real) else weight for weight in factors]


def _check_switch(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"Invalid {name}: {value!r}; expected True or False")


class PathLoss(nn.Module):
    r"""Distance between signals on one path of a transform, scaled such that its mean over paths is the full loss.

    .. math::
        L_p(x) = P \, \lVert \phi_p(x) - \phi_p(y) \rVert^2, \qquad
        L(x) = \frac{1}{P} \sum_p L_p(x) = \sum_p \lVert \phi_p(x) - \phi_p(y) \rVert^2

    with x = ``x``, y = ``target`` and p = ``path_idx``. For p drawn uniformly, the gradient of L_p is an unbiased
    estimate of that of L; for p drawn from pi it is so with ``weights`` 1 / (P pi_p).

    Two renderings: where x is drawn at random given its controls :math:`\theta`, from a synthesizer with noise or
    grains, and :math:`m_p(\theta)` is the mean of :math:`\phi_p(x)`,

    .. math::
        \mathbb E L_p(x) = P \, \lVert m_p(\theta) - \phi_p(y) \rVert^2
        + P \, \operatorname{tr} \operatorname{Var} \phi_p(x)

    pulls :math:`\theta` towards sounds that vary little, whatever the target. Two renderings of the same
    :math:`\theta` with independent draws, as a list ``[x1, x2]`` in place of ``x``, leave the variance out:

    .. math::
        L_p(x_1, x_2) = P \, \langle \phi_p(x_1) - \phi_p(y), \, \phi_p(x_2) - \phi_p(y) \rangle , \qquad
        \mathbb E L_p(x_1, x_2) = P \, \lVert m_p(\theta) - \phi_p(y) \rVert^2 ,

    and the gradient likewise. Single values may be negative. K renderings, with the mean over all pairs, vary
    less and take K + 1 transforms in place of 2. With ``log1p_eps``, m is the mean of the logarithms. The target's
    own draw adds a constant only.

    Args:
        transform: the path transform: a :class:`PathTransform`, or whatever has its members. Coefficients of a
            path may have any number of axes, none included.
        p: order of the norm; 2 for several renderings.
        squared: square the norm (the paper) or not (scrapl-loss); True for several renderings.
        log1p_eps: compare log(1 + coefficients / log1p_eps) instead of the coefficients; for negative ones, as an
            average of signals may be, this is continued as an odd function.
        relative_eps: divide each example's distance on a path by :math:`\lVert \phi_p(y) \rVert^2 + \varepsilon^2`
            (by its root without the square), with :math:`\varepsilon` = ``relative_eps`` in the units of the
            coefficients, such that examples have an equal vote on a path whose targets are louder there or not. As
            the divisor does not depend on x, renderings leave variance out as before. Choose :math:`\varepsilon`
            well below the norms of typical targets: it is for those that are silent on a path.
        path_scale: multiply by P (the paper) or not (scrapl-loss).
        reduction: over the batch axes: "mean", "sum" or "none".

    Raises:
        ValueError: p < 1, log1p_eps or relative_eps not positive, an unknown reduction, signals of different
            shapes, weights that do not fit the paths, a target prepared by a transform with other settings, or one
            that requires a gradient where the signals do not; several renderings with another p or without the
            square, or one of them twice.
        TypeError: a signal is not a real floating-point tensor, no path is named, or the transform does not meet
            the protocol; it says what is lacking.
        IndexError: a path id is out of range.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, PathLoss
        >>> loss_fn = PathLoss(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2))
        >>> x = torch.randn(4, 2048, requires_grad=True)
        >>> loss_fn(x, torch.randn(4, 2048), path_idx=10).backward()

        Two renderings of noise with a level, whose controls get the gradient of both:

        >>> level = torch.full((4, 1), 0.5, requires_grad=True)
        >>> x1, x2 = (level * torch.randn(4, 2048) for _ in range(2))
        >>> loss_fn([x1, x2], torch.randn(4, 2048), path_idx=10).backward()

    Source: paper, Equation 3, for any scattering transform; two renderings are not in the paper.
    """

    # The name of the transform among the parts of the module.
    _PART: ClassVar[str] = "transform"

    transform: Any

    def __init__(
        self,
        transform: Any,
        *,
        p: float = 2.0,
        squared: bool = True,
        log1p_eps: float | None = None,
        relative_eps: float | None = None,
        path_scale: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_path_transform(transform)
        Distance(p, squared, log1p_eps, relative_eps).check()
        _check_switch(path_scale, "path_scale")
        if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
            raise ValueError(f"Invalid reduction: {reduction!r}; expected 'mean', 'sum' or 'none'")
        setattr(self, self._PART, transform)
        self.p = p
        self.squared = squared
        self.log1p_eps = log1p_eps
        self.relative_eps = relative_eps
        self.path_scale = path_scale
        self.reduction = reduction

    @property
    def paths(self) -> Any:
        """The table of the transform's paths."""
        return self.transform.paths

    @property
    def n_paths(self) -> int:
        """P, the number of paths."""
        return self.transform.n_paths

    @property
    def _table(self) -> AnyPathTable[Any]:
        return as_table(self.transform.paths)

    @property
    def _path_distance(self) -> Distance:
        return Distance(self.p, self.squared, self.log1p_eps, self.relative_eps, signed=True)

    def prepare(self, target: Tensor) -> PreparedTarget:
        """Keep a fixed target for many steps; pass the result in place of the signal."""
        return PreparedTarget(self.transform, target)

    def extra_repr(self) -> str:
        """Show the settings in ``repr``."""
        return (
            f"p={self.p:g}, squared={self.squared}, log1p_eps={self.log1p_eps}, "
            f"relative_eps={self.relative_eps}, path_scale={self.path_scale}, reduction={self.reduction!r}"
        )

    @torch._disable_dynamo
    def forward(
        self,
        x: Signals,
        target: Tensor | PreparedTarget,
        path_idx: int | PathIndices | None = None,
        weights: Weights = None,
    ) -> Tensor:
        """Compute L_p, or the mean of w_p L_p over several paths.

        Args:
            x: signals ``(..., *signal_shape)``, differentiated; or a list of two or more independent renderings
                of the same controls, each of that shape.
            target: signals of the same shape, or what :meth:`prepare` made of them; never differentiated.
            path_idx: one path id, or several: a list, a range, a one-dimensional array or tensor of integers. It
                cannot be left out.
            weights: one w_p for each path, or one for all; by default 1.

        Returns:
            A scalar, or (...) with reduction "none".
        """
        indices = self._named_paths(path_idx)
        factors = _factors(weights, len(indices))
        # One after the other, since coefficients of all paths may not fit into memory.
        pairs = zip(factors, self._pairs(x, target, indices), strict=True)
        total = reduce(
            operator.add, (weight * self._distance(a, b, self._own_axes(b, target)) for weight, (a, b) in pairs)
        )
        return self._reduce(total / len(indices))

    def full(
        self,
        x: Signals,
        target: Tensor | PreparedTarget,
        paths: PathIndices | Iterable[Any] | None = None,
    ) -> Tensor:
        r"""Compute the loss on the full tree, :math:`\frac{1}{P} \sum_p L_p`, or the share of some paths in it.

        Args:
            x: as in :meth:`forward`.
            target: the same.
            paths: the p to sum over, ids or paths of the transform's table, each once; by default all. P stays the
                number of all, so that the shares of disjoint sets of paths add up to the loss on the full tree.

        Returns:
            A scalar, or (...) with reduction "none".

        Raises:
            ValueError: there are no paths, one is named twice, or one is of another transform.

        Example:
            >>> import torch
            >>> from scrapl_jtfs import JTFSPath, PathLoss
            >>> loss_fn = PathLoss(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2))
            >>> x, y = torch.randn(2, 4, 2048)
            >>> shares = [loss_fn.full(x, y, bundle) for bundle in loss_fn.paths.bundles("rate")]
            >>> torch.allclose(sum(shares), loss_fn.full(x, y))
            True
        """
        n_paths = self.n_paths
        if paths is None:
            return self(x, target, range(n_paths))
        ids = self._table.ids(paths)
        return self(x, target, ids) * (len(ids) / n_paths)

    def _named_paths(self, path_idx: Any) -> list[int]:
        if path_idx is None:
            raise TypeError(
                "Invalid path_idx: None; expected the id of a path, as in loss_fn(x, target, sampler(step)); take "
                "all paths with loss_fn.full(x, target)"
            )
        if not is_several(path_idx):
            return [as_path_index(path_idx, self.n_paths)]
        indices = self._table.indices(path_idx)
        if not indices:
            raise ValueError("Invalid path_idx: an empty sequence; expected at least one path")
        return indices

    def _pairs(
        self, x: Any, target: Any, indices: list[int]
    ) -> Iterable[tuple[Tensor | tuple[Tensor, ...], Tensor]]:
        """Return the coefficients of each path, of the signals or of each rendering, and of the target."""
        if isinstance(x, PreparedTarget):
            raise TypeError(
                "Invalid x: a PreparedTarget; expected signals; it comes second, loss_fn(x, target, path_idx)"
            )
        if _are_renderings(x):
            self._path_distance.check_takes_renderings()
            x = as_renderings(x)
        if not isinstance(target, PreparedTarget):
            pairs = ((p, (a, b)) for p, a, b in stream_pairs(self.transform, x, target, indices))
            return in_order(pairs, indices)
        target.check_serves(self.transform)
        check_shapes((x[0] if isinstance(x, tuple) else as_dense(x, "x")).shape, target.signal.shape)
        together = torch.stack(x) if isinstance(x, tuple) else x
        of_x = select(self.transform, together, indices)
        of_renderings = (phi.unbind() for phi in of_x) if isinstance(x, tuple) else of_x
        return zip(of_renderings, target._known(indices, self.transform), strict=True)

    def _own_axes(self, coefficients: Tensor, target: Tensor | PreparedTarget) -> int:
        """Return how many axes a path's coefficients of the target have besides those of the batch.

        Raises:
            ValueError: the batch axes do not come first, or coefficients are not real.
        """
        signal = target.signal if isinstance(target, PreparedTarget) else target
        check_coefficients(self.transform, coefficients, signal.shape)
        return coefficients.ndim - (signal.ndim - len(self.transform.signal_shape))

    def _value(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the loss of one path from its coefficients, with two axes of their own."""
        return self._reduce(self._distance(a, b))

    def _distance(self, a: Tensor | tuple[Tensor, ...], b: Tensor, n_axes: int = 2) -> Tensor:
        if n_axes == 0:  # a number for each signal
            a = a[..., None] if isinstance(a, Tensor) else tuple(rendering[..., None] for rendering in a)
            b, n_axes = b[..., None], 1
        distance = self._path_distance(a, b, n_axes)
        return distance * self.n_paths if self.path_scale else distance

    def _reduce(self, loss: Tensor) -> Tensor:
        if self.reduction == "mean":
            return loss.mean()
        return loss.sum() if self.reduction == "sum" else loss


class JTFSPathLoss(PathLoss):
    r"""Distance between signals on one path of the JTFS: :class:`PathLoss`, under its name for this transform.

    Args:
        jtfs: the transform.
        p: order of the norm; this and the others are those of :class:`PathLoss`, which says more of each.
        squared: square the norm (the paper) or not (scrapl-loss).
        log1p_eps: compare log(1 + coefficients / log1p_eps) instead of the coefficients.
        relative_eps: divide by the norm of each target on the path, with this added in squares.
        path_scale: multiply by P (the paper) or not (scrapl-loss).
        reduction: over the batch axes: "mean", "sum" or "none".

    Attributes:
        jtfs: the transform, which is ``transform`` as well.

    Raises:
        TypeError: ``jtfs`` is no :class:`JTFSPath`; and what :class:`PathLoss` raises.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss
        >>> jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2)
        >>> loss_fn = JTFSPathLoss(jtfs)
        >>> x = torch.randn(4, 2048, requires_grad=True)
        >>> loss_fn(x, torch.randn(4, 2048), path_idx=10).backward()

        Two renderings of noise with a level, whose controls get the gradient of both:

        >>> level = torch.full((4, 1), 0.5, requires_grad=True)
        >>> x1, x2 = (level * torch.randn(4, 2048) for _ in range(2))
        >>> loss_fn([x1, x2], torch.randn(4, 2048), path_idx=10).backward()

    Source: paper, Equation 3; two renderings are not in the paper.
    """

    _PART = "jtfs"
    jtfs: JTFSPath

    def __init__(
        self,
        jtfs: JTFSPath,
        *,
        p: float = 2.0,
        squared: bool = True,
        log1p_eps: float | None = None,
        relative_eps: float | None = None,
        path_scale: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        if not isinstance(jtfs, JTFSPath):
            raise TypeError(
                f"Invalid jtfs: {type(jtfs).__name__}; expected a JTFSPath; for other transforms use PathLoss"
            )
        super().__init__(
            jtfs,
            p=p,
            squared=squared,
            log1p_eps=log1p_eps,
            relative_eps=relative_eps,
            path_scale=path_scale,
            reduction=reduction,
        )

    @property
    def transform(self) -> JTFSPath:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The transform."""
        return self.jtfs

    @property
    def paths(self) -> PathTable:
        """The table of the transform's paths."""
        return self.jtfs.paths

    @property
    def _path_distance(self) -> Distance:
        # Coefficients are moduli: what is below zero is rounding.
        return Distance(self.p, self.squared, self.log1p_eps, self.relative_eps)
