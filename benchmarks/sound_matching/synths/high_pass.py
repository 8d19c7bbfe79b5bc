"""A resonant high-pass of second order, differentiable in its cutoff and q, without a loop over samples.

The filter is s^2 / (s^2 + s/q + 1) under the bilinear transform s = cot(w0/2) (z - 1) / (z + 1), where w0 is the
cutoff in radians per sample. With alpha = sin(w0) / (2q) and z = exp(jw), its response is

    H(w) = -4 cos^2(w0/2) sin^2(w/2) / (2 D(w)),    D(w) = cos w - cos w0 + j alpha sin w.

Frames of 2N points, of which N are zeros, hold the first N samples of the output exactly if the impulse response h
is cut to N samples. What is cut off is z^-N (h_N - a_2 h_(N-1) z^-1) / A(z), where A is the denominator: from the
third sample on, h solves the recurrence without input, and two samples determine it. At the 2N frequencies of the
frame, z^-N = (-1)^k.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def high_pass(signal: Tensor, cutoff: Tensor, q: Tensor) -> Tensor:
    """Filter from rest; the response is computed in double precision, the signal transformed in its own.

    Args:
        signal: (B, N), float32 or float64.
        cutoff: (B,) radians per sample, float64, above 0 and below pi.
        q: (B,) float64, 1/2 or more: the poles are complex, or meet at 1/2.

    Returns:
        (B, N), of the signal's dtype, differentiable any number of times in all three.
    """
    n_rows, n_samples = signal.shape
    half = max(n_samples, 2)
    weights = coefficients(cutoff, q, half)
    on_cpu = signal.device.type == "cpu"
    # A sound is to be rounded alike in any batch. On the CPU, one row is transformed by another algorithm than
    # several, and where products share a vector of the processor depends on the rows before.
    if on_cpu and n_rows == 1:
        signal, weights = signal.expand(2, -1), weights.expand(2, -1, -1)
    spectrum = torch.fft.rfft(signal, 2 * half)
    functions, each = grid(half, cutoff), 1 if on_cpu else n_rows
    products = []
    for rows, some in zip(spectrum.split(each), weights.split(each), strict=True):
        numerator, denominator = (some.transpose(0, 1) @ functions).unbind()
        products.append(rows * (numerator / denominator).to(rows.dtype))
    return torch.fft.irfft(torch.cat(products), 2 * half)[:n_rows, :n_samples]


def grid(n_samples: int, like: Tensor) -> Tensor:
    """Return what the cut response is made of at w = 0, pi/N, ..., pi, complex.

    Shape (2, 3, N + 1): sin^2(w/2), (-1)^k z and (-1)^k for the numerator; 1, sin^2(w/2) and j sin w for the
    denominator.
    """
    k = torch.arange(n_samples + 1, device=like.device)
    omega = k.to(like.dtype) * (math.pi / n_samples)
    sign = (1 - 2 * (k % 2)).to(like.dtype)
    square, sine, zero = (0.5 * omega).sin().square(), omega.sin(), torch.zeros_like(omega)
    real = [square, sign * omega.cos(), sign, torch.ones_like(omega), square, zero]
    imaginary = [zero, sign * sine, zero, zero, zero, sine]
    return torch.complex(torch.stack(real), torch.stack(imaginary)).view(2, 3, -1)


def coefficients(cutoff: Tensor, q: Tensor, n_samples: int) -> Tensor:
    """Return the weights (B, 2, 3) of the functions of the grid, complex.

    Numerator and denominator are multiplied by z (1 + alpha), which makes the latter 2 D. It is written with
    sin^2(w0/2) - sin^2(w/2), half a difference of cosines, which has all digits at low cutoffs.
    """
    alpha = cutoff.sin() / (2.0 * q)
    square = (0.5 * cutoff).sin().square()
    last, after = late_samples(cutoff, q, n_samples)
    numerator = [-4.0 * (1.0 - square), -(1.0 + alpha) * after, (1.0 - alpha) * last]
    denominator = [4.0 * square, torch.full_like(square, -4.0), 2.0 * alpha]
    weights = torch.stack(numerator + denominator, dim=-1).view(-1, 2, 3)
    return torch.complex(weights, torch.zeros_like(weights))


def late_samples(cutoff: Tensor, q: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    """Return h_(N-1) and h_N, each (B,).

    The matrix M = ((x, -y), (y d, x)), x = cos(w0) / (1 + alpha), y = sin(w0) / (1 + alpha), d = 1 - 1 / (4 q^2),
    has the poles r exp(+-jv) as eigenvalues, and (M^t)_01 = -y r^(t-1) sin(tv) / sin(v), the all-pole filter's
    response. This is smooth in q where the poles meet, q = 1/2, though sin(v) is zero there and v itself has no
    derivative. With the zeros of the numerator,

        h_t = cot(w0/2) ((2 sin^2(w0/2) + alpha) (M^t)_01 - alpha (M^(t-1))_01) / (1 + alpha),    t >= 1.
    """
    alpha = cutoff.sin() / (2.0 * q)
    x, y = cutoff.cos(), cutoff.sin()
    entries = torch.stack([x, -y, y * (1.0 - 0.25 / q.square()), x], dim=-1) / (1.0 + alpha)[:, None]
    matrix = entries.view(-1, 2, 2)
    powers = [torch.linalg.matrix_power(matrix, n_samples - 2)]
    powers += [powers[0] @ matrix, powers[0] @ matrix @ matrix]
    v = [power[:, 0, 1] for power in powers]
    half = 0.5 * cutoff
    scale = half.cos() / (half.sin() * (1.0 + alpha))
    one, two = scale * (2.0 * half.sin().square() + alpha), scale * alpha
    return one * v[1] - two * v[0], one * v[2] - two * v[1]
