"""CUDA graphs of path losses: one replay instead of hundreds of kernel launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from .checks import check_not_swapped, dense
from .loss import JTFSPathLoss


class GraphedPathLoss:
    """A path loss whose forward and backward passes are captured once for each path, then replayed.

    On a GPU a path of a short signal costs its launches more than its arithmetic. A path is captured when it is
    first drawn, which takes some steps' time; the graphs share their memory. So the backward pass of one call must
    have run before the next call, as in any training loop; second derivatives are not captured.

    Args:
        loss_fn: the loss; its dtype, device and settings must not change any more.
        batch_shape: leading axes of the signals, the same in every call.

    Raises:
        TypeError: loss_fn is no JTFSPathLoss; in a call, a signal is no real floating-point tensor, or no path is
            named.
        RuntimeError: the transform is not on a CUDA device.
        ValueError: in a call, signals of another shape, dtype or device, or a target that alone requires a
            gradient.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import GraphedPathLoss, JTFSPath, JTFSPathLoss
        >>> if torch.cuda.is_available():
        ...     jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2).cuda()
        ...     loss_fn = GraphedPathLoss(JTFSPathLoss(jtfs), batch_shape=(4,))
        ...     x = torch.randn(4, 2048, device="cuda", requires_grad=True)
        ...     loss_fn(x, torch.randn(4, 2048, device="cuda"), path_idx=10).backward()
    """

    def __init__(self, loss_fn: JTFSPathLoss, batch_shape: tuple[int, ...]) -> None:
        if not isinstance(loss_fn, JTFSPathLoss):
            raise TypeError(f"Expected a JTFSPathLoss as loss_fn, got {type(loss_fn).__name__}.")
        jtfs = loss_fn.jtfs
        if jtfs.device.type != "cuda":
            raise RuntimeError(
                f"CUDA graphs need the transform on a GPU, it is on {jtfs.device}: use jtfs.cuda()."
            )
        self.loss_fn = loss_fn
        self._shape = torch.Size((*batch_shape, jtfs.geometry.n_samples))
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, Callable[[Tensor, Tensor], Tensor]] = {}

    def __call__(self, x: Tensor, target: Tensor, path_idx: int | None = None, weight: float = 1.0) -> Tensor:
        """Compute w L_p as the loss does.

        Args:
            x: (*batch_shape, n_samples) signals, differentiated.
            target: signals of the same shape, not differentiated.
            path_idx: path id p; it cannot be left out.
            weight: w, for instance 1 / (P pi_p).
        """
        if path_idx is None:
            raise TypeError("path_idx is missing: name the path, as in loss_fn(x, target, sampler(step)).")
        jtfs = self.loss_fn.jtfs
        for name, signal in (("x", dense(x, "x")), ("target", dense(target, "target"))):
            if (signal.shape, signal.dtype, signal.device) != (self._shape, jtfs.dtype, jtfs.device):
                raise ValueError(
                    f"{name} is {signal.dtype} {tuple(signal.shape)} on {signal.device}; this loss was captured "
                    f"for {jtfs.dtype} {tuple(self._shape)} on {jtfs.device}. Make a new GraphedPathLoss."
                )
        check_not_swapped(x, target)
        index = jtfs.checked_index(path_idx)
        if index not in self._graphs:
            self._graphs[index] = self._capture(index)
        # Copied: the next replay overwrites what the graph returns.
        return weight * self._graphs[index](x, target.detach()).clone()

    def _capture(self, path_idx: int) -> Callable[[Tensor, Tensor], Tensor]:
        def path_loss(x: Tensor, target: Tensor) -> Tensor:
            return self.loss_fn(x, target, path_idx)

        jtfs = self.loss_fn.jtfs
        x = torch.zeros(self._shape, dtype=jtfs.dtype, device=jtfs.device, requires_grad=True)
        target = torch.zeros(self._shape, dtype=jtfs.dtype, device=jtfs.device)
        captured = torch.cuda.make_graphed_callables(path_loss, (x, target), pool=self._pool)
        return cast("Callable[[Tensor, Tensor], Tensor]", captured)
