"""Scalogram of a signal: the moduli of the first-order wavelets, with frequencies and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs._features.axes import wavelet_frequencies
from scrapl_jtfs._features.labels import axis_coordinates, extent, labelled, units
from scrapl_jtfs._transform import scattering
from scrapl_jtfs._transform.budget import first_layer_budget
from scrapl_jtfs._transform.linear.autograd import full_precision

if TYPE_CHECKING:
    from xarray import DataArray

    from scrapl_jtfs.transform import JTFSPath

# A scalogram has at least this many frames where no hop is given, or one a sample on shorter signals.
_FEWEST_FRAMES = 512


@dataclass(frozen=True, eq=False)
class Scalogram:
    """Modulus of the first-order wavelets over time, ``U1(n1, t) = |x * psi_n1|(t)``.

    Args:
        values: (..., rows, frames) real, non-negative.
        frequencies: (rows,) centre frequencies of the wavelets in Hz, falling, float64.
        times: (frames,) in seconds, rising, float64.
        sample_rate: in Hz; at 1, a transform's default, frequencies are in cycles per sample and times in samples.
    """

    values: Tensor
    frequencies: Tensor
    times: Tensor
    sample_rate: float = 1.0

    def __repr__(self) -> str:
        rows, frames = self.values.shape[-2:]
        hertz, second = units(self.sample_rate)
        axes = f"{rows} rows {extent(self.frequencies, hertz)} x {frames} frames {extent(self.times, second)}"
        return f"Scalogram({tuple(self.values.shape)}: {axes}, {self.values.dtype})"

    def to_xarray(self) -> DataArray:
        """Return the values with labels, without a gradient.

        Raises:
            ImportError: xarray is not installed.
        """
        coords = axis_coordinates(self.frequencies, self.times, self.sample_rate)
        return labelled(self.values.detach().cpu(), ("row", "frame"), coords, "scalogram")


def scalogram(jtfs: JTFSPath, x: Tensor, hop: int | None = None) -> Scalogram:
    """Compute the modulus of the first-order wavelets: see :meth:`scrapl_jtfs.JTFSPath.scalogram`."""
    geometry = jtfs.geometry
    log2_hop = _log2_hop(hop, geometry.n_samples)
    flat, batch_shape = jtfs._checked_signal(x)
    with full_precision(flat.device):
        budget = first_layer_budget(flat, geometry.n_padded, jtfs.memory)
        u1 = scattering.sampled_scalogram(jtfs._filters, flat, log2_hop, budget).flip(-2)
    frames = geometry.kept_frames(log2_hop)
    samples = np.arange(frames.start, frames.stop) * 2**log2_hop - geometry.pad_left
    frequencies = torch.from_numpy(wavelet_frequencies(jtfs)[:-1].copy())
    values, times = u1.reshape(*batch_shape, *u1.shape[1:]), torch.from_numpy(samples / jtfs.sample_rate)
    return Scalogram(values, frequencies, times, jtfs.sample_rate)


def _log2_hop(hop: object, n_samples: int) -> int:
    """Return the base-2 logarithm of the samples from one frame to the next."""
    if hop is None:
        return max(0, (n_samples // _FEWEST_FRAMES).bit_length() - 1)
    if isinstance(hop, bool) or not isinstance(hop, (int, np.integer)):
        raise TypeError(f"Invalid hop: {hop!r}; expected a power of two, or None to choose one")
    if not 1 <= hop <= n_samples or hop & (hop - 1):
        raise ValueError(f"Invalid hop: {hop}; expected a power of two from 1 to the {n_samples} samples")
    return int(hop).bit_length() - 1
