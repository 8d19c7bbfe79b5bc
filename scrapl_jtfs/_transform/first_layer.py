"""The first layer of a batch of signals, which paths share, and the settings that its numbers depend on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs._transform.geometry import Geometry


class RowGroup(NamedTuple):
    """Rows of the scalogram that were computed together, from low to high frequency.

    Attributes:
        last: one past the largest n1 of the group; row f is n1 = last - 1 - f.
        spectra: U1^ (batch, rows, bins) complex, from bin 0 on.
    """

    last: int
    spectra: Tensor

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.spectra.shape[1]


class Settings(NamedTuple):
    """The settings that the numbers of a transform depend on: where they are equal, so are coefficients."""

    geometry: Geometry
    orders: frozenset[int]
    samples_per_bandwidth: float | None
    smoothing: float
    memory: int | None
    dtype: torch.dtype
    device: torch.device

    def differences(self, other: Settings, ignored: Collection[str] = ()) -> str:
        """Name what differs, in both; nothing where nothing does."""
        if self == other:
            return ""
        mine, theirs = (s.named() | {"dtype": s.dtype, "device": s.device} for s in (self, other))
        pairs = zip(mine.items(), theirs.values(), strict=True)
        return ", ".join(f"{k}={a} there and {b} here" for (k, a), b in pairs if a != b and k not in ignored)

    def named(self) -> dict[str, object]:
        """Return all but dtype and device by the names of the transform's arguments."""
        g = self.geometry
        named: dict[str, object] = {
            name: getattr(g, name) for name in ("n_samples", "J", "Q", "J_fr", "Q_fr", "boundary")
        }
        named |= {"T": g.time, "F": g.frequency, "orders": tuple(sorted(self.orders))}
        return named | {name: getattr(self, name) for name in ("samples_per_bandwidth", "smoothing", "memory")}


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The result of the first layer, which all paths of a batch of signals share.

    Args:
        batch_shape: leading axes of the signals.
        groups: the scalogram, from low to high frequency, at the bins that the second layer reads.
        average: S1 (batch, rows, frames), rows from low to high frequency; None unless order 1 was asked for.
        level: (batch, 1, 1) what the signals were divided by, None if nothing.
        serves: the ids of the paths that can be computed from it.
        settings: those of the transform that computed it, its dtype and device among them.
        differentiated: signals, from the first on, that are differentiated; None for all.
    """

    batch_shape: torch.Size
    groups: tuple[RowGroup, ...]
    average: Tensor | None
    level: Tensor | None
    serves: frozenset[int]
    settings: Settings
    differentiated: int | None = None

    @property
    def arrays(self) -> list[Tensor]:
        """All arrays that paths are computed from, batched along their first axes."""
        arrays = [group.spectra for group in self.groups]
        return arrays if self.average is None else [*arrays, self.average]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors that depend on the signals: the arrays, and the level where there is one."""
        return self.arrays if self.level is None else [*self.arrays, self.level]

    def with_tensors(self, tensors: Iterable[Tensor]) -> FirstLayer:
        """Return a first layer with others in place of :attr:`tensors`, in their order."""
        rest = iter(tensors)
        groups = tuple(RowGroup(group.last, next(rest)) for group in self.groups)
        average = None if self.average is None else next(rest)
        return replace(self, groups=groups, average=average, level=None if self.level is None else next(rest))

    def items(self, start: int, stop: int | None) -> FirstLayer:
        """Return that of some signals of the batch, as detached views."""
        groups = tuple(RowGroup(group.last, group.spectra[start:stop].detach()) for group in self.groups)
        average = None if self.average is None else self.average[start:stop].detach()
        return replace(self, groups=groups, average=average)

    def check_serves(self, settings: Settings, ids: Iterable[int]) -> None:
        """Raise ValueError unless a transform of these settings can compute these paths from it."""
        # How much memory a layer may take changes none of its numbers but by roundings.
        differences = self.settings.differences(settings, ignored=("memory",))
        if differences:
            raise ValueError(
                f"Invalid first layer: of another transform, or before this one was moved: {differences}; "
                "expected one of this transform as it is; compute it again"
            )
        missing = set(ids) - self.serves
        if missing:
            raise ValueError(
                f"Invalid first layer: it does not serve path {min(missing)}; expected a path that was named in "
                "first_layer; name it there"
            )
