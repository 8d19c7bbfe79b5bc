"""A fixed target of losses on paths, of which each path is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scrapl_jtfs._settings import differences
from scrapl_jtfs._validation import (
    PathIndices,
    as_dense,
    as_path_indices,
)
from scrapl_jtfs.path_transform import as_signals, check_path_transform
from scrapl_optim._deprecation import rename_arguments


class PreparedTarget:
    """A fixed target, computed without a graph: what paths share once, each path at most once.

    It serves the transform that prepared it and every other one with equal settings, such as a copy, a replica or
    an average of weights; numbers are computed anew where one comes with another dtype or device, and where the
    transform that prepared it has other settings by now, as one that learns has after each step.

    Args:
        transform: the path transform; its dtype and device are followed when they change.
        signal: target signals ``(..., *signal_shape)``, copied.

    ``jtfs``, the former name of ``transform``, works for one more release.

    Raises:
        TypeError: the signal is not a real floating-point tensor, or the transform does not meet the protocol.
        ValueError: it is on the meta device and the transform is not.

    Example:
        >>> import copy, torch
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss
        >>> loss_fn = JTFSPathLoss(JTFSPath(2048, J=7, Q=(8, 1), J_fr=2))
        >>> target = loss_fn.prepare(torch.randn(4, 2048))
        >>> copy.deepcopy(loss_fn)(torch.randn(4, 2048), target, path_idx=10).shape
        torch.Size([])
    """

    @rename_arguments(jtfs="transform")
    def __init__(self, transform: Any, signal: Tensor) -> None:
        check_path_transform(transform)
        self._original = (
            as_dense(signal, "target").detach().clone()
        )  # buffers get reused, and paths are computed later
        self._check_samples(transform)
        as_signals(transform, self._original.to(transform.device, transform.dtype), "target")
        self.signal = self._original
        self.transform = transform
        self._settings = transform.settings
        self._shared: Any = None  # what paths share, or the signal itself
        self._coefficients: dict[int, Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "jtfs" in state:  # pickled when the JTFS was the only transform
            state = {**state, "transform": state["jtfs"], "_shared": state["_layer"]}
            state["_settings"] = state["transform"].settings
            del state["jtfs"], state["_layer"]
        self.__dict__.update(state)

    def __repr__(self) -> str:
        known = len(self._coefficients)
        return (
            f"PreparedTarget(shape={tuple(self.signal.shape)}, {known} of {self.transform.n_paths} paths computed)"
        )

    @property
    def jtfs(self) -> Any:
        """The transform, under its former name."""
        return self.transform

    @rename_arguments(jtfs="transform")
    def coefficients(self, path_indices: PathIndices, transform: Any = None) -> list[Tensor]:
        """Return the coefficients of some paths, computing those not met before.

        Args:
            path_indices: path ids: a list, a range, a one-dimensional array or tensor of integers.
            transform: the one to compute them with, by default the one that prepared the target.

        Returns:
            For each path its coefficients: the kept ones, to be read and not written to.

        Raises:
            ValueError: the transform has other settings.
        """
        transform = self.transform if transform is None else transform
        self.check_serves(transform)
        return self._known(as_path_indices(path_indices, transform.n_paths), transform)

    def _known(self, indices: Sequence[int], transform: Any) -> list[Tensor]:
        """Return the coefficients of paths, for a transform that was checked to be the same."""
        if (self.signal.dtype, self.signal.device) != (transform.dtype, transform.device):
            self._check_samples(transform)
            self.signal = self._original.to(transform.device, transform.dtype)
            self._forget()
        missing = [p for p in dict.fromkeys(indices) if p not in self._coefficients]
        if missing:
            with torch.no_grad():
                if self._shared is None:
                    first_layer = getattr(transform, "first_layer", None)
                    self._shared = self.signal if first_layer is None else first_layer(self.signal)
                self._coefficients.update(zip(missing, transform.select(self._shared, missing), strict=True))
        return [self._coefficients[p] for p in indices]

    @rename_arguments(jtfs="transform")
    def check_serves(self, transform: Any) -> None:
        """Raise ValueError if a transform has other settings, of which dtype and device are none.

        The one that prepared the target may have changed: what was computed is forgotten then.
        """
        settings = transform.settings
        apart = differences(self._settings, settings)
        if not apart:
            return
        if transform is not self.transform:
            raise ValueError(
                f"Invalid target: it was prepared by another transform: {apart}; expected one of equal settings; "
                "prepare it with this loss"
            )
        self._settings = settings
        self._forget()

    def _forget(self) -> None:
        self._shared = None
        self._coefficients.clear()

    def _check_samples(self, transform: Any) -> None:
        if self._original.is_meta and transform.device.type != "meta":
            raise ValueError(
                f"Invalid target: shape {tuple(self._original.shape)} on the meta device; expected samples on "
                f"{transform.device}, as the transform; there is nothing to prepare without them"
            )
