"""The clean chirplet of the benchmarks, against what its formula says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.chirplet import Chirplet, chirplet

SYNTH = Chirplet(4096, 8192.0, am=(8.0, 24.0), fm=(2.5, 7.5))


def _row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_a_chirplet_sweeps_gamma_octaves_a_second_through_the_centre_frequency() -> None:
    """The instantaneous frequency is that of the analytic signal."""
    n, rate = 8193, 8192.0
    time = (torch.arange(n, dtype=torch.float64)[None] - n // 2) / rate
    sound = chirplet(time, _row(0.0), _row(3.0), 512.0, 2.0)[0]
    spectrum = torch.fft.fft(sound)
    spectrum[n // 2 + 1 :] = 0.0
    analytic = torch.fft.ifft(spectrum)
    frequency = torch.angle(analytic[1:] * analytic[:-1].conj()) * rate / (2 * math.pi)
    for seconds in (-0.15, 0.0, 0.15):
        place = n // 2 + round(seconds * rate)
        assert frequency[place].item() == pytest.approx(512.0 * 2 ** (3 * seconds), rel=0.01)
    envelope = analytic.abs()
    sigma = 2.0 / (4 * 3.0)
    assert (envelope[n // 2 + round(sigma * rate)] / envelope[n // 2]).item() == pytest.approx(
        math.exp(-0.5), rel=0.01
    )


def test_the_spectrum_of_a_chirplet_has_the_width_of_its_sweep() -> None:
    """By stationary phase its amplitude is Gaussian in octaves, of standard deviation bandwidth / 4."""
    sound = chirplet(
        (torch.arange(4096, dtype=torch.float64)[None] - 2047.5) / 8192, _row(0.0), _row(4.0), 512.0, 2.0
    )[0]
    energy = torch.fft.rfft(sound).abs().square()[1:]
    octaves = torch.log2(torch.fft.rfftfreq(4096, 1 / 8192, dtype=torch.float64)[1:] / 512.0)
    mean = (energy * octaves).sum() / energy.sum()
    spread = ((energy * (octaves - mean).square()).sum() / energy.sum()).sqrt()
    assert abs(mean) < 0.05
    assert spread.item() == pytest.approx(0.5 / math.sqrt(2.0), rel=0.1)  # of the energy


def test_am_has_zeros_half_a_period_from_the_centre_and_a_shift_moves_the_sound() -> None:
    n = 4097  # odd, so that the centre is a sample
    synth = replace(SYNTH, n_samples=n, am=(16.0, 16.0))
    sound = synth(_row(0.0, 0.0), torch.tensor([0.0]))[0]
    half = 8192 // 32
    assert sound[n // 2 + half].abs() < 1e-12
    assert sound[n // 2 - half].abs() < 1e-12
    late = synth(_row(0.0, 0.0), torch.tensor([100.0]))[0]
    torch.testing.assert_close(late[100:], sound[:-100])


def test_gradients_of_a_chirplet_are_finite_and_right_in_its_silent_tails() -> None:
    theta = _row(0.4, 1.0).requires_grad_()
    shift = torch.zeros(1)
    assert torch.autograd.gradcheck(lambda t: SYNTH(t, shift)[:, ::97], (theta,))
