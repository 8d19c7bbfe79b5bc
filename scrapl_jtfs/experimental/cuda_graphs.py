"""CUDA graphs of path losses: one replay takes the place of hundreds of kernel launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from scrapl_jtfs._validation import as_dense, check_not_swapped
from scrapl_jtfs.loss import JTFSPathLoss
from scrapl_jtfs.transform import JTFSPath


class GraphedPathLoss:
    """Path loss whose forward and backward passes are captured once for each path, then replayed.

    On a GPU, a path of a short signal spends more time on launching kernels than on arithmetic. A path is captured
    when it is first drawn, which takes as long as some steps; the graphs share their memory. The backward pass of
    one call must therefore have run before the next call, as it has in any training loop. Second derivatives are
    not captured.

    This class is experimental: it has not been run on a GPU.

    Args:
        loss_fn: the loss; its dtype, device and settings must not change any more.
        batch_shape: leading axes of the signals, which are the same in every call.

    Raises:
        TypeError: ``loss_fn`` is not a JTFSPathLoss, or ``batch_shape`` does not consist of integers.
        ValueError: an axis of ``batch_shape`` is empty.
        RuntimeError: the transform is not on a CUDA device.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss
        >>> from scrapl_jtfs.experimental import GraphedPathLoss
        >>> if torch.cuda.is_available():
        ...     jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2).cuda()
        ...     loss_fn = GraphedPathLoss(JTFSPathLoss(jtfs), batch_shape=(4,))
        ...     x = torch.randn(4, 2048, device="cuda", requires_grad=True)
        ...     loss_fn(x, torch.randn(4, 2048, device="cuda"), path_idx=10).backward()
    """

    def __init__(self, loss_fn: JTFSPathLoss, batch_shape: tuple[int, ...]) -> None:
        if not isinstance(loss_fn, JTFSPathLoss):
            raise TypeError(f"Invalid loss_fn: a {type(loss_fn).__name__}; expected a JTFSPathLoss")
        jtfs = loss_fn.jtfs
        self._shape = torch.Size((*_as_batch_shape(batch_shape), jtfs.geometry.n_samples))
        if jtfs.device.type != "cuda":
            raise RuntimeError(
                f"Invalid loss_fn: its transform is on {jtfs.device}; expected a CUDA device; use jtfs.cuda()"
            )
        self.loss_fn = loss_fn
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}

    def __call__(self, x: Tensor, target: Tensor, path_idx: int | None = None, weight: float = 1.0) -> Tensor:
        """Compute w L_p as the loss does.

        Args:
            x: (*batch_shape, n_samples) signals, differentiated.
            target: signals of the same shape, not differentiated.
            path_idx: path id p; it cannot be left out.
            weight: w, for instance 1 / (P pi_p).

        Returns:
            A scalar.

        Raises:
            TypeError: a signal is not a real floating-point tensor, or no path is named.
            IndexError: there is no such path.
            ValueError: the signals have another shape, dtype or device than those that were captured, or the
                target alone requires a gradient.
        """
        index = check_call(self.loss_fn.jtfs, self._shape, x, target, path_idx)
        if index not in self._graphs:
            self._graphs[index] = self._capture(index)
        # The next replay overwrites what the graph returns, hence the copy.
        return weight * self._graphs[index](x, target.detach()).clone()

    def _capture(self, path_idx: int) -> Callable[[Tensor, Tensor], Tensor]:
        def path_loss(x: Tensor, target: Tensor) -> Tensor:
            return self.loss_fn(x, target, path_idx)

        jtfs = self.loss_fn.jtfs
        x = torch.zeros(self._shape, dtype=jtfs.dtype, device=jtfs.device, requires_grad=True)
        target = torch.zeros(self._shape, dtype=jtfs.dtype, device=jtfs.device)
        captured = torch.cuda.make_graphed_callables(path_loss, (x, target), pool=self._pool)
        return cast("Callable[[Tensor, Tensor], Tensor]", captured)


def check_call(jtfs: JTFSPath, shape: torch.Size, x: Any, target: Any, path_idx: Any) -> int:
    """Return the path id of a call, whose signals must be of one shape and fit the transform.

    Args:
        jtfs: the transform.
        shape: of the signals that were captured.
        x: signals, differentiated.
        target: signals, not differentiated.
        path_idx: path id p.

    Raises:
        TypeError, IndexError, ValueError: as for a call of :class:`GraphedPathLoss`.
    """
    if path_idx is None:
        raise TypeError(
            "Invalid path_idx: None; expected the id of a path; call loss_fn(x, target, sampler(step))"
        )
    for name, signal in (("x", as_dense(x, "x")), ("target", as_dense(target, "target"))):
        if (signal.shape, signal.dtype, signal.device) != (shape, jtfs.dtype, jtfs.device):
            raise ValueError(
                f"Invalid {name}: {signal.dtype} {tuple(signal.shape)} on {signal.device}; expected {jtfs.dtype} "
                f"{tuple(shape)} on {jtfs.device}, as captured; make a new GraphedPathLoss"
            )
    check_not_swapped([x], target)
    return jtfs.checked_index(path_idx)


def _as_batch_shape(batch_shape: Any) -> tuple[int, ...]:
    """Return the leading axes of the signals as a tuple of integers, each at least 1."""
    if not isinstance(batch_shape, (tuple, list)) or not all(type(size) is int for size in batch_shape):
        raise TypeError(f"Invalid batch_shape: {batch_shape!r}; expected a tuple of integers, such as (4,)")
    if any(size < 1 for size in batch_shape):
        raise ValueError(f"Invalid batch_shape: {batch_shape!r}; expected sizes of at least 1")
    return tuple(batch_shape)
