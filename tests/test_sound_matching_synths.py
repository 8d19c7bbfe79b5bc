"""The synthesizers of the paper's authors against their formulas, one grain or chirplet at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.sound_matching.data import build_synth
from benchmarks.sound_matching.presets import PRESETS
from benchmarks.sound_matching.synths import PaperChirplet, PaperGranular
from benchmarks.sound_matching.synths.chirplets import draw_shifts

GRANULAR = PaperGranular(2048, 8192, 8, 512)
CHIRPLET_PRESETS = [name for name in PRESETS if "chirplet" in name]


def uniform_numbers(seed: int, count: int) -> list[float]:
    words = np.random.Philox(key=seed).random_raw(count)
    return [int(word >> 11) / 2**53 for word in words.tolist()]


def literal_texture(density: float, slope: float, seed: int, synth: PaperGranular) -> np.ndarray:
    """The formulas with running sums of instantaneous frequencies, in float64."""
    n, length, rate = synth.n_grains, synth.grain_samples, synth.sample_rate
    uniform = uniform_numbers(seed, 2 * n)
    unit = rate / (4 * 12 * (256 * length / 4096))
    gamma = math.tan(0.95 * (2 * slope - 1) * math.pi / 2) * unit
    offset = 0.25 * density + 0.75 * density**2
    amplitudes = [1 - 1 / (1 + math.exp(-2 * (1 - density) * n * (i / n - offset))) for i in range(n)]
    time = np.arange(length) / rate - length / rate / 2
    window = np.sin(np.pi * np.arange(length) / length) ** 2
    audio = np.zeros(synth.n_samples)
    for i in range(n):
        onset = int(uniform[i] * (synth.n_samples - length))
        pitch = 256.0 * 8.0 ** uniform[n + i]
        radians = 2 * np.pi * np.cumsum(pitch * 2 ** (gamma * time) / rate)
        audio[onset : onset + length] += amplitudes[i] / max(amplitudes) / pitch**0.5 * window * np.sin(radians)
    return audio / np.sqrt(np.sum(audio**2))


@settings(max_examples=25, deadline=None)
@given(
    density=st.floats(0, 1),
    slope=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])),
    seed=st.integers(0, 2**62),
)
def test_textures_agree_with_the_formulas(density: float, slope: float, seed: int) -> None:
    theta = torch.tensor([[density, slope]], dtype=torch.float64)
    found = GRANULAR(theta, [seed])[0].numpy()
    np.testing.assert_allclose(found, literal_texture(density, slope, seed, GRANULAR), rtol=0, atol=1e-11)


@pytest.mark.parametrize("slope", [0.0, 0.03125, 0.5, 1.0])
def test_the_paper_s_textures_agree_with_the_formulas(slope: float) -> None:
    """The longest grains with the steepest slopes, whose Taylor series have the largest arguments."""
    synth = build_synth(PRESETS["paper"])
    assert isinstance(synth, PaperGranular)
    theta = torch.tensor([[0.875, slope]], dtype=torch.float64)
    expected = literal_texture(0.875, slope, 5, synth)
    np.testing.assert_allclose(synth(theta, [5])[0].numpy(), expected, rtol=0, atol=1e-11)
    single = synth(theta.float(), [5])[0].numpy()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_densities_turn_grains_on_one_after_the_other() -> None:
    amplitudes = GRANULAR.amplitudes(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.equal(amplitudes[:, 0], torch.ones(3, dtype=torch.float64))
    assert (amplitudes.diff(dim=1) <= 0).all()
    assert amplitudes[2].tolist() == [1.0] * 8
    # d = 0: 1 - sigma(2 i) over 1/2. d = 1/2: half way where i/n = 5/16, between the second and the third.
    torch.testing.assert_close(amplitudes[0, 1].item(), 2 / (1 + math.exp(2)))
    raw = [1 / (1 + math.exp(8 * (i / 8 - 5 / 16))) for i in range(8)]
    torch.testing.assert_close(amplitudes[1].tolist(), [a / raw[0] for a in raw])


def test_grains_lie_in_the_sound_and_pitches_in_their_octaves() -> None:
    onset, pitch = GRANULAR.grains(range(500))
    assert 0 <= onset.min() < 10
    assert 2048 - 512 - 10 < onset.max() <= 2048 - 512
    octaves = np.sort(np.log2(pitch.numpy().ravel() / 256) / 3)
    grid = (np.arange(octaves.size) + 0.5) / octaves.size
    assert np.abs(octaves - grid).max() < 1.95 / math.sqrt(grid.size)  # Kolmogorov-Smirnov at 0.1%


def literal_chirplet(am: float, fm: float, level: float, shift: int, n: int, rate: float) -> np.ndarray:
    """The formulas, shifted by moving samples and writing zeros, in float64."""
    time = (np.arange(n) - n // 2) / rate
    cycles = 512 / (fm * math.log(2)) * (2 ** (fm * time) - 1)
    window = np.exp(-((time / (math.sqrt(2) * 0.2 / fm)) ** 2))
    sound = level * window * np.sin(2 * np.pi * (am / 2) * time) * np.sin(2 * np.pi * cycles)
    moved = np.zeros(n)
    if shift >= 0:
        moved[shift:] = sound[: n - shift]
    else:
        moved[:shift] = sound[-shift:]
    return moved


@pytest.mark.parametrize("name", CHIRPLET_PRESETS)
def test_chirplets_agree_with_the_formulas(name: str) -> None:
    """Levels are gamma, in the scaled sounds, whose rates are eight times as high, an eighth of it."""
    preset = PRESETS[name]
    assert preset.am is not None
    assert preset.fm is not None
    scale = 8 if name.startswith("scaled") else 1
    seeds = [3, 1, 8]
    theta = torch.tensor([[0.0, 1.0], [0.37, 0.61], [1.0, 0.0]], dtype=torch.float64)
    shifts = [math.floor(uniform_numbers(seed, 1)[0] * (4096 / scale + 1)) - 2048 // scale for seed in seeds]
    assert min(shifts) < 0 < max(shifts)
    sounds = build_synth(preset)(theta, seeds)
    for (u, v), shift, sound in zip(theta.tolist(), shifts, sounds, strict=True):
        am, fm = preset.am[0] * 2**u, preset.fm[0] * 2**v  # one octave each
        expected = literal_chirplet(am, fm, fm / scale, shift, preset.n_samples, preset.sample_rate)
        np.testing.assert_allclose(sound.numpy(), expected, rtol=0, atol=1e-8)


def test_shifts_are_whole_samples_of_their_seeds() -> None:
    shifts = draw_shifts(range(3000), 100)
    assert (shifts.min(), shifts.max()) == (-100, 100)
    assert torch.equal(shifts, shifts.round())
    assert abs(shifts.mean()) < 4 * 58 / math.sqrt(3000)  # four standard errors
    assert torch.equal(shifts[5:9], draw_shifts([5, 6, 7, 8], 100))


@pytest.mark.parametrize(
    "synth",
    [
        PaperGranular(24, 64, 3, 12, min_pitch=4, max_pitch=16),
        PaperChirplet(32, 512.0, am=(20.0, 40.0), fm=(8.0, 16.0), max_shift=3),
    ],
    ids=["granular", "chirplet"],
)
def test_first_and_second_derivatives(synth: Callable[[Tensor, list[int]], Tensor]) -> None:
    theta = torch.tensor([[0.2, 0.5], [0.7, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda theta: synth(theta, [3, 4]), theta)
    assert torch.autograd.gradgradcheck(lambda theta: synth(theta, [3, 4]), theta)


@pytest.mark.parametrize("name", ["scaled", *(name for name in CHIRPLET_PRESETS if name.startswith("scaled"))])
def test_derivatives_are_finite_on_the_border_and_in_silent_tails(name: str) -> None:
    synth = build_synth(PRESETS[name])
    theta = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.5], [1.0, 0.5]], requires_grad=True)
    sounds = synth(theta, [0, 1, 2, 3])
    assert sounds.dtype == torch.float32
    (first,) = torch.autograd.grad(sounds.pow(4).sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta)
    assert first.isfinite().all()
    assert second.isfinite().all()
    assert first[:, 1].abs().min() > 0


@pytest.mark.parametrize("name", ["scaled", "scaled-chirplet-hi-med"])
def test_a_seed_gives_the_same_sound_in_any_batch(name: str) -> None:
    synth, theta = build_synth(PRESETS[name]), torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    together = synth(theta, torch.tensor([7, 8, 9, 7, 8]))
    assert torch.equal(together[2:3], synth(theta[2:3], [9]))
    assert not torch.equal(synth(theta[:1], [7]), synth(theta[:1], [8]))
