"""The mathematics of the joint time-frequency scattering transform, as pure functions.

Definitions (each array with its axes; * is a convolution; batch axes first)
-----------
x            (t)              signal, reflected at both ends to a power of two
U1(n1, t)    = |x * psi_n1|(t)                 scalogram, stride 2**j1 in t
S1(n1, t)    = (U1 * phi_T)(t)                 its average, stride 2**log2(T), unpadded
Y2(n1, t)    = (U1 * psi_n2)(n1, t)            temporal modulation, rows j1 < j2, stride 2**j2
Yfr(n1, t)   = (Y * psi_nfr)(n1, t)            frequential modulation of Y = S1 or Y2, stride 2**j_fr in n1;
                                               n1 zero-padded on the right (towards low frequencies)
U(n1, t)     = |Yfr|(n1, t)
phi_p(n1, t) = (U * Phi_{T,F})(n1, t)          path p = (n2, n_fr), or (n_fr) at order 1 where Y is averaged
                                               in time already; the low-pass along n1 is left out for n_fr = 0

Strides are kymatio's: capped by those of T and F where these average locally. Source: paper, Equation 1 and
section 4.1; Anden, Lostanlen & Mallat, Joint time-frequency scattering (2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .geometry import Geometry
from .subband import SubbandPlan, analyze, modulus


def pad_signal(x: Tensor, geometry: Geometry) -> Tensor:
    """Reflect (batch, n_samples) to (batch, n_padded)."""
    return torch.nn.functional.pad(x, (geometry.pad_left, geometry.pad_right), mode="reflect")


def scalogram(x_padded: Tensor, plan: SubbandPlan, responses: Sequence[Tensor]) -> list[Tensor]:
    """Compute U1: one (batch, filters of that stride, frames) real tensor for each first-order stride."""
    return [modulus(z) for z in analyze(x_padded, plan, responses)]


def temporal_modulation(u1: Sequence[Tensor], plans: Sequence[SubbandPlan], responses: Sequence[Tensor]) -> Tensor:
    """Compute Y2: (batch, n1, frames) complex, demodulated alike for all n1, hence up to a phase in t."""
    bands = [
        analyze(u, plan, [response])[0].squeeze(-2) for u, plan, response in zip(u1, plans, responses, strict=True)
    ]
    return torch.cat(bands, dim=-2) if len(bands) > 1 else bands[0]


def frequential_modulation(y: Tensor, matrix: Tensor) -> Tensor:
    """Compute U = |Y * psi_nfr| along n1.

    Args:
        y: (batch, n1, frames), complex at order 2, real at order 1.
        matrix: (rows, n1) complex circulant matrix of psi_nfr, decimated, one column for each existing n1.

    Returns:
        (batch, rows, frames) real.
    """
    return modulus(torch.matmul(matrix, y.to(matrix.dtype)))


def average_time(u: Tensor, matrix: Tensor) -> Tensor:
    """Apply the low-pass along time: (..., frames in) times (frames in, frames out)."""
    return torch.matmul(u, matrix)


def average_time_by_fft(u: Tensor, response: Tensor, n_out: int) -> Tensor:
    """Apply the low-pass along time as a product of spectra, decimated to ``n_out`` frames.

    Args:
        u: (..., n) real.
        response: (bins,) real response at bins 0 to min(n // 2, n_out) of u.
        n_out: frames out, n divided by a power of two.
    """
    spectrum = torch.fft.rfft(u, norm="forward")[..., : len(response)] * response
    half = n_out // 2
    folded = spectrum[..., : half + 1]
    if n_out < u.shape[-1]:
        # Decimation folds bin n_out - k, conjugated, onto bin k.
        folded = folded + spectrum[..., half : n_out + 1].flip(-1).conj()
    return torch.fft.irfft(folded, n=n_out, norm="forward")


def average_rows(u: Tensor, matrix: Tensor) -> Tensor:
    """Apply the low-pass along log-frequency: (rows out, rows in) times (batch, rows in, t)."""
    return torch.matmul(matrix, u)
