"""The constants of a scattering of images, and what is computed with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs._image_scattering.filters import FloatArray, cropped, lowpass, wavelets
from scrapl_jtfs._image_scattering.geometry import Axis, Geometry
from scrapl_jtfs._transform.filters import Constants
from scrapl_jtfs._transform.linear.autograd import full_precision

# Bytes of spectra that are computed at a time on a CPU: more leave its caches.
_CACHE = 2**20
# Share of a wavelet's largest response below which frequencies are left out: under float64's resolution of sums.
# Seven standard deviations from the centre are 3.6 pi / 2**j, so that of a spectrum one in every 2**(j - 2)
# frequencies along each axis is enough, but for wavelets so long that the periods they are summed over cut them.
_NEGLIGIBLE = 1e-10


class Bank(Constants):
    """Wavelets and averages of a scattering of images.

    Args:
        geometry: sizes of the transform.
    """

    def __init__(self, geometry: Geometry) -> None:
        constants, levels = _averages(geometry), []
        for j in range(geometry.J):
            response = wavelets(geometry.padded, j, geometry.L)
            levels.append(_coarsest_level(response, j))
            strides = (
                range(max(j, 1)) if geometry.max_order == 2 else range(1)
            )  # of what the band is computed from
            for level in sorted({max(stride, levels[j]) for stride in strides}):
                constants[f"psi{j}_{level}"] = cropped(response, level, (1, 2))
        super().__init__(**constants)
        self.geometry = geometry
        # By scale, log2 of the stride at which a spectrum still has all that the band is made of.
        self._levels = levels

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype and on the device of all constants."""
        return self.get_buffer("rows0")

    def continued(self, x: Tensor) -> Tensor:
        """Return images (..., height, width) continued by their reflection, about the pixels at their edges."""
        vertical, horizontal = self.geometry.axes
        return _reflected(_reflected(x, vertical, -2), horizontal, -1)

    def bands(self, spectrum: Tensor, j_in: int, j: int, orientations: Sequence[int]) -> Tensor:
        r"""Return the moduli :math:`|y * \psi_{j, l}|`, one sample in every 2**j pixels.

        Args:
            spectrum: of y, as :func:`spectrum_of` makes it, (..., height, width) / 2**j_in.
            j_in: log2 of the stride of y.
            j: scale, at least j_in.
            orientations: the l.

        Returns:
            (..., orientations, height / 2**j, width / 2**j) real.
        """
        level = max(j_in, self._levels[j])
        psi, low = self.get_buffer(f"psi{j}_{level}"), _lowest(spectrum, level - j_in)
        at_once = len(orientations)
        if low.device.type == "cpu":
            at_once = max(1, _CACHE // (low.numel() * low.element_size()))
        chunks = [orientations[i : i + at_once] for i in range(0, len(orientations), at_once)]
        moduli = [_moduli(low, _rows(psi, chunk), 2 ** (j - level)) for chunk in chunks]
        return moduli[0] if len(moduli) == 1 else torch.cat(moduli, -3)

    def averaged(self, moduli: Tensor, j: int) -> Tensor:
        """Return the average of samples (..., height, width), of which there is one in every 2**j pixels."""
        if self.geometry.average == "global":
            vertical, horizontal = (axis.kept(j) for axis in self.geometry.axes)
            return moduli[..., vertical, horizontal].mean((-2, -1), keepdim=True)
        with full_precision(moduli.device):
            return self.get_buffer(f"rows{j}") @ moduli @ self.get_buffer(f"columns{j}")


def spectrum_of(y: Tensor) -> Tensor:
    """Return the spectrum of real samples (..., height, width), divided by their number."""
    return torch.fft.fft2(y, norm="forward")


def _averages(geometry: Geometry) -> dict[str, FloatArray]:
    """Return what averages the rows and the columns of bands of each stride."""
    if geometry.average == "global":
        return {"rows0": np.ones(1)}
    averages: dict[str, FloatArray] = {}
    for name, axis in zip(("rows", "columns"), geometry.axes, strict=True):
        response = lowpass(axis.padded, geometry.J)
        for j in range(geometry.J):
            # A row of the matrix is the kernel about its frame, of which the first and last are padding.
            kernel = np.fft.ifft(cropped(response, j, (0,))).real
            frames = np.arange(1, axis.padded // 2**geometry.J - 1) * 2 ** (geometry.J - j)
            matrix = kernel[(frames[:, None] - np.arange(len(kernel))) % len(kernel)]
            averages[f"{name}{j}"] = matrix if name == "rows" else np.ascontiguousarray(matrix.T)
    return averages


def _coarsest_level(response: FloatArray, j: int) -> int:
    """Return log2 of the largest stride, below 2**j, at which a spectrum has all that wavelets respond to."""
    magnitude = np.abs(response).max(0)
    vertical, horizontal = (np.abs(np.fft.fftfreq(n)) for n in magnitude.shape)
    highest = np.maximum(vertical[:, None], horizontal)  # frequency, in cycles per pixel, along either axis
    needed = highest[magnitude > _NEGLIGIBLE * magnitude.max()].max()
    return max((level for level in range(1, j) if needed < 0.5 / 2**level), default=0)


def _rows(psi: Tensor, orientations: Sequence[int]) -> Tensor:
    """Return the responses of some orientations, a view where they follow each other."""
    first, last = orientations[0], orientations[-1]
    if list(orientations) == list(range(first, last + 1)):
        return psi[first : last + 1]
    return psi[list(orientations)]


def _moduli(spectrum: Tensor, psi: Tensor, stride: int) -> Tensor:
    """Return the moduli of bands, (..., orientations, height / stride, width / stride)."""
    product = spectrum.unsqueeze(-3) * psi
    if stride > 1:
        # A stride in space is a sum over the frequencies that become one.
        height, width = product.shape[-2:]
        product = product.unflatten(-1, (stride, width // stride)).unflatten(-3, (stride, height // stride))
        product = product.sum(-4).sum(-2)  # one call for both takes ten times as long
    return torch.fft.ifft2(product, norm="forward").abs()


def _lowest(spectrum: Tensor, level: int) -> Tensor:
    """Keep the lowest frequencies of a spectrum, one of every 2**level along each axis."""
    if level == 0:
        return spectrum
    for axis in (-2, -1):
        half = spectrum.shape[axis] >> (level + 1)
        ends = spectrum.narrow(axis, 0, half), spectrum.narrow(axis, spectrum.shape[axis] - half, half)
        spectrum = torch.cat(ends, axis)
    return spectrum


def _reflected(x: Tensor, axis: Axis, dim: int) -> Tensor:
    """Continue x along one axis; where a whole image is added, the reflection is reflected again."""
    period = [*range(axis.size), *range(axis.size - 2, 0, -1)]
    wraps = max(axis.before, axis.after) >= axis.size
    if wraps:
        index = [period[place % len(period)] for place in range(-axis.before, axis.size + axis.after)]
        return torch.cat([x.narrow(dim, place, 1) for place in index], dim)
    before = x.narrow(dim, 1, axis.before).flip(dim)
    after = x.narrow(dim, axis.size - 1 - axis.after, axis.after).flip(dim)
    return torch.cat([before, x, after], dim)
