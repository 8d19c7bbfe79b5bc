"""The metrics of drums against literal float64 formulas, SciPy, torchmetrics, closed forms and properties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal.windows import flattop, hann
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmarks.sound_matching.metrics import (
    DRUM_METRICS,
    DrumMetrics,
    Framing,
    JTFSDistance,
    frechet_distance,
    loudness_distance,
    spectral_centroid_distance,
    spectral_flatness_distance,
    spectrogram_distance,
)
from benchmarks.sound_matching.metrics.decay_by_level import decay_by_level
from benchmarks.sound_matching.metrics.k_weighting import biquads, k_weighted
from benchmarks.sound_matching.metrics.loudness import loudness, loudness_above_floor
from benchmarks.sound_matching.metrics.spectral_centroid import brightness, spectral_centroid
from benchmarks.sound_matching.metrics.spectral_flatness import spectral_flatness
from scrapl_jtfs import JTFSPath

RATE = 44100
BY_PARTS = [loudness_distance, spectral_centroid_distance, spectral_flatness_distance]
# Frames of 256 samples keep tests on short sounds fast.
SHORT = Framing(size=256, hop=64, transient=2, decay=5)
# ITU-R BS.1770, Tables 1 and 2: b and a of the shelf, then of the high-pass, at 48 kHz.
STANDARD = [
    ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585]),
    ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621]),
]

Sounds = NDArray[np.float64]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drum(seed: int, n_samples: int = RATE, late: int = 0) -> Tensor:
    """A decaying tone with decaying noise, from sample `late` on: (1, n_samples)."""
    time = torch.arange(n_samples, dtype=torch.float64) / RATE
    tone = torch.sin(2 * math.pi * (90 + 30 * seed) * time) * torch.exp(-time / 0.15)
    sound = 0.5 * tone + 0.2 * torch.exp(-time / 0.05) * noise(n_samples, seed=seed)
    return nn.functional.pad(sound, (late, 0))[None, :n_samples]


def db(ratio: float) -> float:
    return 10 * math.log10(ratio)


# Frames


def test_frames_of_the_paper_take_two_and_then_64_from_the_onset_on() -> None:
    audio = torch.arange(2 * RATE, dtype=torch.float64).view(2, RATE)
    frames = Framing().frames(audio, torch.tensor([0, 300]))
    assert frames.shape == (2, 66, 2048)
    assert Framing().n_samples == 2048 + 65 * 512
    for example, onset in enumerate([0, 300]):
        for k in (0, 1, 2, 65):
            start = onset + 512 * k
            assert torch.equal(frames[example, k], audio[example, start : start + 2048])
    parts = Framing().mean_difference(frames[..., 0], frames[..., 0] + torch.arange(66.0))
    assert parts.transient.tolist() == [0.5, 0.5]
    assert parts.decay.tolist() == [33.5, 33.5]


def test_frames_keep_their_duration_at_other_rates() -> None:
    assert Framing.at(44100) == Framing()
    assert Framing.at(22050) == Framing(1024, 256)
    assert Framing.at(48000) == Framing(2228, 557)


def test_shorter_sounds_have_the_frames_of_the_decay_that_fit() -> None:
    audio = noise(1, 1000)
    assert SHORT.frames(audio[:, : SHORT.n_samples]).shape[1] == 7
    assert SHORT.frames(audio[:, : SHORT.n_samples - 1]).shape[1] == 6
    assert SHORT.frames(audio[:, : SHORT.n_samples - 1 + 20], 20).shape[1] == 6
    with pytest.raises(ValueError, match=r"Invalid audio: 383 samples .* expected at least 384"):
        SHORT.frames(audio[:, :403], 20)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Framing(hop=0), ValueError, "Invalid hop: 0; expected a positive integer"),
        (lambda: Framing.at(0.0), ValueError, "Invalid sample_rate: 0.0; expected"),
        (lambda: SHORT.frames(noise(1, 999), -1), ValueError, "Invalid onset: -1 to -1; expected samples from 0"),
        (lambda: SHORT.frames(noise(1, 999), 999), ValueError, "Invalid onset: 999"),
        (lambda: loudness_distance(noise(9), noise(9), RATE), ValueError, r"expected sounds \(B, n_samples\)"),
        (lambda: loudness_distance(noise(2, 9), noise(2, 8), RATE), ValueError, r"shapes \(2, 9\) and \(2, 8\)"),
        (lambda: loudness_distance(noise(0, 9), noise(0, 9), RATE), ValueError, "Invalid target and match"),
        (
            lambda: loudness_distance(noise(1, 9).int(), noise(1, 9), 1),
            TypeError,
            "Invalid target: torch.int32",
        ),
        (lambda: loudness_distance(noise(1, RATE), noise(1, RATE), -1), ValueError, "Invalid sample_rate: -1"),
        (lambda: spectrogram_distance(noise(1, 1024), noise(1, 1024)), ValueError, "expected sizes below 2048"),
        (lambda: frechet_distance(noise(1, 3), noise(5, 3)), ValueError, r"Invalid x: shape \(1, 3\)"),
        (lambda: frechet_distance(noise(5, 3), noise(5, 2, 3)), ValueError, r"Invalid y: shape \(5, 2, 3\)"),
        (lambda: frechet_distance(noise(5, 3), noise(5, 4)), ValueError, "Invalid x and y: 3 and 4 dimensions"),
        (lambda: frechet_distance(noise(5, 3) / 0, noise(5, 3)), ValueError, "Invalid x: NaN or infinite"),
        (lambda: frechet_distance(noise(5, 3), noise(5, 3).int()), TypeError, "Invalid y: torch.int32"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# K-weighting and loudness


def test_filters_at_48_khz_are_those_of_the_standard() -> None:
    for (b, a), (expected_b, expected_a) in zip(biquads(48000), STANDARD, strict=True):
        np.testing.assert_allclose(b, expected_b, rtol=1e-14)
        np.testing.assert_allclose(a, expected_a, rtol=1e-14)


def response(b: Sequence[float], a: Sequence[float], radians: Sounds) -> NDArray[Any]:
    delay = np.exp(-1j * radians)
    return np.polyval(b[::-1], delay) / np.polyval(a[::-1], delay)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_filters_at_other_rates_have_the_standard_s_response_at_warped_frequencies(rate: int) -> None:
    radians = np.linspace(0.01, 3.1, 50)
    warped = 2 * np.arctan(rate / 48000 * np.tan(radians / 2))
    for (b, a), standard in zip(biquads(rate), STANDARD, strict=True):
        np.testing.assert_allclose(response(b, a, radians), response(*standard, warped), rtol=1e-9)
        assert np.abs(np.roots(a)).max() < 1


@pytest.mark.parametrize(("rate", "tolerance"), [(48000, 1e-4), (44100, 1e-3), (96000, 3e-3), (22050, 2e-2)])
def test_a_sine_of_997_hz_at_full_scale_has_the_standard_s_loudness(rate: int, tolerance: float) -> None:
    """-3.01 LKFS over whole periods. At other rates the bilinear map moves frequencies."""
    seconds = torch.arange(3 * rate, dtype=torch.float64) / rate
    sine = torch.sin(2 * math.pi * 997 * seconds)[None]
    found = loudness(sine, rate, onset=rate, framing=Framing(rate, rate, 1, 1))
    assert found.flatten().tolist() == pytest.approx([db(0.5)] * 2, abs=tolerance)


def literal_weighting(audio: Sounds, rate: int) -> Sounds:
    for b, a in STANDARD if rate == 48000 else biquads(rate):
        audio = np.asarray(scipy.signal.lfilter(b, a, audio))
    return audio


@pytest.mark.parametrize("rate", [48000, 44100, 8000])
@pytest.mark.parametrize("n_samples", [1, 777, 20000])
def test_weighting_is_that_of_the_recursion(rate: int, n_samples: int) -> None:
    audio = noise(2, n_samples)
    # The recursion's own rounding, near its double pole at 38 Hz.
    np.testing.assert_allclose(k_weighted(audio, rate), literal_weighting(audio.numpy(), rate), atol=1e-11)
    assert k_weighted(audio.float(), rate).dtype == torch.float32


def literal_frames(audio: Tensor, onset: int) -> list[Sounds]:
    return [audio[0, onset + 512 * k : onset + 512 * k + 2048].numpy() for k in range(66)]


def literal_loudness(audio: Tensor, onset: int) -> Sounds:
    weighted = torch.from_numpy(literal_weighting(audio.numpy(), 48000))
    return np.array([-0.691 + db(np.mean(frame**2) + 1e-8) for frame in literal_frames(weighted, onset)])


def literal_parts(target: Sounds, match: Sounds) -> list[float]:
    apart = np.abs(target - match)
    return [float(np.mean(apart[:2])), float(np.mean(apart[2:66]))]


def test_loudness_distance_agrees_with_the_standard_frame_by_frame() -> None:
    target, match = drum(1, 48000, late=400), drum(2, 48000)
    expected = literal_loudness(target, 400), literal_loudness(match, 400)
    np.testing.assert_allclose(loudness(target, 48000, 400)[0], expected[0], atol=1e-8)
    found = [float(part) for part in loudness_distance(target, match, 48000, onset=400)]
    assert found == pytest.approx(literal_parts(*expected), abs=1e-8)
    assert min(found) > 0.1


def test_a_gain_is_its_decibels_and_silence_is_the_floor() -> None:
    audio = noise(1, RATE)
    for part in loudness_distance(audio, 0.1 * audio, RATE):
        assert float(part) == pytest.approx(20, abs=1e-3)
    assert loudness(torch.zeros(1, RATE), RATE).unique().item() == pytest.approx(-0.691 - 80, abs=1e-5)
    assert torch.equal(loudness_above_floor(torch.zeros(1, RATE), RATE), torch.zeros(1, 66))


# Spectral centroid


def literal_centroid(frame: Sounds, rate: float) -> float:
    window = flattop(len(frame), sym=False)
    magnitude = np.maximum(np.abs(np.fft.rfft(frame * window)), 1e-4)
    frequency = np.fft.rfftfreq(len(frame), 1 / rate)
    return float(np.sum(frequency * np.log(1 + magnitude)) / np.sum(np.log(1 + magnitude)))


def test_centroid_distance_agrees_with_the_formulas() -> None:
    target, match = drum(1, 48000, late=400), drum(2, 48000)
    features = []
    for audio in (target, match):
        centroid = np.array([literal_centroid(frame, 48000) for frame in literal_frames(audio, 400)])
        found = spectral_centroid(Framing().frames(audio, 400), 48000)
        np.testing.assert_allclose(found[0], centroid, rtol=1e-9)
        features.append((21.2985 - 34.61 * centroid**-0.1621) * (literal_loudness(audio, 400) + 80.691))
    found = [float(part) for part in spectral_centroid_distance(target, match, 48000, onset=400)]
    assert found == pytest.approx(literal_parts(*features), rel=1e-8)


@pytest.mark.parametrize(("k", "level"), [(40, 1.0), (200, 1.0), (200, 0.01)])
def test_centroid_of_a_tone_in_closed_form(k: int, level: float) -> None:
    """A tone in the middle of bin k has the window's nine lines around it, and the floor in all other bins."""
    size = 2048
    frame = level * torch.cos(2 * math.pi * k / size * torch.arange(size, dtype=torch.float64))
    window = [0.21557895, 0.41663158 / 2, 0.277263158 / 2, 0.083578947 / 2, 0.006947368 / 2]
    lines = [math.log1p(level * size / 2 * a) for a in window]
    lobe = lines[0] + 2 * sum(lines[1:])
    floor = math.log1p(1e-4)
    others = sum(range(size // 2 + 1)) - 9 * k
    expected = (k * lobe + floor * others) / (lobe + floor * (size // 2 + 1 - 9))
    assert spectral_centroid(frame, RATE).item() == pytest.approx(expected * RATE / size, rel=1e-9)
    assert expected == pytest.approx(k, rel=0.04)


def test_centroids_of_silence_and_of_an_impulse_are_in_the_middle() -> None:
    impulse = torch.zeros(2, 1024)
    impulse[1, 512] = 1.0
    assert spectral_centroid(impulse, 8000.0).tolist() == pytest.approx([2000.0, 2000.0], rel=1e-5)


def test_brightness_rises_and_doubles_as_listeners_say() -> None:
    """At 1 kHz f^-0.1621 is 10^-0.4863; to double a brightness of 6 takes somewhat more than two octaves."""
    frequency = torch.logspace(1.5, 4.5, 50, dtype=torch.float64)
    assert (brightness(frequency).diff() > 0).all()
    assert brightness(torch.tensor(1000.0)).item() == pytest.approx(21.2985 - 34.61 * 10**-0.4863, rel=1e-5)


# Spectral flatness


def literal_flatness(frame: Sounds) -> float:
    power = np.abs(np.fft.rfft(frame * hann(len(frame), sym=False))) ** 2
    power = np.maximum(power, 1e-10)
    return 20 * math.log10(math.exp(np.mean(np.log(power))) / np.mean(power) + 1e-8)


def test_flatness_distance_agrees_with_the_formulas() -> None:
    target, match = drum(1, 48000, late=400), drum(2, 48000)
    features = []
    for audio in (target, match):
        flatness = np.array([literal_flatness(frame) for frame in literal_frames(audio, 400)])
        np.testing.assert_allclose(spectral_flatness(Framing().frames(audio, 400))[0], flatness, rtol=1e-9)
        features.append(flatness * (literal_loudness(audio, 400) + 80.691))
    found = [float(part) for part in spectral_flatness_distance(target, match, 48000, onset=400)]
    assert found == pytest.approx(literal_parts(*features), rel=1e-8)


def test_flatness_of_white_noise_an_impulse_silence_and_a_tone() -> None:
    """Powers of white noise are exponential, whose logarithm has the mean -gamma."""
    flatness = spectral_flatness(noise(400, 2048))
    # Standard deviation of the logarithm: pi / sqrt(6); a window leaves about 700 independent bins of 1025.
    deviation = 20 / math.log(10) * 1.28 / math.sqrt(700 * 400)
    assert flatness.mean().item() == pytest.approx(-20 * np.euler_gamma / math.log(10), abs=5 * deviation)
    special = torch.zeros(3, 2048, dtype=torch.float64)
    special[1, 1024] = 1.0
    special[2] = torch.cos(2 * math.pi * 100 / 2048 * torch.arange(2048, dtype=torch.float64))
    assert spectral_flatness(special).tolist() == pytest.approx([0.0, 0.0, -160.0], abs=0.2)


# All metrics of pairs


JTFS = JTFSPath(1024, J=4, Q=(1, 1), J_fr=1, T=64)


@pytest.fixture(scope="module")
def metrics() -> DrumMetrics:
    return DrumMetrics(JTFSDistance(JTFS), RATE, (256, 128), SHORT)


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**30),
    levels=st.tuples(*[st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 1e3])] * 2),
    onset=st.integers(0, 384),
)
def test_metrics_are_finite_symmetric_and_zero_for_equal_sounds(
    metrics: DrumMetrics, seed: int, levels: tuple[float, float], onset: int
) -> None:
    target, match = (level * noise(2, 1024, seed=seed + k).float() for k, level in enumerate(levels))
    found, swapped = metrics(target, match, onset), metrics(match, target, onset)
    assert tuple(found) == DRUM_METRICS
    assert len(DRUM_METRICS) == 8
    for name, values in found.items():
        assert values.shape == (2,)
        assert values.isfinite().all(), name
        assert torch.equal(values, swapped[name]), name
        assert (values > 0).all() if max(levels) > 1e-6 else (values >= 0).all(), name
        assert torch.equal(metrics(target, target, onset)[name], torch.zeros(2)), name


def test_metrics_are_of_each_pair_by_itself(metrics: DrumMetrics) -> None:
    target, match = noise(11, 1024, seed=1), noise(11, 1024, seed=2)  # more pairs than are transformed at a time
    together, alone = metrics(target, match), metrics(target[9:10], match[9:10])
    for name, values in together.items():
        assert values[9:10].tolist() == pytest.approx(alone[name].tolist(), rel=1e-5), name


@pytest.mark.parametrize("distance", BY_PARTS)
def test_a_shift_of_both_sounds_with_the_onset_changes_nothing(distance: Callable[..., Any]) -> None:
    first = distance(drum(1), drum(2), RATE)
    for expected, found in zip(
        first, distance(drum(1, late=1000), drum(2, late=1000), RATE, onset=1000), strict=True
    ):
        assert float(found) == pytest.approx(float(expected), rel=1e-6)
    both = [torch.cat([drum(k), drum(k, late=1000)]) for k in (1, 2)]
    for expected, found in zip(first, distance(*both, RATE, onset=torch.tensor([0, 1000])), strict=True):
        assert found.tolist() == pytest.approx([float(expected)] * 2, rel=1e-6)


def test_a_late_match_loses_its_transient_and_little_of_its_decay() -> None:
    """As in the paper, whose transient errors rise in the meso setting; nothing is aligned."""
    target = drum(1)
    for distance in BY_PARTS:
        parts = [distance(target, drum(1, late=late), RATE) for late in (0, 500, 1000, 2560)]
        transient, decay = ([float(value) for value in values] for values in zip(*parts, strict=True))
        assert transient == sorted(transient)
        assert transient[0] == 0
        assert transient[3] > 3 * decay[3]
    # In both frames of the transient there is silence in place of the target.
    lost = loudness_distance(target, drum(1, late=2560), RATE).transient
    assert lost.tolist() == pytest.approx([loudness_above_floor(target, RATE)[0, :2].mean().item()])


def test_the_jtfs_distance_is_that_of_all_coefficients() -> None:
    jtfs = copy.deepcopy(JTFS).double()
    target, match = noise(2, 1024, seed=1), noise(2, 1024, seed=2)
    for eps in (None, 1e-3):
        squares = torch.zeros(2, dtype=torch.float64)
        for path in range(jtfs.n_paths):
            s, t = jtfs(target, path), jtfs(match, path)
            apart = s - t if eps is None else torch.log((eps + s) / (eps + t))
            squares += apart.square().sum((-2, -1))
        found = JTFSDistance(jtfs, log1p_eps=eps)(target.float(), match.float())
        assert found.tolist() == pytest.approx(squares.sqrt().tolist(), rel=1e-4)


def literal_spectrogram(audio: Sounds, size: int) -> Sounds:
    """Magnitudes of frames centered on multiples of a quarter of their size, in sounds reflected at both ends."""
    padded = np.pad(audio, size // 2, mode="reflect")
    frames = [padded[k : k + size] for k in range(0, len(padded) - size + 1, size // 4)]
    magnitude = np.abs(np.fft.rfft(np.array(frames) * hann(size, sym=False)))
    return np.sqrt(np.maximum(magnitude**2, 1e-8))


def test_the_spectrogram_distance_agrees_with_the_formulas() -> None:
    target, match = noise(3, 3000, seed=1), noise(3, 3000, seed=2)
    sizes = (2048, 256)
    expected = []
    for x, y in zip(target.numpy(), match.numpy(), strict=True):
        terms = []
        for size in sizes:
            a, b = literal_spectrogram(x, size), literal_spectrogram(y, size)
            terms.append(np.mean(np.abs(a - b)) + np.mean(np.abs(np.log(a) - np.log(b))))
        expected.append(np.mean(terms))
    assert spectrogram_distance(target, match, sizes).tolist() == pytest.approx(expected, rel=1e-4)


# Frechet distance


def with_moments(mean: Sequence[float], root: Sounds, n: int, seed: int) -> Tensor:
    """n points whose mean and covariance, of n - 1 degrees of freedom, are exactly `mean` and root @ root.T."""
    normal = np.random.default_rng(seed).standard_normal((n, len(mean)))
    columns, _ = np.linalg.qr(normal - normal.mean(0))
    return torch.from_numpy(np.array(mean) + math.sqrt(n - 1) * columns @ root.T)


def rotation(d: int, seed: int) -> Sounds:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def test_frechet_distance_of_commuting_covariances_is_that_of_means_and_deviations() -> None:
    x_scales, y_scales = [1.0, 5.0, 1e-4, 0.0], [2.0, 1.0, 3e-4, 0.5]
    turn = rotation(4, 0)
    x = with_moments([1, 2, 3, 4], turn * x_scales, 50, 1)
    y = with_moments([1, 2, 5, 4], turn * y_scales, 80, 2)
    expected = 4 + sum((a - b) ** 2 for a, b in zip(x_scales, y_scales, strict=True))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_in_one_dimension_by_hand() -> None:
    """Means 1 and 5; variances 2 and 8 of one degree of freedom."""
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])
    assert frechet_distance(x, y) == pytest.approx(16 + (math.sqrt(8) - math.sqrt(2)) ** 2)


def literal_frechet(x: Sounds, y: Sounds) -> float:
    c, d = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.asarray(scipy.linalg.sqrtm(c @ d))
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(c + d - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(40, 60, 6), (200, 30, 20)])
def test_frechet_distance_agrees_with_the_root_of_the_matrix(n: int, m: int, d: int) -> None:
    mixing = noise(d, d, seed=3)
    x, y = noise(n, d, seed=1) @ mixing, 1.5 * noise(m, d, seed=2) + 1
    assert frechet_distance(x, y) == pytest.approx(literal_frechet(x.numpy(), y.numpy()), rel=1e-9)


class Passed(nn.Module):
    """An embedding that is its input."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.mark.parametrize("n", [100, 5])
def test_frechet_distance_agrees_with_torchmetrics_even_with_fewer_sounds_than_dimensions(n: int) -> None:
    x, y = noise(n, 12, seed=1), noise(n, 12, seed=2) * 2 + 0.5
    other = FrechetInceptionDistance(feature=Passed(), normalize=True).set_dtype(torch.float64)
    other.update(x.view(n, 3, 2, 2), real=True)
    other.update(y.view(n, 3, 2, 2), real=False)
    # Roots of eigenvalues that are zero but for rounding, in theirs.
    assert frechet_distance(x, y) == pytest.approx(float(other.compute()), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**30), n=st.integers(2, 12), m=st.integers(2, 12), d=st.integers(1, 12))
def test_frechet_distance_of_any_two_sets(seed: int, n: int, m: int, d: int) -> None:
    x, y = noise(n, d, seed=seed), noise(m, d, seed=seed + 1)
    distance = frechet_distance(x, y)
    assert distance >= 0
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-9, abs=1e-12)
    assert frechet_distance(x, x[torch.randperm(n)]) < 1e-12 * d
    assert frechet_distance(x, x + 3) == pytest.approx(9 * d, rel=1e-9)
    turn = torch.from_numpy(rotation(d, seed))
    assert frechet_distance(x @ turn + 7, y @ turn + 7) == pytest.approx(distance, rel=1e-9, abs=1e-11)
    assert frechet_distance(10 * x, 10 * y) == pytest.approx(100 * distance, rel=1e-9, abs=1e-10)


def test_frechet_distance_keeps_small_variances() -> None:
    """Deviations of 1e-5 and 2e-5 beside one of 1e3: products of covariances would have them below rounding."""
    scales = np.array([1e3, 1e-5])
    turn = rotation(2, 4)
    x, y = (with_moments([0, 0], turn * (scales * [1, k]), 30, k) for k in (1, 2))
    assert frechet_distance(x, y) == pytest.approx(0, abs=1e-8)
    mean_zero = [with_moments([0, 0], turn * [1.0, k * 1e-6], 30, k) for k in (1, 2000)]
    assert frechet_distance(*mean_zero) == pytest.approx((1999e-6) ** 2, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), gain=st.floats(-15, 15), end=st.integers(1000, 4096))
def test_bands_of_the_decay_make_up_its_distance(seed: int, gain: float, end: int) -> None:
    target = torch.cat([drum(seed, 4096), drum(seed + 1, 4096), noise(1, 4096, seed=seed)])
    target[:, end:] = 0.0
    match = 10 ** (gain / 20) * target.roll((1, 64), (0, 1))
    bands = decay_by_level(target, match, RATE, framing=SHORT)
    assert sum(band.share for band in bands.values()) == pytest.approx(1)
    expected = float(loudness_distance(target, match, RATE, framing=SHORT).decay.mean())
    assert sum(band.share * band.error for band in bands.values() if band.share) == pytest.approx(expected)


def test_bands_tell_what_is_heard_from_what_comes_after() -> None:
    """A match that is 3 dB too quiet for three frames, and goes on at -45 dB where the target has ended.

    In the first frame after its end the filter rings.
    """
    framing = Framing(size=4410, hop=4410, transient=1, decay=4)
    tone = 0.9 * torch.sin(2 * math.pi * 1000 * torch.arange(4410, dtype=torch.float64) / RATE)

    def steps(levels: Sequence[float]) -> Tensor:
        return torch.cat([10 ** (level / 20) * tone for level in levels])[None]

    target, match = steps([0, -10, -30, -150, -150]), steps([-3, -13, -33, -45, -45])
    bands = decay_by_level(target, match, RATE, framing=framing)
    assert list(bands) == ["0 to 20", "20 to 40", "40 and more", "silence"]
    assert [band.share for band in bands.values()] == pytest.approx([1 / 4] * 4)
    for name in ("0 to 20", "20 to 40"):
        assert bands[name].bias == pytest.approx(-3, abs=1e-3)
        assert bands[name].error == pytest.approx(3, abs=1e-3)
    # Above the floor by the match's level: a sine of 997 Hz at full scale has -3.01 LKFS, and the floor -80.69.
    level = 20 * math.log10(0.9) - 45 - 3.01 + 80.69
    assert bands["silence"].bias == bands["silence"].error == pytest.approx(level, abs=0.05)
    empty = decay_by_level(target[:, :-8820], match[:, :-8820], RATE, framing=framing)["silence"]
    assert (empty.share, math.isnan(empty.error), math.isnan(empty.bias)) == (0, True, True)


@pytest.mark.parametrize(("name", "value"), [("target", math.nan), ("match", math.inf)])
def test_bands_need_finite_sounds(name: str, value: float) -> None:
    target, match = drum(0), drum(1)
    (target if name == "target" else match)[0, 9] = value
    with pytest.raises(ValueError, match=f"^Invalid {name}: NaN or infinite; expected finite sounds"):
        decay_by_level(target, match, RATE)
