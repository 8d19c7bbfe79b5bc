"""The even continuation: its linear maps term by term, its averages, and what it has in common with kymatio's.

Coefficients and gradients are held to the literal reference in test_jtfs_reference.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs._transform.linear.decimation import LowSpectrum, decimation_correction, decimation_window
from scrapl_jtfs._transform.linear.even import (
    EvenCommonBand,
    EvenCrop,
    EvenExtension,
    EvenLowSpectrum,
    EvenReflection,
    EvenSpectrum,
    EvenSubbands,
    band_twiddle,
    even_order,
)
from tests.support.jtfs_helpers import (
    BOTH_ORDERS,
    LOCAL,
    TINY,
    assert_all_near,
    assert_is_linear_map,
    assert_near,
    noise,
    planes_of,
    value_and_gradient,
)

# Short signals on purpose, whose averages hear what continues them.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")

quick = settings(max_examples=80, deadline=None)
LARGE: dict[str, Any] = dict(n_samples=4096, J=9, Q=(8, 1), J_fr=3, T=512, F=8)


# --- linear maps ----------------------------------------------------------------------------------------------


def twiddle(n: int) -> Tensor:
    """conj(w_k), k from 0 to n / 2."""
    return torch.exp(-0.5j * math.pi * torch.arange(n // 2 + 1).double() / n)


def cosines(n: int, bins: Sequence[int]) -> Tensor:
    """Matrix (bins, n) of x_hat[k] = 1/n sum_t x[t] cos(pi k (2t + 1) / 2n)."""
    places = torch.tensor(list(bins))[:, None] * (2 * torch.arange(n) + 1)
    return torch.cos(math.pi * places.double() / (2 * n)) / n


def literal_band(bins: Tensor, response: Tensor, n: int) -> Tensor:
    """z = sum_i bins[i] response[i] e^{i pi k tau / n}, tau = t + 1/2, k = i + 1 (or i if all bins are filled)."""
    width = response.shape[-1]
    k = torch.arange(width).double() + (width < 2 * n)
    waves = torch.exp(1j * math.pi * k[:, None] * (torch.arange(n).double() + 0.5) / n)
    return (bins * response).to(waves.dtype) @ waves


def in_order(x: Tensor) -> Tensor:
    return x[..., torch.from_numpy(even_order(x.shape[-1]))]


def turned(response: Tensor, n: int) -> Tensor:
    return response / 2 * torch.from_numpy(band_twiddle(response.shape[-1], n))


@given(st.integers(1, 24), st.data())
@quick
def test_spectrum_is_a_literal_cosine_transform(half: int, data: st.DataObject) -> None:
    n = 2 * half
    first = data.draw(st.integers(1 - n, n))
    last = data.draw(st.integers(max(first, 0) + 1, 2 * n))
    x = noise(2, n)
    spectrum = EvenSpectrum(n, first, last, twiddle(n))
    y = assert_is_linear_map(spectrum, in_order(x))
    assert y[0].numel() == spectrum.size
    torch.testing.assert_close(y, x @ cosines(n, range(first, last)).mT, rtol=0, atol=1e-13)


@given(st.integers(1, 12), st.data())
@quick
def test_subbands_are_literal(half: int, data: st.DataObject) -> None:
    n = 2 * half
    width, filters = data.draw(st.integers(1, 2 * n)), data.draw(st.integers(1, 3))
    start, step = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 4))
    response = noise(filters, width, seed=1)
    spectrum = noise(2, start + (filters - 1) * step + width + 2)
    bands = EvenSubbands(spectrum.shape[1], start, step, turned(response, n), n)
    y = assert_is_linear_map(bands, spectrum)
    assert y[0].numel() == bands.size
    rows = [spectrum[:, start + f * step :][:, :width] for f in range(filters)]
    z = torch.stack([literal_band(row, response[f], n) for f, row in enumerate(rows)], 1)
    expected = planes_of(in_order(z)).clone()
    expected[:, 1, :, n // 2 :].neg_()
    assert_near(y, expected, 1e-13)


@given(st.integers(1, 12), st.data())
@quick
def test_common_band_is_literal(half: int, data: st.DataObject) -> None:
    n = 2 * half
    width = data.draw(st.integers(1, 2 * n))
    start = data.draw(st.integers(max(1 - width, -n // 2), n))
    groups = data.draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2 * n)), min_size=1, max_size=3))
    response = noise(width, seed=1)
    spectra = [noise(2, rows, bins, seed=i) for i, (rows, bins) in enumerate(groups)]
    band = EvenCommonBand(tuple(groups), start, turned(response, n), n)
    y = assert_is_linear_map(band, *spectra)
    assert y[0].numel() == band.size
    everything = [torch.nn.functional.pad(s, (0, 4 * n - s.shape[-1])) for s in spectra]
    k = (torch.arange(width) + start).abs()  # bins -k and k are equal
    z = literal_band(torch.cat(everything, 1)[..., k], response, n)
    assert_near(y.unflatten(1, (2, -1)), planes_of(in_order(z)), 1e-13)


@given(st.integers(1, 20), st.data())
@quick
def test_continuations_and_crop_are_by_index(n: int, data: st.DataObject) -> None:
    half = 2 * data.draw(st.integers((n + 1) // 2, n))
    if half > 2 * n:
        half -= 2
    x = noise(3, n)
    extended = torch.cat([x, x.flip(-1)], -1)[:, :half]
    assert torch.equal(assert_is_linear_map(EvenReflection(n, half), x), in_order(extended))
    period = assert_is_linear_map(EvenExtension(n, half), x)
    assert torch.equal(period, torch.cat([extended, extended.flip(-1)], -1))
    kept = data.draw(st.integers(1, half))
    crop = assert_is_linear_map(EvenCrop(half, kept), in_order(extended))
    assert torch.equal(crop, extended[:, :kept])


def test_low_bins_by_decimation() -> None:
    n, factor = 2048, 16
    correction = torch.from_numpy(decimation_correction(n, factor))
    decimated = LowSpectrum(n, torch.from_numpy(decimation_window(factor)), correction)
    low = EvenLowSpectrum(decimated, twiddle(n)[: len(correction)])
    x = noise(2, n)
    y = assert_is_linear_map(low, in_order(x))
    assert_near(y, x @ cosines(n, range(len(correction))).mT, 3e-7)


# --- the transform --------------------------------------------------------------------------------------------


def test_maps_differentiate_to_any_order() -> None:
    for options in (
        dict(),
        dict(T="global", F="global"),
        dict(T=0, smoothing=1e-3),
        dict(samples_per_bandwidth=2),
    ):
        tiny = JTFSPath(**{**TINY, **options}, boundary="even").double()
        x = noise(2, 48).requires_grad_()
        for path_idx in (0, tiny.n_paths // 2, tiny.n_paths - 1):
            phi = partial(tiny, path_idx=path_idx)
            assert torch.autograd.gradcheck(phi, x, fast_mode=True, check_forward_ad=True)
            assert torch.autograd.gradgradcheck(phi, x, fast_mode=True)


@pytest.mark.parametrize("path_idx", [0, 5])
def test_vmap_and_forward_mode(path_idx: int) -> None:
    phi = partial(JTFSPath(**TINY, boundary="even").double(), path_idx=path_idx)
    x, v = noise(3, 48), noise(3, 48, seed=1)
    assert_near(torch.func.vmap(phi)(x), phi(x), 1e-13)
    jacobian = torch.autograd.functional.jacobian(phi, x[0])
    assert isinstance(jacobian, Tensor)
    assert_near(torch.func.jacrev(phi)(x[0]), jacobian, 1e-12)
    assert_near(torch.func.jvp(phi, (x[0],), (v[0],))[1], jacobian @ v[0], 1e-12)


@pytest.mark.parametrize("T", [1, 4, 32, 100])
@pytest.mark.parametrize("n_samples", [512, 600])
def test_low_pass_by_fft_equals_low_pass_by_matrix(
    T: int, n_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {**LOCAL, "n_samples": n_samples, "T": T, "orders": (1, 2), "boundary": "even"}
    by_matrix = JTFSPath(**settings).double()
    monkeypatch.setattr("scrapl_jtfs._transform.even_filters.LARGEST_MATRIX", 0)
    by_fft = JTFSPath(**settings).double()
    x = noise(2, n_samples)
    values, gradient = value_and_gradient(by_matrix.full, x)
    others, other_gradient = value_and_gradient(by_fft.full, x)
    assert_all_near(others, values, 1e-12)
    assert_near(other_gradient, gradient, 1e-11)


@pytest.mark.parametrize("samples_per_bandwidth", [None, 1, 2, 100])
@pytest.mark.parametrize("options", [dict(), dict(T="global", F=0), dict(T=0, F="global", n_samples=3000)])
def test_single_paths_are_the_full_tree(samples_per_bandwidth: float | None, options: dict[str, Any]) -> None:
    jtfs = JTFSPath(
        **{**LARGE, **options, "orders": (1, 2)}, samples_per_bandwidth=samples_per_bandwidth, boundary="even"
    ).double()
    x = noise(1, jtfs.geometry.n_samples)
    full, gradient = value_and_gradient(jtfs.full, x)
    singles = [value_and_gradient(lambda s, p=p: [jtfs(s, p)], x) for p in range(jtfs.n_paths)]
    assert_all_near([values[0] for values, _ in singles], full, 1e-11)
    assert_near(torch.stack([g for _, g in singles]).sum(0), gradient, 1e-10)
    assert_all_near(list(dict(jtfs.stream(x)).values()), full, 1e-12)


def test_compact_error_falls_as_samples_grow() -> None:
    x = noise(1, 4096)
    exact, exact_gradient = value_and_gradient(JTFSPath(**LARGE, boundary="even").double().full, x)
    errors = []
    for samples in (1, 2, 4, 100):
        jtfs = JTFSPath(**LARGE, samples_per_bandwidth=samples, boundary="even").double()
        values, gradient = value_and_gradient(jtfs.full, x)
        far = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(values, exact, strict=True)))
        size = math.sqrt(sum(float(b.square().sum()) for b in exact))
        errors.append((far / size, float((gradient - exact_gradient).norm() / exact_gradient.norm())))
    of_values, of_gradients = zip(*errors, strict=True)
    # The bounds of the same test with kymatio's continuation.
    assert of_values[1] < 1e-3
    assert of_values[-1] < 3e-5
    assert of_gradients[1] < 0.03
    assert of_gradients[-1] < 3e-3


@pytest.mark.parametrize("n_samples", [512, 500])
def test_kymatios_coefficients_away_from_the_ends(n_samples: int) -> None:
    # A sound in the middle of silence hears neither continuation: what is left are strides and times of frames.
    settings: dict[str, Any] = dict(n_samples=n_samples, J=3, Q=(2, 1), J_fr=1, T=8, orders=(1, 2))
    x = torch.zeros(1, n_samples, dtype=torch.float64)
    x[:, n_samples // 2 - 40 : n_samples // 2 + 40] = noise(1, 80)
    reflect, even = (JTFSPath(**settings, boundary=name).double() for name in ("reflect", "even"))
    # kymatio's frames stand at multiples of T in its padding, which begins elsewhere unless it is a multiple of T.
    for p in range(0, reflect.n_paths):
        times = [jtfs.frame_times(p).tolist() for jtfs in (reflect, even)]
        shared = sorted(set(times[0]) & set(times[1]))
        if n_samples == 512:
            assert times[0] == times[1]
        if not shared:
            continue
        a, b = (
            jtfs(x, p)[..., [t.index(s) for s in shared]] for jtfs, t in zip((reflect, even), times, strict=True)
        )
        # Moduli alias at kymatio's strides, each grid in its own way.
        assert_near(b, a, 0.02)


def test_time_turned_around_turns_the_spin() -> None:
    # The continuation of a signal backwards is that of the signal, backwards: spins change places, but for what
    # kymatio sums over fewer periods in wavelets of falling patterns.
    jtfs = JTFSPath(**{**LOCAL, "T": "global", "F": 0}, boundary="even").double()
    x = noise(2, 512)
    ahead, behind = jtfs.full(x), jtfs.full(x.flip(-1))
    by_key = {(path.n2, path.scale, path.spin): path.index for path in jtfs.paths}
    for path in jtfs.paths:
        mirrored = by_key[path.n2, path.scale, -path.spin]
        assert_near(behind[path.index], ahead[mirrored], 1e-4)


@pytest.mark.parametrize("options", [dict(), dict(T=0), dict(samples_per_bandwidth=2, smoothing=1e-4)])
@pytest.mark.parametrize("wanted", [[3], None], ids=["single", "full"])
def test_memory_changes_neither_values_nor_gradients(
    options: dict, wanted: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapl_jtfs._transform.scattering._FEWEST_ROWS_AT_ONCE", 1)
    monkeypatch.setattr("scrapl_jtfs._transform.budget._FEWEST_FFTS_AT_ONCE", 0)
    x = noise(3, 512)
    results = []
    for memory in (None, 1, 100_000, 2**40):
        jtfs = JTFSPath(**{**BOTH_ORDERS, **options}, memory=memory, boundary="even").double()
        ids = range(jtfs.n_paths) if wanted is None else wanted
        results.append(value_and_gradient(partial(jtfs.select, path_indices=ids), x))
    for values, gradient in results[1:]:
        assert_all_near(values, results[0][0], 1e-12)
        assert_near(gradient, results[0][1], 1e-12)


def test_float32_is_close_to_float64_and_needs_half_the_memory() -> None:
    jtfs = JTFSPath(**LARGE, boundary="even")
    x, y = noise(2, 4096), noise(2, 4096, seed=1)
    exact = JTFSPath(**LARGE, boundary="even").double()
    for p in range(0, jtfs.n_paths, 7):
        assert_near(jtfs(x.float(), p).double(), exact(x, p), 1e-5)
    losses = [JTFSPathLoss(t).full(x.to(t.dtype), y.to(t.dtype)).item() for t in (jtfs, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # The arrays of the first layer, which is all that a path is computed from
    kymatio = JTFSPath(**LARGE).double().first_layer(x)
    assert sum(a.nbytes for a in exact.first_layer(x).arrays) == sum(a.nbytes for a in kymatio.arrays) // 2


@pytest.mark.parametrize("n_samples", [512, 600])
@pytest.mark.parametrize("hop", [1, 4])
def test_scalogram_is_the_literal_one(n_samples: int, hop: int) -> None:
    from scrapl_jtfs.reference import morlet, wavelets

    jtfs = JTFSPath(**{**LOCAL, "n_samples": n_samples}, boundary="even").double()
    x = noise(2, n_samples)
    half = jtfs.geometry.n_padded // 2
    period = torch.cat([x, x.flip(-1)], -1)[:, :half]
    period = torch.cat([period, period.flip(-1)], -1)
    responses = [morlet(2 * half, psi) for psi in wavelets(5, 4)]
    spectrum = torch.fft.fft(period)
    expected = torch.stack([torch.fft.ifft(spectrum * r).abs()[:, :n_samples:hop] for r in responses], 1)
    found = jtfs.scalogram(x, hop=hop)
    assert jtfs.boundary == "even"
    assert_near(found.values, expected, 1e-9)
    assert found.times.tolist() == list(range(0, n_samples, hop))


def test_frames_that_are_not_averaged_stand_in_the_middle() -> None:
    jtfs = JTFSPath(**{**LOCAL, "T": 0}, boundary="even").double()
    for path in jtfs.paths:
        times = jtfs.frame_times(path.index)
        stride = 2 ** (path.j2 or 0)
        np.testing.assert_array_equal(times, np.arange(512 // stride) * stride + (stride - 1) / 2)
        assert jtfs(noise(512), path.index).shape[-1] == len(times)
    features = jtfs.features(noise(2, 512))
    assert features.values.isfinite().all()


def test_first_layers_of_the_other_continuation_are_refused() -> None:
    x = noise(2, 512)
    layer = JTFSPath(**LOCAL, boundary="even").double().first_layer(x)
    with pytest.raises(ValueError, match="boundary=even there and reflect here"):
        JTFSPath(**LOCAL).double()(layer, 0)


def test_a_local_average_as_long_as_the_signal_tells_rising_from_falling() -> None:
    """Kymatio's hears as much of the reflection, in which rising patterns fall, and warns."""
    time = torch.arange(2048, dtype=torch.float64) / 2048 - 0.5
    rising = torch.sin(2 * math.pi * 300 * torch.expm1(2.0 * time) / 2.0) * torch.cos(math.pi * time).square()

    def share_of_rising(**options: Any) -> float:
        jtfs = JTFSPath(2048, J=8, Q=(8, 1), J_fr=2, **options).double()
        energy = {spin: 0.0 for spin in (-1, 0, 1)}
        for path in jtfs.paths:
            energy[path.spin] += jtfs(rising, path.index).square().sum().item()
        return energy[1] / (energy[1] + energy[-1])

    assert share_of_rising(T=2048) == pytest.approx(0.5, abs=0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        even = share_of_rising(T=2048, boundary="even")
    assert even == pytest.approx(share_of_rising(T="global"), abs=0.05)
    assert abs(even - 0.5) > 0.3


@pytest.mark.parametrize("bad", ["odd", "", None, 1, ["even"]])
def test_bad_boundaries(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"Invalid boundary: .*; expected 'reflect' or 'even'"):
        JTFSPath(**LOCAL, boundary=bad)
