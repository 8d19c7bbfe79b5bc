"""Distances of spectrograms over several resolutions (MSS): linear, log + linear, random, and revisited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from auraloss.freq import RandomResolutionSTFTLoss, STFTLoss
from torch import Tensor, nn

from benchmarks.sound_matching.distances.checks import check_sounds, euclidean
from scrapl_optim import PathSampler

REVISITED_LENGTHS = (67, 127, 257, 509, 1021, 2053)
"""Window lengths of the revisited distance in samples: primes near powers of two, whose hops share no divisor."""

# Coefficients a_k of the flat top window, sum of (-1)^k a_k cos(2 pi k n / N), as in SciPy and MATLAB.
_FLAT_TOP = (0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368)
# Magnitudes of the revisited distance that count as none.
_SILENCE = 1e-30
# Added to the seed, for draws that have nothing to do with those of paths.
_OF_DISTANCES = 1 << 32
# The longest FFT of the random distance, auraloss's own default.
_MAX_RANDOM_SIZE = 32768


class Spectrograms(nn.Module):
    r"""L1 distance of magnitudes over several FFT sizes with 75% overlap, of their logarithms too, or not.

    .. math:: \frac{1}{R} \sum_r \operatorname{mean} \bigl\lvert |X_r| - |Y_r| \bigr\rvert
        + \operatorname{mean} \bigl\lvert \log |X_r| - \log |Y_r| \bigr\rvert

    over resolutions r, the means over examples, bins and frames; by auraloss, with Hann windows.

    Args:
        sizes: FFT sizes and window lengths in samples.
        log: whether the second term is in it.

    Source: paper, section 4.2, "MSS linear" and "MSS log + linear" (Engel et al., 2020).
    """

    def __init__(self, sizes: Sequence[int], *, log: bool) -> None:
        super().__init__()
        self.losses = nn.ModuleList(
            _Magnitudes(size, size // 4, size, w_sc=0.0, w_log_mag=float(log), w_lin_mag=1.0) for size in sizes
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of sounds (B, n_samples)."""
        check_sounds(x, y)
        return torch.stack([loss(x[:, None], y[:, None]) for loss in self.losses]).sum(0) / len(self.losses)


class _Magnitudes(STFTLoss):
    """The distance at one resolution without phases, which cost auraloss time and are not used."""

    def stft(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return magnitudes (B, bins, frames) of sounds (B, n_samples), in the place of phases too."""
        window = self.window.to(x.device)
        spectrum = torch.stft(x, self.fft_size, self.hop_size, self.win_length, window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        magnitudes = power.clamp(min=self.eps).sqrt()
        return magnitudes, magnitudes


@contextmanager
def _numpy_seed(*entropy: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which auraloss draws, and put it back as it was afterwards."""
    before = np.random.get_state()  # noqa: NPY002 (auraloss draws from it)
    (seed,) = np.random.SeedSequence(entropy).generate_state(1)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class RandomSpectrograms(nn.Module):
    """Distance of spectrograms of three resolutions that each step draws anew, by auraloss.

    FFT sizes are powers of two from 16 samples to half of `max_size`, hops 10% to 100% of them, windows as long,
    half or a quarter as long, of five kinds; spectral convergence plus L1 distance of log magnitudes. The draw is
    a pure function of seed and step, so that an interrupted training goes on with the same draws.

    Args:
        n_samples: length of the sounds. `max_size`, which no draw reaches, is the largest power of two below it,
            at most 32768.
        seed: of the draws.

    Raises:
        ValueError: the sounds are so short that there is one size at most.

    Source: paper, section 4.2, "MSS random" (Steinmetz and Reiss, 2020).
    """

    def __init__(self, n_samples: int, *, seed: int = 0) -> None:
        super().__init__()
        if n_samples <= 64:
            raise ValueError(
                f"Invalid n_samples: {n_samples}; expected more than 64, for FFT sizes from 16 upwards; take "
                "longer sounds"
            )
        self.seed = seed
        self.max_size = min(_MAX_RANDOM_SIZE, 1 << (n_samples - 1).bit_length() - 1)
        with _numpy_seed(seed):
            self.loss = RandomResolutionSTFTLoss(max_fft_size=self.max_size)

    def forward(self, x: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """Compute the distance of sounds (B, n_samples) with the resolutions of a step."""
        check_sounds(x, y)
        with _numpy_seed(self.seed, step):
            return self.loss(x[:, None], y[:, None])


class DrawnDistance(nn.Module):
    """One of several distances, which each step draws uniformly: a pure function of seed and step.

    Args:
        distances: of sounds (B, n_samples).
        seed: of the draws.
    """

    def __init__(self, distances: Iterable[nn.Module], *, seed: int) -> None:
        super().__init__()
        self.distances = nn.ModuleList(distances)
        self.sampler = PathSampler(n_paths=len(self.distances), seed=(seed + _OF_DISTANCES) % (1 << 64))

    def forward(self, x: Tensor, y: Tensor, step: int) -> Tensor:
        """Compute the distance of sounds (B, n_samples) in a step."""
        return self.distances[self.sampler(step)](x, y)


class RevisitedSpectrograms(nn.Module):
    r"""Euclidean distance of compressed magnitudes log(1 + |X|), with flat top windows of prime lengths.

    .. math:: \frac{1}{B} \sum_b \sum_r \bigl\lVert \log(1 + |X_{br}|) - \log(1 + |Y_{br}|) \bigr\rVert_2

    over examples b and resolutions r; the norm is over bins and frames. FFTs are as long as their windows, hops
    half of them rounded down, frames are centred on multiples of the hop, and the sound is reflected at its ends.
    A flat top keeps the height of a peak wherever its frequency lies between bins, and so its gradient steady.

    Args:
        lengths: window lengths in samples.

    Raises:
        ValueError: the sounds are shorter than half of a window, when called.

    Source: paper, section 4.2, "MSS revisited" (Schwär and Müller, 2023).
    """

    def __init__(self, lengths: Sequence[int] = REVISITED_LENGTHS) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        for length in self.lengths:
            self.register_buffer(f"window_{length}", _flat_top(length), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of sounds (B, n_samples)."""
        check_sounds(x, y)
        shortest = max(self.lengths) // 2 + 1
        if x.shape[-1] < shortest:
            raise ValueError(
                f"Invalid x: {x.shape[-1]} samples; expected {shortest} or more, half of the longest window; "
                "leave out the windows that are too long"
            )
        distances = [
            euclidean(self._compressed(x, length), self._compressed(y, length)) for length in self.lengths
        ]
        return torch.stack(distances).sum(0).mean()

    def _compressed(self, x: Tensor, length: int) -> Tensor:
        """Return log(1 + |X|) of sounds (B, n_samples), (B, bins, frames)."""
        window = self.get_buffer(f"window_{length}").to(x.dtype)
        spectrum = torch.stft(x, length, length // 2, window=window, center=True, return_complex=True)
        # Near the smallest numbers, where fast decays end, torch's derivative of |X| is not finite.
        return torch.log1p(spectrum.masked_fill(spectrum.detach().abs() < _SILENCE, 0.0).abs())


def _flat_top(length: int) -> Tensor:
    """Return the periodic flat top window, float64."""
    phase = 2.0 * torch.pi * torch.arange(length, dtype=torch.float64) / length
    terms = [(-1) ** k * a * torch.cos(k * phase) for k, a in enumerate(_FLAT_TOP)]
    return torch.stack(terms).sum(0)
