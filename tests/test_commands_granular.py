"""GranularSynth against a literal transcription, its derivatives, its grains and its determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import hilbert
from torch import Tensor

from scrapl_jtfs.commands.granular import GranularSynth, draw_grains, smooth_step


def small_synth(**changes: float) -> GranularSynth:
    arguments = {"max_slope": 6.0, "softness": 1.3, **changes}
    return GranularSynth(2048, 8192, 8, 512, min_pitch=256.0, max_pitch=2048.0, **arguments)


def literal_texture(density: float, slope: float, seed: int, synth: GranularSynth) -> np.ndarray:
    """The docstring of synth.py, one grain and one sample formula at a time, in float64."""
    words = np.random.Philox(key=seed).random_raw(2 * synth.n_grains)
    uniform = [int(word >> 11) / 2**53 for word in words.tolist()]
    gamma = synth.max_slope * (2 * slope - 1)
    rate, length = synth.sample_rate, synth.grain_samples
    t = (np.arange(length) - (length - 1) / 2) / rate
    window = 0.5 + 0.5 * np.cos(2 * np.pi * t * rate / length)
    h = t if gamma == 0 else np.expm1(gamma * t * math.log(2)) / (gamma * math.log(2))
    audio = np.zeros(synth.n_samples)
    for n in range(synth.n_grains):
        onset = int(uniform[n] * (synth.n_samples - length + 1))
        pitch = synth.min_pitch * (synth.max_pitch / synth.min_pitch) ** uniform[synth.n_grains + n]
        c = synth.n_grains**density
        v = min(max(math.log2(c / (n + 1)) / synth.softness + 1.0, 0.0), 1.0)
        amplitude = 6 * v**5 - 15 * v**4 + 10 * v**3
        audio[onset : onset + length] += amplitude * window * np.sin(2 * np.pi * pitch * h)
    return synth.level * audio / np.sqrt(np.mean(audio**2))


@settings(max_examples=25, deadline=None)
@given(
    density=st.floats(0, 1),
    slope=st.one_of(st.floats(0, 1), st.just(0.5), st.floats(0.4999, 0.5001)),
    seed=st.integers(0, 2**62),
)
def test_agrees_with_the_literal_texture(density: float, slope: float, seed: int) -> None:
    synth = small_synth()
    expected = literal_texture(density, slope, seed, synth)
    theta = torch.tensor([[density, slope]], dtype=torch.float64)
    np.testing.assert_allclose(synth(theta, [seed])[0].numpy(), expected, rtol=0, atol=1e-11)


def test_float32_keeps_the_phase_of_long_grains() -> None:
    synth = GranularSynth(32768, 8192, 8, 4096, max_slope=3.0, softness=1.0)
    theta = torch.tensor([[0.9, 0.9], [0.5, 0.0]])
    error = (synth(theta, [1, 2]).double() - synth(theta.double(), [1, 2])).abs().max()
    assert error < 5e-7  # -100 dB below the RMS; a phase computed in float32 leaves 3e-5


@pytest.mark.parametrize("slope", [0.5, 0.0, 0.83])
@pytest.mark.parametrize("density", [0.02, 0.61])
def test_first_and_second_derivatives(density: float, slope: float) -> None:
    synth = GranularSynth(24, 64, 3, 12, min_pitch=4, max_pitch=16, max_slope=2, softness=1.0)
    theta = torch.tensor([[density, slope], [0.4, 0.5]], dtype=torch.float64, requires_grad=True)

    def render(theta: Tensor) -> Tensor:
        return synth(theta, [3, 4])

    assert torch.autograd.gradcheck(render, theta)
    assert torch.autograd.gradgradcheck(render, theta)


def test_derivatives_are_finite_on_the_border() -> None:
    synth = small_synth()
    theta = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.5], [1.0, 0.5]], requires_grad=True)
    (first,) = torch.autograd.grad(synth(theta, [0, 1, 2, 3]).pow(4).sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert first[2:, 1].abs().min() > 0  # no dead slope where there is no chirp


def test_same_seed_same_grains_in_any_batch() -> None:
    synth, theta = small_synth(), torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    together = synth(theta, torch.tensor([7, 8, 9, 7, 8]))
    torch.rand(3)  # global random state does not matter
    assert torch.equal(together[2:3], synth(theta[2:3], [9]))
    assert torch.equal(together.flip(0), synth(theta.flip(0), [8, 7, 9, 8, 7]))
    assert not torch.equal(synth(theta[:1], [7]), synth(theta[:1], [8]))
    assert (draw_grains(7, 4) != draw_grains(8, 4)).all()


def test_onsets_and_pitches_are_uniform() -> None:
    onset, pitch = small_synth().grains(range(2000))
    places = np.sort(onset.numpy().ravel() / (2048 - 512))
    octaves = np.sort(np.log2(pitch.numpy().ravel() / 256) / 3)
    grid = (np.arange(places.size) + 0.5) / places.size
    for values in (places, octaves):
        assert np.abs(values - grid).max() < 1.95 / math.sqrt(grid.size)  # Kolmogorov-Smirnov at 0.1%


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.5, 1.0])
def test_instantaneous_frequency_of_one_grain(slope: float) -> None:
    """The phase of the analytic signal, which shares nothing with the formulas."""
    synth = GranularSynth(4096, 8192, 1, 4096, min_pitch=1024, max_pitch=1024, max_slope=3.0, softness=1.0)
    audio = synth(torch.tensor([[0.0, slope]], dtype=torch.float64), [0])[0].numpy()
    measured = np.diff(np.unwrap(np.angle(np.asarray(hilbert(audio))))) * 8192 / (2 * np.pi)
    t = (np.arange(4095) - 4094 / 2) / 8192
    expected = 1024 * 2 ** (3.0 * (2 * slope - 1) * t)
    middle = slice(400, -400)  # the window leaves nothing to measure at its ends
    np.testing.assert_allclose(measured[middle], expected[middle], rtol=2e-3)


def test_level_does_not_tell_density_and_nothing_reaches_nyquist() -> None:
    synth = GranularSynth(8192, 8192, 16, 2048, max_slope=6.0, softness=1.0)
    theta = torch.tensor([[density, slope] for density in (0.0, 0.5, 1.0) for slope in (0.0, 1.0)])
    audio = synth(theta, range(6))
    torch.testing.assert_close(audio.square().mean(1).sqrt(), torch.full((6,), 0.1))
    power = torch.fft.rfft(audio).abs().square()
    assert (power[:, int(0.9 * power.shape[1]) :].sum(1) / power.sum(1)).max() < 1e-6


def test_density_counts_grains() -> None:
    synth = GranularSynth(8192, 8192, 16, 2048, max_slope=6.0, softness=1.0)
    amplitude = synth.amplitudes(torch.tensor([0.0, 0.5, 1.0]))
    assert (amplitude[:, 0] == 1).all()
    assert (amplitude[:, 1:] <= amplitude[:, :-1]).all()
    assert (amplitude[2] == 1).all()
    fading = sum(6 * v**5 - 15 * v**4 + 10 * v**3 for v in (1 + math.log2(4 / n) for n in (5, 6, 7)))
    torch.testing.assert_close(amplitude.sum(1), torch.tensor([1.0, 4.0 + fading, 16.0]))
    assert smooth_step(torch.tensor([-0.5, 0.0, 0.5])).tolist() == [0.0, 0.5, 1.0]


def test_refuses_what_it_cannot_render() -> None:
    with pytest.raises(ValueError, match=r"Invalid max_slope, min_pitch: 9, .* slopes under 8 oct/s"):
        GranularSynth(8192, 8192, 4, 2048, max_slope=9.0)
    with pytest.raises(ValueError, match=r"Invalid grain_samples: 2048; expected 2 to n_samples=1024"):
        GranularSynth(1024, 8192, 4, 2048, max_slope=1.0)
    with pytest.raises(ValueError, match=r"one row .* one seed per example"):
        small_synth()(torch.rand(3, 2), [1, 2])
