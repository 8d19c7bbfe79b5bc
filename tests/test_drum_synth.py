"""The drum synthesizer against its formulas: sums and recurrences sample by sample, and SciPy's filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from torch import Tensor

from benchmarks.sound_matching.synths import DrumSynth
from benchmarks.sound_matching.synths.drums import draw_noise
from benchmarks.sound_matching.synths.high_pass import high_pass

# Values at 0 and 1, in the order of the paper's fourteen.
LOW = [20, -1, 20, -1, 10, 10, 10, 10, 20, 0.5, -60, -60, -60, -24]
HIGH = [2000, 2, 2000, 2, 2000, 2000, 2000, 2000, 0.99 * 22050, 10, 6, 6, 6, 24]
PAPER = DrumSynth(44100, max_shift=2048)
CUTOFF, Q = DrumSynth.controls.index("noise_cutoff"), DrumSynth.controls.index("noise_q")


def uniform_numbers(seed: int, count: int) -> list[float]:
    words = np.random.Philox(key=seed).random_raw(count)
    return [int(word >> 11) / 2**53 for word in words.tolist()]


def literal_filter(signal: np.ndarray, radians: float, q: float, kind: type = np.float64) -> np.ndarray:
    """The textbook's coefficients, with whatever digits 1 + cos leaves them, and a loop over samples."""
    cosine, alpha = np.cos(kind(radians)), np.sin(kind(radians)) / (2 * kind(q))
    gain = (1 + cosine) / 2
    numerator, denominator = [gain, -2 * gain, gain], [1 + alpha, -2 * cosine, 1 - alpha]
    return np.asarray(lfilter(np.array(numerator), np.array(denominator), signal.astype(kind)))


def literal_wave(frequency: float, amount: float, decay: float, n: int, rate: float) -> np.ndarray:
    """The running sum of the instantaneous frequency, whose envelope is multiplied by r at each sample."""
    r = 1 - 6.91 / (decay * rate / 1000)
    envelope = np.cumprod(np.concatenate([[1.0], np.full(n - 1, r)]))
    cycles = np.concatenate([[0.0], np.cumsum(frequency * (1 + amount * envelope) / rate)[:-1]])
    return np.sin(2 * np.pi * cycles)


def literal_amplitude(decay: float, n: int, rate: float) -> np.ndarray:
    attack = round(rate / 1000)
    r = 1 - 6.91 / (decay * rate / 1000)
    level, levels = 1.0, []
    for t in range(n):
        levels.append(t / attack if t < attack else level)
        level *= r if t >= attack else 1.0
    return np.array(levels)


def literal_drum(values: list[float], seed: int, n: int, rate: float, max_shift: int) -> np.ndarray:
    f1, a1, f2, a2, decay, decay1, decay2, decay_n, cutoff, q, g1, g2, g_n, drive = values
    noise = literal_filter(draw_noise(seed, n), 2 * math.pi * cutoff / rate, q)
    first = literal_wave(f1, a1, decay, n, rate) * literal_amplitude(decay1, n, rate)
    second = literal_wave(f2, a2, decay, n, rate) * literal_amplitude(decay2, n, rate)
    parts = ((g1, first), (g2, second), (g_n, noise * literal_amplitude(decay_n, n, rate)))
    sound = np.tanh(10 ** (drive / 20) * sum(10 ** (gain / 20) * part for gain, part in parts))
    shift = math.floor(uniform_numbers(seed, 1)[0] * (2 * max_shift + 1)) - max_shift
    moved = np.zeros(n)
    if shift >= 0:
        moved[shift:] = sound[: n - shift]
    else:
        moved[:shift] = sound[-shift:]
    return moved


def corners(count: int) -> Tensor:
    """Random corners of [0, 1]^14, in which every pair of controls takes all four values."""
    return torch.randint(2, (count, 14), generator=torch.Generator().manual_seed(0)).float()


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(radians=st.floats(0.003, 0.99 * math.pi), q=st.floats(0.5, 10), n=st.integers(1, 300))
@example(radians=math.pi / 2, q=0.5, n=16)  # both poles at zero
@example(radians=0.003, q=0.5 + 1e-15, n=300)
@example(radians=0.99 * math.pi, q=0.5, n=1)
def test_filter_is_the_textbook_s(radians: float, q: float, n: int) -> None:
    """The tolerance leaves both sides a few times 1e-16 in coefficients, over the square of the cutoff."""
    signal = np.random.default_rng(n).uniform(-1, 1, (2, n))
    found = high_pass(torch.from_numpy(signal), tensor(radians, radians), tensor(q, q)).numpy()
    expected = np.stack([literal_filter(row, radians, q) for row in signal])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("q", [0.5, 0.5000001, 0.8, 10.0])
@pytest.mark.parametrize("cutoff", [20.0, 1000.0, 11025.0, 0.99 * 22050])
def test_filter_of_a_second(cutoff: float, q: float) -> None:
    """At 20 Hz and q = 10 the impulse response has not ended with the sound: what wraps around shows here.

    SciPy's loop loses five digits there in double precision: it runs in extended precision, where there is one.
    """
    radians, signal = 2 * math.pi * cutoff / 44100, draw_noise(1, 44100)
    expected = literal_filter(signal, radians, q, np.longdouble).astype(np.float64)
    found = high_pass(torch.from_numpy(signal)[None], tensor(radians), tensor(q))[0]
    extended = np.finfo(np.longdouble).eps < 1e-18
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-11 if extended else 1e-9)
    single = high_pass(torch.from_numpy(signal).float()[None], tensor(radians), tensor(q))[0]
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("q", [0.5, 0.50001, 3.0])
@pytest.mark.parametrize("radians", [0.003, math.pi / 2, 0.99 * math.pi])
def test_filter_has_two_derivatives_where_its_poles_meet(radians: float, q: float) -> None:
    """Finite differences reach below q = 1/2, where the poles are real."""
    signal = torch.from_numpy(draw_noise(2, 12))[None].requires_grad_()
    inputs = (signal, tensor(radians).requires_grad_(), tensor(q).requires_grad_())
    assert torch.autograd.gradcheck(high_pass, inputs)
    assert torch.autograd.gradgradcheck(high_pass, inputs, atol=2e-4)


@settings(max_examples=15, deadline=None)
@given(frequency=st.floats(20, 2000), amount=st.floats(-1, 2), decay=st.floats(10, 2000))
def test_oscillators_follow_the_sum_of_their_frequency(frequency: float, amount: float, decay: float) -> None:
    bend = PAPER.bend(tensor(decay)[:, None])
    found = PAPER.wave(tensor(frequency)[:, None], tensor(amount)[:, None], bend, torch.float64)[0]
    # Rounding r errs in the sum by up to 1e-16 f a / (1 - r)^2 / sr cycles: 1e-8 radians for the longest decay.
    expected = literal_wave(frequency, amount, decay, 44100, 44100)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=5e-8)


@pytest.mark.parametrize("decay", [10.0, 33.3, 2000.0])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_amplitudes_rise_for_a_millisecond_and_fall_from_there(decay: float, rate: int) -> None:
    synth = DrumSynth(6000, rate)
    found = synth.amplitude(tensor(decay)[:, None], tensor(0.0)[:, None], torch.float64)[0]
    np.testing.assert_allclose(found.numpy(), literal_amplitude(decay, 6000, rate), rtol=1e-10, atol=0)


def test_amplitudes_fall_by_60_db_in_their_decay() -> None:
    found = DrumSynth(4500).amplitude(tensor(100.0)[:, None], tensor(6.0)[:, None], torch.float64)[0]
    assert 20 * math.log10(found[44].item()) == pytest.approx(6)
    assert 20 * math.log10(found[44 + 4410].item()) == pytest.approx(-54, abs=0.1)


def test_values_are_linear_between_their_ends() -> None:
    theta = torch.stack([torch.zeros(14), torch.ones(14), torch.full((14,), 0.25)])
    expected = torch.tensor([LOW, HIGH, [0.75 * low + 0.25 * high for low, high in zip(LOW, HIGH, strict=True)]])
    torch.testing.assert_close(PAPER.values(theta), expected.double(), rtol=1e-6, atol=0)
    assert len(DrumSynth.controls) == len(set(DrumSynth.controls)) == 14


@settings(max_examples=15, deadline=None)
@given(
    theta=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=14, max_size=14),
    seed=st.integers(0, 2**63 - 1),
)
def test_sounds_agree_with_the_formulas(theta: list[float], seed: int) -> None:
    synth = DrumSynth(1500, 44100, max_shift=400)
    values = [low + (high - low) * u for low, high, u in zip(LOW, HIGH, theta, strict=True)]
    found = synth(torch.tensor([theta], dtype=torch.float64), [seed])[0].numpy()
    # Drive and gain raise what is left of the digits by 30 dB.
    np.testing.assert_allclose(found, literal_drum(values, seed, 1500, 44100, 400), rtol=0, atol=1e-8)


def test_sounds_of_the_paper_s_length_in_both_precisions() -> None:
    theta = torch.rand(6, 14, generator=torch.Generator().manual_seed(1))
    theta[:2, [10, 11, 12, 13]] = 1.0  # as loud as can be
    double, single = PAPER(theta.double(), range(6)), PAPER(theta, range(6))
    assert double.dtype == torch.float64
    assert single.dtype == torch.float32
    for row, seed, sound in zip(theta.double().tolist(), range(6), double, strict=True):
        values = [low + (high - low) * u for low, high, u in zip(LOW, HIGH, row, strict=True)]
        expected = literal_drum(values, seed, 44100, 44100, 2048)
        np.testing.assert_allclose(sound.numpy(), expected, rtol=0, atol=1e-7)
    # 1e-7 of a sum of three, raised by 30 dB.
    torch.testing.assert_close(single, double.float(), rtol=0, atol=3e-5)


def test_first_and_second_derivatives() -> None:
    theta = torch.rand(2, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.9 + 0.05
    theta[0, Q] = 1e-5
    theta.requires_grad_()
    synth = DrumSynth(40, 8000, max_shift=9)
    assert torch.autograd.gradcheck(lambda theta: synth(theta, [3, 4]), theta)
    short = DrumSynth(12, 8000)
    assert torch.autograd.gradgradcheck(lambda theta: short(theta, [3, 4]), theta, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_are_finite_at_the_corners(dtype: torch.dtype) -> None:
    theta = torch.cat([corners(64), torch.zeros(1, 14), torch.ones(1, 14), torch.full((1, 14), 0.5)])
    synth = DrumSynth(4410, max_shift=205)
    # Both poles at zero.
    low, high = synth.ranges["noise_cutoff"]
    theta[-1, CUTOFF], theta[-1, Q] = (synth.sample_rate / 4 - low) / (high - low), 0.0
    theta = theta.to(dtype).requires_grad_()
    sounds = synth(theta, range(len(theta)))
    assert sounds.abs().max() <= 1
    (first,) = torch.autograd.grad(sounds.pow(4).sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_gradients_in_single_precision_are_those_in_double() -> None:
    theta = torch.cat([torch.rand(4, 14, generator=torch.Generator().manual_seed(3)), corners(4)])
    theta[4:, Q] = 0.0
    weights = torch.rand(8, 44100, generator=torch.Generator().manual_seed(4)) - 0.5
    gradients = []
    for dtype in (torch.float32, torch.float64):
        controls = theta.to(dtype, copy=True).requires_grad_()
        (gradient,) = torch.autograd.grad((weights.to(dtype) * PAPER(controls, range(8))).sum(), controls)
        gradients.append(gradient.double())
    single, double = gradients
    errors = (single - double).norm(dim=1) / double.norm(dim=1)
    assert errors.max() < 1e-4


def test_every_control_moves_the_sound() -> None:
    theta = torch.full((1, 14), 0.5, requires_grad=True)
    sound = DrumSynth(4410)(theta, [0])
    (gradient,) = torch.autograd.grad(sound.square().sum(), theta)
    assert (gradient != 0).all()


def test_noise_is_uniform_and_the_same_in_both_precisions() -> None:
    noise = draw_noise(11, 40000)
    assert np.array_equal(noise.astype(np.float32).astype(np.float64), noise)
    assert np.array_equal(draw_noise(11, 100), noise[:100])
    assert not np.array_equal(draw_noise(12, 100), noise[:100])
    assert np.abs(noise).max() < 1
    grid = 2 * (np.arange(noise.size) + 0.5) / noise.size - 1
    assert np.abs(np.sort(noise) - grid).max() / 2 < 1.95 / math.sqrt(grid.size)  # Kolmogorov-Smirnov at 0.1%
    # White: correlations of neighbours are normal with variance 1/n.
    correlations = [np.mean(noise[:-lag] * noise[lag:]) * 3 for lag in (1, 2, 3)]
    assert np.abs(correlations).max() < 4 / math.sqrt(noise.size)


def test_shifts_move_the_sound_and_its_noise() -> None:
    theta = torch.rand(40, 14, generator=torch.Generator().manual_seed(5))
    still, moved = DrumSynth(500)(theta, range(40)), DrumSynth(500, max_shift=50)(theta, range(40))
    shifts = [math.floor(uniform_numbers(seed, 1)[0] * 101) - 50 for seed in range(40)]
    assert min(shifts) < -30
    assert max(shifts) > 30
    for before, after, by in zip(still, moved, shifts, strict=True):
        expected = torch.zeros(500)
        expected[max(by, 0) : 500 + min(by, 0)] = before[max(-by, 0) : 500 - max(by, 0)]
        assert torch.equal(after, expected)
    later = DrumSynth(500, max_shift=50, delay=50)(theta, range(40))
    for before, after, by in zip(still, later, shifts, strict=True):
        assert torch.equal(after[50 + by :], before[: 450 - by])  # nothing of the attack is lost
        assert not after[: 50 + by].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_samples", [1001, 4410])
def test_a_seed_gives_the_same_sound_in_any_batch(n_samples: int, dtype: torch.dtype) -> None:
    theta = torch.rand(5, 14, dtype=dtype, generator=torch.Generator().manual_seed(6))
    synth = DrumSynth(n_samples, max_shift=30)
    together = synth(theta, torch.tensor([7, 8, 9, 7, 8]))
    assert torch.equal(together[2:3], synth(theta[2:3], [9]))
    assert torch.equal(together[1:4], synth(theta[1:4], [8, 9, 7]))
    assert torch.equal(together, synth(theta, np.array([7, 8, 9, 7, 8])))
    assert not torch.equal(synth(theta[:1], [7]), synth(theta[:1], [8]))


BAD_CALLS = [
    ([[0.5] * 14], [1], TypeError, "Invalid theta: list; expected a tensor"),
    (torch.zeros(1, 14, dtype=torch.int64), [1], TypeError, "Invalid theta: torch.int64; expected a tensor"),
    (torch.zeros(1, 14, dtype=torch.float16), [1], TypeError, "Invalid theta: torch.float16; expected a tensor"),
    (torch.zeros(14), [1], ValueError, r"Invalid theta: shape \(14,\) with 1 seeds; expected \(B, 14\)"),
    (torch.zeros(2, 13), [1, 2], ValueError, r"Invalid theta: shape \(2, 13\) with 2 seeds; expected"),
    (torch.zeros(0, 14), [], ValueError, r"Invalid theta: shape \(0, 14\) with 0 seeds; expected"),
    (torch.zeros(2, 14), [1], ValueError, r"Invalid theta: shape \(2, 14\) with 1 seeds; expected"),
    (torch.full((1, 14), 1.25), [1], ValueError, "Invalid theta: 1.25 for osc1_frequency of example 0; expected"),
    (
        torch.full((1, 14), math.nan),
        [1],
        ValueError,
        "Invalid theta: nan for osc1_frequency of example 0; expected",
    ),
    (
        torch.full((1, 14), -1e-9),
        [1],
        ValueError,
        "Invalid theta: -1e-09 for osc1_frequency of example 0; expected",
    ),
    (torch.zeros(1, 14), [1.0], TypeError, r"Invalid seeds: \[1.0\]; expected integers"),
    (torch.zeros(1, 14), [-1], ValueError, r"Invalid seeds: \[-1\]; expected integers from 0"),
    (torch.zeros(1, 14), torch.tensor([0.5]), TypeError, r"Invalid seeds: \[0.5\]; expected integers"),
]


@pytest.mark.parametrize(("theta", "seeds", "kind", "message"), BAD_CALLS)
def test_bad_calls(theta: Tensor, seeds: list[int], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        DrumSynth(64)(theta, seeds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 44100, 0), "Invalid n_samples, max_shift: 0, 0; expected"),
        ((64, 44100, 64), "Invalid n_samples, max_shift: 64, 64; expected"),
        ((64, 44100, -1), "Invalid n_samples, max_shift: 64, -1; expected"),
        ((64, 4000, 0), "Invalid sample_rate: 4000; expected more than 4000 Hz"),
        ((64, math.nan, 0), "Invalid sample_rate: nan; expected more than 4000 Hz"),
    ],
)
def test_bad_arguments(arguments: tuple[int, float, int], message: str) -> None:
    n_samples, sample_rate, max_shift = arguments
    with pytest.raises(ValueError, match=message):
        DrumSynth(n_samples, sample_rate, max_shift=max_shift)


@pytest.mark.parametrize("delay", [-1, 54])
def test_delay_leaves_something_of_a_sound(delay: int) -> None:
    with pytest.raises(ValueError, match=f"Invalid delay: {delay}; expected 0 to 53"):
        DrumSynth(64, max_shift=10, delay=delay)
