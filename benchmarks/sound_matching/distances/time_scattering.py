"""The distance of time scattering coefficients, which have no joint modulations of time and frequency."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

import scrapl_jtfs
from benchmarks.sound_matching.distances.checks import check_sounds, euclidean


class TimeScattering(nn.Module):
    r"""Euclidean distance of the first and second order time scattering of two sounds, as kymatio 0.3.0 weighs it.

    .. math:: \frac{1}{B} \sum_b \lVert \rho(S x_b) - \rho(S y_b) \rVert_2 , \qquad
        \rho(s) = \log(1 + s / \varepsilon) ,

    with S of all paths of order one and two and their frames, weakened by the strides of their wavelets as in
    kymatio's release. The mean of the sound, order zero, is left out, as the JTFS has none. Where the JTFS
    compares how neighbouring bands modulate together, this compares each band alone.

    Args:
        n_samples: length of the sounds.
        J: log2 of the longest scale in samples.
        Q: wavelets per octave of both orders.
        T: support of the low-pass in samples, or "global" for the mean over the sound.
        log1p_eps: epsilon of rho, in the units of the coefficients; None for the coefficients themselves.

    Raises:
        ValueError: log1p_eps is not positive, or a setting is out of range.

    Source: Andén and Mallat (2014); rho as the paper's section 4.4 has it for the JTFS, with eps 1e-3.
    """

    weights: Tensor

    def __init__(
        self,
        n_samples: int,
        *,
        J: int,
        Q: tuple[int, int] = (8, 2),
        T: int | Literal["global"],
        log1p_eps: float | None = 1e-3,
    ) -> None:
        super().__init__()
        if log1p_eps is not None and not log1p_eps > 0:
            raise ValueError(f"Invalid log1p_eps: {log1p_eps}; expected a positive number or None")
        self.log1p_eps = log1p_eps
        self.scattering = scrapl_jtfs.TimeScattering(n_samples, J, Q, T)
        weights = torch.tensor([[_weight(self.scattering, path)] for path in self.scattering.paths[1:]])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of sounds (B, n_samples)."""
        check_sounds(x, y)
        return euclidean(self.coefficients(x), self.coefficients(y)).mean()

    def coefficients(self, x: Tensor) -> Tensor:
        """Return rho of the coefficients of sounds (B, n_samples), (B, paths, frames)."""
        phi = torch.stack(self.scattering.select(x, range(1, self.scattering.n_paths)), 1)
        # The low-pass by FFT leaves rounding errors below zero.
        coefficients = torch.relu(phi * self.weights)
        return coefficients if self.log1p_eps is None else torch.log1p(coefficients / self.log1p_eps)


def _weight(scattering: scrapl_jtfs.TimeScattering, path: scrapl_jtfs.TimePath) -> float:
    """Return what kymatio 0.3.0 multiplies a path's coefficients by: see the note of the transform."""
    time = scattering.geometry.time
    strides = [time.stride_of(j) for j in (path.j1, path.j2) if j is not None]
    # With "global" it gives moduli without a low-pass, which loses a stride of its own.
    return 2.0 ** -sum(strides[:-1] if time.averaging == "global" else strides)
