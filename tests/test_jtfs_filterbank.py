"""Filters evaluated where they are not negligible, against the literal ones of full length."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scrapl_jtfs import JTFSPath, reference
from scrapl_jtfs._transform import filter_design
from scrapl_jtfs._transform.filterbank import (
    MIN_BANDWIDTH,
    Band,
    gauss_band,
    gauss_half_support,
    morlet_band,
    morlet_response,
    wavelet_bank,
)
from scrapl_jtfs._transform.geometry import make_geometry
from scrapl_jtfs.paths import list_paths, make_banks

PAPER: dict[str, Any] = {"n_samples": 32768, "J": 12, "Q": (8, 2), "J_fr": 3, "Q_fr": 2, "T": 4096, "F": 8}


def cut(response: NDArray[np.float64], max_bins: int) -> Band:
    """Cut everything above 1e-12 of the peak out of a whole response, around the peak."""
    n = len(response)
    first = int(np.argmax(np.abs(response))) - n // 2
    centred = np.roll(response, -first)
    heard = np.flatnonzero(np.abs(centred) > 1e-12 * np.abs(centred[n // 2]))
    bins = list(range(heard[0], heard[-1] + 1))
    while len(bins) > max_bins:
        bins.pop(0 if abs(centred[bins[0]]) <= abs(centred[bins[-1]]) else -1)
    start = first + bins[0]
    return Band(start - n if start >= n // 2 else start, centred[bins])


def assert_same_band(n: int, xi: float, sigma: float, max_bins: int) -> None:
    band = morlet_band(n, xi, sigma, max_bins)
    # Where xi is far below sigma, the response is a small difference, scaled up with its rounding.
    tolerance = 1e-13 * max(1.0, sigma / xi)
    if n & (n - 1):  # whole responses round w + 1 before they subtract a period
        tolerance += 1e-16 / sigma
    for whole in (morlet_response(n, xi, sigma), reference.morlet(n, reference.Wavelet(xi, sigma, 0)).numpy()):
        start, values = cut(whole, max_bins)
        assert (band.start, len(band.values)) == (start, len(values))
        if band.start <= 0 < band.start + len(values) and sigma < 0.1:  # the mean vanishes
            assert band.values[-band.start] == 0.0
        error = np.abs(band.values - values).max() / np.abs(values).max()
        assert error < tolerance, f"{error:.1e}"


@given(
    log2_n=st.integers(4, 14),
    odd=st.sampled_from([1, 3, 5]),
    log2_xi=st.floats(-14.0, math.log2(0.499)),
    log2_ratio=st.floats(-5.0, 4.0),
    share=st.sampled_from([1.0, 0.5, 0.1]),
)
# Slow wavelets whose two ends cancel half a period from their middle: there the modulus has a kink.
@example(log2_n=13, odd=1, log2_xi=math.log2(3.5 / 8192), log2_ratio=math.log2(2.5), share=1.0)
@example(log2_n=13, odd=1, log2_xi=math.log2(2.5 / 8192), log2_ratio=math.log2(2.4), share=1.0)
@example(log2_n=12, odd=3, log2_xi=math.log2(0.5 / 12288), log2_ratio=0.0, share=1.0)
@settings(max_examples=300, deadline=None)
def test_bands_are_cut_out_of_whole_responses(
    log2_n: int, odd: int, log2_xi: float, log2_ratio: float, share: float
) -> None:
    # The narrowest wavelet of a bank of 2**J samples, in a period no shorter, has 0.1 bins.
    n, xi = odd * 2**log2_n, 2.0**log2_xi
    sigma = min(0.15, max(xi / 2.0**log2_ratio, MIN_BANDWIDTH / n))
    assert_same_band(n, xi, sigma, max(1, int(share * n)))


@pytest.mark.parametrize(
    ("J", "filters_per_octave", "log2_n"),
    [(14, 12, 18), (12, 8, 16), (12, 2, 16), (10, 1, 17), (3, 24, 10), (17, 3, 17)],
)
def test_bands_of_banks_are_cut_out_of_whole_responses(J: int, filters_per_octave: int, log2_n: int) -> None:
    bank = wavelet_bank(J, filters_per_octave)
    for psi in bank[:: 1 + len(bank) // 24]:
        assert_same_band(2**log2_n, psi.xi, psi.sigma, 2**log2_n)


@given(n=st.integers(1, 20000), log2_share=st.floats(0.0, 1.0))
@settings(max_examples=300, deadline=None)
def test_half_supports_are_those_of_whole_responses(n: int, log2_share: float) -> None:
    sigma = MIN_BANDWIDTH / n**log2_share
    assert gauss_half_support(n, sigma) == reference._half_support(reference.gauss(n, sigma))


@pytest.mark.parametrize("n", [2**17, 100_003, 470_723])
@pytest.mark.parametrize("T", [1, 2, 3.7, 100, 4096, 8191, 2**14, 65536, 100_003])
def test_half_supports_in_long_signals(n: int, T: float) -> None:
    sigma = MIN_BANDWIDTH / T
    assert gauss_half_support(n, sigma) == reference._half_support(reference.gauss(n, sigma))


@given(log2_n=st.integers(1, 13), log2_share=st.floats(0.0, 1.0), log2_stride=st.integers(0, 13))
@settings(max_examples=100, deadline=None)
def test_gauss_bands_fold_as_whole_responses(log2_n: int, log2_share: float, log2_stride: int) -> None:
    n, length = 2**log2_n, 2 ** max(0, log2_n - log2_stride)
    sigma = MIN_BANDWIDTH / n**log2_share
    whole = reference.gauss(n, sigma).numpy().reshape(-1, length).sum(0)
    np.testing.assert_allclose(gauss_band(n, sigma).folded(length), whole, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("T", [8, 37.5, 64, 200])
@pytest.mark.parametrize("length", [2048, 1536, 1024, 96, 48])
def test_resampled_averages_are_resampled_row_by_row(T: float, length: int) -> None:
    geometry = make_geometry(1000, 6, 4, 2, 1, T, None)
    exact = geometry.n_padded >> 1
    (matrix,) = filter_design.local_time_average(geometry, exact, length)._exact.values()
    (rows,) = filter_design.local_time_average(geometry, exact, exact)._exact.values()
    # Each row by its literal spectrum: half the rate of samples stands for a pair of bins, or is dropped.
    bins = np.fft.fft(rows)
    k, u = np.arange(1, exact // 2), np.arange(length)
    k = k[k < length / 2]
    waves = np.exp(2j * np.pi * np.outer(k, u) / length)
    expected = (bins[:, :1].real + 2 * (bins[:, k] @ waves).real) / length
    if length >= exact:
        expected += bins[:, exact // 2, None].real * np.cos(np.pi * exact * u / length) / length
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-14)


def test_costs_are_counted_path_by_path() -> None:
    geometry = make_geometry(PAPER["n_samples"], 12, (8, 2), 3, 2, 4096, 8)
    banks = make_banks(geometry)
    paths = list_paths(geometry, banks, 1.0, {1, 2})

    def fft(length: float) -> float:
        return 5 * length * math.log2(length)

    n, costs = geometry.n_padded, []
    for path in paths:
        fast = [psi for psi in banks.first if path.n2 is None or psi.j < banks.second[path.n2].j]
        assert len(fast) == path.n_rows
        frames = n / 2 ** (12 if path.n2 is None else banks.second[path.n2].j)
        cost = fft(n) / 2 + 1.5 * sum(fft(n / 2**psi.j) for psi in fast)
        cost += 0.0 if path.n2 is None else len(fast) * fft(frames)
        costs.append(cost + 8 * frames * len(fast) * (1 + len(fast) // 2 ** banks.frequential[path.n_fr].j))
    np.testing.assert_allclose([path.cost for path in paths], np.array(costs) / np.mean(costs), rtol=1e-12)


@pytest.mark.parametrize("samples_per_bandwidth", [None, 2])
def test_construction_takes_little_more_than_it_keeps(
    samples_per_bandwidth: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[int] = []
    ifft = np.fft.ifft

    def counted(response: NDArray[Any], n: int | None = None) -> NDArray[np.complex128]:
        points.append(response.size if n is None else n)
        return ifft(response, n)

    monkeypatch.setattr(np.fft, "ifft", counted)
    tracemalloc.start()
    jtfs = JTFSPath(**PAPER, orders=(1, 2), samples_per_bandwidth=samples_per_bandwidth)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # NumPy's float64 constants; torch's copies are not traced.
    kept = sum(8 * buffer.numel() for buffer in jtfs._filters.buffers())
    assert peak < 1.2 * kept
    # A whole response for each of a hundred wavelets would be a hundred periods.
    assert 0 < sum(points) < 2 * jtfs.geometry.n_padded
