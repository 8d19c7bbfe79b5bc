"""The mathematics of the joint time-frequency scattering transform, as pure functions.

Definitions (each array with its axes; * is a convolution; ^ a discrete Fourier transform; batch axes first)
-----------
x            (t)              signal, reflected at both ends to a power of two
U1(n1, t)    = |x * psi_n1|(t)                 scalogram, stride 2**j1 in t
S1(n1, t)    = (U1 * phi_T)(t)                 its average, stride 2**log2(T), unpadded
U1^(n1, k)                                     its spectrum, at the low bins that psi_n2 passes
Y2(n1, t)    = (U1 * psi_n2)(n1, t)            temporal modulation, rows j1 < j2, stride 2**j2
Yfr(n1, t)   = (Y * psi_nfr)(n1, t)            frequential modulation of Y = S1 or Y2, stride 2**j_fr in n1;
                                               n1 zero-padded on the right (towards low frequencies)
U(n1, t)     = |Yfr|(n1, t)
phi_p(n1, t) = (U * Phi_{T,F})(n1, t)          path p = (n2, n_fr), or (n_fr) at order 1 where Y is averaged
                                               in time already; the low-pass along n1 is left out for n_fr = 0

Each layer is B |A x| with A a filter bank and B what follows its modulus up to the next: neither U1 nor U is ever
held for all rows at once. Rows of U1 and Y run from low to high frequency, those of U from high to low.

Strides are kymatio's: capped by those of T and F where these average locally; a compact transform has fewer
samples in t. Source: paper, Equation 1 and section 4.1; Anden, Lostanlen & Mallat, Joint time-frequency
scattering (2019).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .geometry import Geometry
from .linear import LinearMap, apply_linear
from .maps import Identity, Reflection, RowAverage, RowFilter, SpinPair
from .modulation import Effort, Modulation, modulate
from .subband import CommonBand, Spectrum, Subbands


def pad_signal(x: Tensor, geometry: Geometry) -> Tensor:
    """Reflect (batch, n_samples) to (batch, n_padded)."""
    return apply_linear(Reflection(geometry.pad_left, geometry.pad_right), x)


def scalogram(
    x_padded: Tensor, x_hat: Spectrum, psi1: Sequence[Subbands], after: Sequence[LinearMap], effort: Effort
) -> tuple[Tensor, ...]:
    """Compute B U1 for groups of rows: U1^ where B is a :class:`Spectrum`, S1 where it is an average.

    Args:
        x_padded: (batch, n_padded).
        x_hat: the bins that psi1 reads.
        psi1: the wavelets of each group.
        after: B for each group.
        effort: see :class:`Effort`.

    Returns:
        For each group (batch, rows, bins or frames).
    """
    layers = [Modulation(psi, b, psi.size) for psi, b in zip(psi1, after, strict=True)]
    return modulate(x_hat, layers, effort, x_padded)


def joint_modulation(
    u1_hat: Sequence[Tensor],
    psi2: CommonBand,
    psi_fr: Sequence[RowFilter | SpinPair],
    after: LinearMap,
    effort: Effort,
) -> tuple[Tensor, ...]:
    """Compute U * phi_T = |U1 * psi_n2 * psi_nfr| * phi_T.

    Args:
        u1_hat: for each group of rows (batch, rows, bins) complex.
        psi2: the temporal wavelet.
        psi_fr: frequential wavelets, each for some rows of U.
        after: what follows in time.
        effort: see :class:`Effort`.

    Returns:
        For each of ``psi_fr`` (batch, rows of U, frames).
    """
    layers = [Modulation(psi, after, psi.rows * 2 * psi2.length) for psi in psi_fr]
    return modulate(psi2, layers, effort, *u1_hat)


def frequential_modulation(
    s1: Tensor, psi_fr: Sequence[RowFilter | SpinPair], effort: Effort
) -> tuple[Tensor, ...]:
    """Compute U = |S1 * psi_nfr|, each (batch, rows of U, frames), of S1 (batch, rows, frames)."""
    frames = s1.shape[-1]
    layers = [Modulation(psi, Identity(psi.rows * frames), psi.rows * 2 * frames) for psi in psi_fr]
    return modulate(Identity(s1[0].numel()), layers, effort, s1)


def average_rows(u: Tensor, matrix: Tensor) -> Tensor:
    """Apply the low-pass along log-frequency: (rows out, rows in) times (batch, rows in, t)."""
    return apply_linear(RowAverage(matrix), u)
