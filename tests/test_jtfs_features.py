"""Features: rows are where a tone of their frequency is, frames where a click is; one tensor holds all paths."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss, relative_distance
from scrapl_jtfs._transform.filterbank import morlet_response, wavelet_bank
from tests.support.jtfs_helpers import assert_near, noise

N, RATE = 4096, 4096
SMALL: dict[str, Any] = {"n_samples": N, "J": 9, "Q": (8, 1), "J_fr": 3, "sample_rate": RATE, "orders": (1, 2)}
AVERAGES = [None, 0, "global", 5]


def small(**settings: Any) -> JTFSPath:
    return JTFSPath(**{**SMALL, **settings}).double()


def tone(frequency: float, rate: float) -> Tensor:
    """A sinusoid whose loudness beats, at a frequency and a rate in Hz."""
    t = torch.arange(N, dtype=torch.float64) / RATE
    return (1 + torch.sin(2 * math.pi * rate * t)) * torch.sin(2 * math.pi * frequency * t)


def click(sample: int) -> Tensor:
    return torch.zeros(N, dtype=torch.float64).index_fill(0, torch.tensor(sample), 1.0)


# Rows and frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "F"), [*itertools.product([None, 0, "global", 100], AVERAGES), (64, 8)])
@pytest.mark.parametrize("bank", [{}, {"Q": (1, 4), "J_fr": 1}, {"Q_fr": 3, "samples_per_bandwidth": 2}])
def test_every_row_and_frame_has_a_place(T: Any, F: Any, bank: dict[str, Any]) -> None:
    settings = {"J": 7, "Q": (4, 2), "J_fr": 2, "T": T, "F": F, "orders": (1, 2), "sample_rate": 1000} | bank
    jtfs = JTFSPath(1500, **settings).to("meta")
    for p, coefficients in jtfs.stream(torch.empty(1500, device="meta")):
        frequencies, times = jtfs.row_frequencies(p), jtfs.frame_times(p)
        assert coefficients.shape == (len(frequencies), len(times)), jtfs.paths[p]
        assert (frequencies > 0).all()
        assert (frequencies.diff() < 0).all()
        assert times[0] >= 0
        assert (times.diff() > 0).all()
        assert times[-1] < 1.5
        assert frequencies.dtype == times.dtype == torch.float64


@pytest.mark.parametrize("F", [None, 0, 2, 5, 16])
@pytest.mark.parametrize("samples_per_bandwidth", [None, 2])
@pytest.mark.parametrize(("order", "scale"), [(1, 0.0), (1, 0.7), (2, 0.0), (2, 0.7), (2, -0.7)])
def test_a_tone_is_loudest_in_the_row_of_its_frequency(
    F: Any, samples_per_bandwidth: float | None, order: int, scale: float
) -> None:
    jtfs = small(F=F, T="global", samples_per_bandwidth=samples_per_bandwidth)
    p = next(
        path.index
        for path in jtfs.paths
        if path.order == order
        and (order == 1 or path.rate < 20)
        and round(path.spin * path.scale, 2) == round(scale, 2)
    )
    frequencies = jtfs.row_frequencies(p)
    # Lower bands are too narrow to hold all of a beating tone, and the next one may hear more of it.
    rate = jtfs.paths[p].rate or 8.0
    inner = [row for row in range(1, len(frequencies)) if frequencies[row] >= 12 * rate]
    assert len(inner) >= 1
    tones = torch.stack([tone(float(frequencies[row]), rate) for row in inner])
    loudest = jtfs(tones, p)[..., 0].argmax(-1)
    assert loudest.tolist() == inner


@pytest.mark.parametrize("F", [None, 0, 5])
def test_rows_are_those_of_wavelets(F: Any) -> None:
    jtfs = small(F=F)
    centres = [psi.xi * RATE for psi in wavelet_bank(9, 8)]
    for path in jtfs.paths:
        frequencies = jtfs.row_frequencies(path.index)
        stride = 2**path.j_fr if F == 0 else 4 if F == 5 else 8
        expected = centres[::stride][: len(frequencies)]
        assert frequencies[: len(expected)].tolist() == expected
        if len(frequencies) > len(expected):  # past the slowest wavelet
            assert float(frequencies[-1]) == pytest.approx(centres[-1] * 2 ** (-1 / 8))


def test_global_averages_stand_in_the_middle() -> None:
    kept, averaged = small(F=0, T=0), small(F="global", T="global")
    for path in kept.paths:
        logs = kept.row_frequencies(path.index).log2()
        assert float(averaged.row_frequencies(path.index).log2()) == pytest.approx(float(logs.mean()))
        assert float(averaged.frame_times(path.index)) == pytest.approx(0.5, abs=1 / RATE)


@pytest.mark.parametrize(
    "settings",
    [{"T": 0}, {"T": 128}, {"T": 100}, {"T": 128, "samples_per_bandwidth": 2}, {"T": 0, "n_samples": 3000}],
)
@pytest.mark.parametrize("order", [1, 2])
def test_a_click_is_loudest_in_the_frame_of_its_time(settings: dict[str, Any], order: int) -> None:
    jtfs = small(F="global", **settings)
    p = next(path.index for path in jtfs.paths if path.order == order and path.scale == 0 and path.rate < 100)
    times = jtfs.frame_times(p)
    inner = [frame for frame in range(len(times)) if 0.2 < times[frame] < 0.5]
    assert len(inner) > 0
    samples = [round(float(times[frame]) * RATE) for frame in inner]
    clicks = torch.stack([click(sample) for sample in samples])[:, : jtfs.geometry.n_samples]
    assert jtfs(clicks, p)[:, 0].argmax(-1).tolist() == inner


def test_without_a_sample_rate_units_are_cycles_per_sample_and_samples() -> None:
    hertz, plain = small(), small(sample_rate=1)
    assert torch.allclose(hertz.row_frequencies(5), plain.row_frequencies(5) * RATE)
    assert torch.allclose(hertz.frame_times(5) * RATE, plain.frame_times(5))


def test_coordinates_stay_on_the_cpu_whatever_the_default_device() -> None:
    jtfs = small()
    with torch.device("meta"):
        assert jtfs.row_frequencies(5).device.type == jtfs.frame_times(5).device.type == "cpu"
    features = jtfs.to("meta").features(torch.empty(2, N, dtype=torch.float64, device="meta"))
    assert features.values.shape == (2, jtfs.n_paths, len(features.row_frequencies), len(features.frame_times))  # type: ignore[arg-type]
    assert features.rates.device.type == features.spins.device.type == "cpu"


@pytest.mark.parametrize("method", ["row_frequencies", "frame_times"])
def test_rows_and_frames_of_no_path(method: str) -> None:
    jtfs = small()
    with pytest.raises(IndexError, match=f"Invalid path_idx: {jtfs.n_paths}; expected an id"):
        getattr(jtfs, method)(jtfs.n_paths)
    with pytest.raises(TypeError, match="Invalid path_idx: 'a'"):
        getattr(jtfs, method)("a")


# One tensor of all paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "F"), [(None, None), (128, 4), ("global", "global"), (0, 0), ("global", 16)])
def test_means_are_those_of_each_path(T: Any, F: Any) -> None:
    jtfs, x = small(T=T, F=F), noise(2, 3, N)
    every = jtfs.full(x)
    both = jtfs.features(x, rows="mean", frames="mean")
    assert both.dims == ("path",)
    assert both.row_frequencies is None
    assert both.frame_times is None
    assert both.has_row is None
    assert_near(both.values, torch.stack([c.mean((-2, -1)) for c in every], -1), 1e-12)


@pytest.mark.parametrize(("rows", "frames"), [("keep", "keep"), ("mean", "keep"), ("keep", "mean")])
@pytest.mark.parametrize("F", [8, 4, 16, "global", 0])
@pytest.mark.parametrize("T", [256, "global", 0])
def test_what_is_kept_is_found_at_its_frequency_and_time(rows: Any, frames: Any, F: Any, T: Any) -> None:
    jtfs, x = small(F=F, T=T, J_fr=2 if F == 4 else 3), noise(2, N)
    features = jtfs.features(x, rows, frames)
    assert features.values.shape[:2] == (2, jtfs.n_paths)
    for path, coefficients in zip(jtfs.paths, jtfs.full(x), strict=True):
        expected, actual = coefficients, features.values[:, path.index]
        if rows == "mean":
            expected = expected.mean(-2, keepdim=True)
            actual = actual.unsqueeze(-2)
        elif F != "global":
            assert features.row_frequencies is not None
            assert features.has_row is not None
            own = jtfs.row_frequencies(path.index).tolist()
            axis = features.row_frequencies.tolist()
            assert set(own) <= set(axis)
            nothing = actual[:, ~features.has_row[path.index]]
            assert not nothing.any()
            assert features.has_row[path.index][[axis.index(f) for f in own]].all()
            row_dim = -1 if frames == "mean" else -2
            actual = actual.index_select(row_dim, torch.tensor([axis.index(f) for f in own]))
        if frames == "mean":
            expected = expected.mean(-1, keepdim=True)
            actual = actual.unsqueeze(-1)
        elif T != "global":
            assert features.frame_times is not None
            axis = features.frame_times.tolist()
            actual = actual[..., [axis.index(t) for t in jtfs.frame_times(path.index).tolist()]]
        assert_near(actual, expected, 1e-12)


def test_what_lies_between_rows_and_frames_is_interpolated() -> None:
    jtfs, x = small(F=0, T=0), noise(N)
    slow = max((p for p in jtfs.paths if p.n_fr == 0 and p.order == 2), key=lambda path: path.j2 or 0)
    features, own = jtfs.features(x), jtfs(x, slow.index)
    assert features.frame_times is not None
    assert features.row_frequencies is not None
    n = torch.arange(len(features.row_frequencies), dtype=torch.float64)
    at = np.interp(features.frame_times, jtfs.frame_times(slow.index), own[1])
    assert_near(features.values[slow.index, 2**slow.j_fr], torch.from_numpy(at), 1e-12)
    first_frame = features.frame_times.tolist().index(jtfs.frame_times(slow.index)[0])
    rows = np.interp(n, 2**slow.j_fr * np.arange(len(own)), own[:, 0])
    held = n < 2**slow.j_fr * len(own)
    expected = torch.where(held, torch.from_numpy(rows), 0.0)
    assert_near(features.values[slow.index, :, first_frame], expected, 1e-12)


def test_chosen_paths_come_in_the_order_named() -> None:
    jtfs, x = small(), noise(N)
    every, some = jtfs.features(x, rows="mean"), jtfs.features(x, rows="mean", paths=torch.tensor([30, 2, 30]))
    assert_near(some.values, every.values[[30, 2, 30]], 1e-12)
    assert [path.index for path in some.paths] == [30, 2, 30]
    assert some.rates.tolist() == [jtfs.paths[p].rate for p in (30, 2, 30)]
    assert some.scales.tolist() == [jtfs.paths[p].scale for p in (30, 2, 30)]
    assert some.spins.tolist() == [jtfs.paths[p].spin for p in (30, 2, 30)]


def test_a_first_layer_serves_and_gradients_flow() -> None:
    jtfs, x = small(T=0, F=0), noise(1, N).requires_grad_()
    features = jtfs.features(jtfs.first_layer(x))
    assert torch.equal(features.values, jtfs.features(x).values)
    values = jtfs.features(x, rows="mean", frames="mean").values
    (gradient,) = torch.autograd.grad(values.sum(), x)
    (expected,) = torch.autograd.grad(torch.stack([c.mean() for c in jtfs.full(x)]).sum(), x)
    assert_near(gradient, expected, 1e-10)


def test_grid_has_every_path_in_its_place() -> None:
    jtfs, x = small(), noise(2, N)
    features = jtfs.features(x)
    values, spins, scales, rates = features.grid()
    assert values.shape == (2, 3, len(scales), len(rates), *features.values.shape[2:])
    for path in jtfs.paths:
        place = (
            spins.tolist().index(path.spin),
            scales.tolist().index(path.scale),
            rates.tolist().index(path.rate),
        )
        assert torch.equal(values[(slice(None), *place)], features.values[:, path.index])
    assert int((~values[0, ..., 0, 0].isnan()).sum()) == jtfs.n_paths


def test_labels_of_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    jtfs, x = small(), noise(2, N)
    features = jtfs.features(x.requires_grad_())
    labelled = features.to_xarray()
    assert isinstance(labelled, xarray.DataArray)
    assert labelled.dims == ("batch", "path", "row", "frame")
    assert labelled.row.attrs["units"] == "Hz"
    assert labelled.frame.values.tolist() == jtfs.frame_times(0).tolist()
    path = jtfs.paths[40]
    at = labelled.set_index(path=["rate", "scale", "spin"]).sel(path=(path.rate, path.scale, path.spin))
    own = jtfs.row_frequencies(40).tolist()
    assert_near(torch.from_numpy(at.sel(row=own).values), jtfs(x, 40).detach(), 1e-12)
    assert bool(at.isel(batch=0, frame=0).drop_sel(row=own).isnull().all())
    grid = labelled.set_index(path=["rate", "scale", "spin"]).unstack("path")
    assert set(grid.dims) == {"batch", "row", "frame", "rate", "scale", "spin"}
    assert jtfs.features(x[None], "mean", "mean").to_xarray().dims == ("batch_0", "batch_1", "path")
    assert jtfs.scalogram(x[0]).to_xarray().dims == ("row", "frame")
    plain = small(sample_rate=1).scalogram(x[0]).to_xarray()
    assert (plain.row.attrs["units"], plain.frame.attrs["units"]) == ("cycles/sample", "samples")


def test_without_xarray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'scrapl-jtfs\[labels\]'"):
        small().features(noise(N)).to_xarray()


def test_bad_features_are_named() -> None:
    jtfs, x = small(), noise(N)
    with pytest.raises(ValueError, match="Invalid rows: 'sum'; expected 'keep', or 'mean'"):
        jtfs.features(x, rows="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid frames: None; expected 'keep', or 'mean'"):
        jtfs.features(x, frames=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Invalid paths: an empty sequence"):
        jtfs.features(x, paths=[])
    with pytest.raises(IndexError, match=r"Invalid paths?(_idx)?: 1000; expected an id"):
        jtfs.features(x, paths=[1000])
    for method in (jtfs.features, jtfs.scalogram):
        with pytest.raises(ValueError, match=r"shape \(100,\); expected 4096 samples .*; crop or pad it"):
            method(x[:100])


def test_reprs_say_what_axes_stand_for() -> None:
    jtfs = small()
    assert repr(jtfs.features(noise(2, N))) == (
        "Features((2, 68, 8, 8): 68 paths x 8 rows (1783 to 12.43 Hz) x 8 frames (0 to 0.875 s), torch.float64)"
    )
    assert repr(jtfs.features(noise(N), "mean", "mean")) == "Features((68,): 68 paths, torch.float64)"
    assert repr(jtfs.scalogram(noise(N))) == (
        "Scalogram((62, 512): 62 rows (1783 to 2.071 Hz) x 512 frames (0 to 0.998 s), torch.float64)"
    )
    plain = repr(small(sample_rate=1).features(noise(N)))
    assert "8 rows (0.4354 to 0.003034 cycles/sample) x 8 frames (0 to 3584 samples)" in plain


# Scalogram ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"T": 0}, {"T": "global"}, {"samples_per_bandwidth": 1}, {"n_samples": 3001}, {"smoothing": 0.1}],
)
@pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")
@pytest.mark.parametrize("hop", [None, 1, 4, 64])
def test_scalogram_is_that_of_its_definition(settings: dict[str, Any], hop: int | None) -> None:
    jtfs = small(**settings)
    geometry, x = jtfs.geometry, noise(2, jtfs.geometry.n_samples)
    scalogram = jtfs.scalogram(x, hop)
    padded = np.pad(x.numpy(), ((0, 0), (geometry.pad_left, geometry.pad_right)), mode="reflect")
    bank = wavelet_bank(9, 8)
    responses = np.stack([morlet_response(geometry.n_padded, psi.xi, psi.sigma) for psi in bank])
    u1 = np.abs(np.fft.ifft(np.fft.fft(padded)[:, None] * responses))
    samples = (scalogram.times * RATE).round().long()
    assert samples.diff().unique().tolist() == [hop or 8 if geometry.n_samples == N else hop or 4]
    assert 0 <= samples[0] < (hop or 8)
    assert samples[-1] < geometry.n_samples <= samples[-1] + (hop or 8)
    expected = torch.from_numpy(u1[..., samples.numpy() + geometry.pad_left])
    assert_near(scalogram.values, expected, 1e-9 if "samples_per_bandwidth" not in settings else 1e-5)
    assert scalogram.frequencies.tolist() == [psi.xi * RATE for psi in bank]


@pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")
def test_scalogram_of_short_and_of_many_signals_and_its_gradient() -> None:
    jtfs = JTFSPath(64, J=4, Q=(4, 1), J_fr=1).double()
    x = noise(2, 1, 3, 64).requires_grad_()
    scalogram = jtfs.scalogram(x)
    assert scalogram.values.shape == (2, 1, 3, len(scalogram.frequencies), 64)
    assert torch.equal(scalogram.values[1, 0, 2], jtfs.scalogram(x[1, 0, 2]).values)
    assert torch.autograd.gradcheck(lambda y: jtfs.scalogram(y, 4).values, noise(1, 64).requires_grad_())


@pytest.mark.parametrize(
    ("hop", "error"),
    [
        (0, ValueError),
        (3, ValueError),
        (8192, ValueError),
        (-4, ValueError),
        (2.0, TypeError),
        (True, TypeError),
        ("a", TypeError),
    ],
)
def test_a_bad_hop_is_named(hop: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Invalid hop: {hop!r}; expected a power of two"):
        small().scalogram(noise(N), hop)


# Distance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"T": "global", "F": "global"}, {"smoothing": 1e-3}])
def test_distance_is_zero_to_itself_and_one_to_silence(settings: dict[str, Any]) -> None:
    jtfs, x = small(**settings), noise(2, N)
    silence = torch.zeros_like(x)
    for level in (1.0, 1e-30, 1e30):
        assert relative_distance(jtfs, x * level, x * level).tolist() == [0, 0]
        assert torch.allclose(relative_distance(jtfs, x * level, silence), torch.ones(2, dtype=torch.float64))
        assert torch.allclose(relative_distance(jtfs, silence, x * level), torch.ones(2, dtype=torch.float64))
    assert relative_distance(jtfs, silence, silence).tolist() == [0, 0]


def test_distance_is_that_of_the_loss_and_symmetric() -> None:
    jtfs, x, y = small(), noise(N, seed=1), 0.5 * noise(N, seed=2)
    full = JTFSPathLoss(jtfs).full
    expected = (full(x, y) / full(x, torch.zeros_like(x))).sqrt()  # x is the louder one
    assert float(relative_distance(jtfs, x, y)) == pytest.approx(float(expected), rel=1e-9)
    assert float(relative_distance(jtfs, y, x)) == pytest.approx(float(expected), rel=1e-9)
    assert float(relative_distance(jtfs, x, x / 2)) == pytest.approx(0.5, rel=1e-9)
    assert relative_distance(jtfs, x.expand(3, 1, N), y.expand(3, 1, N)).shape == (3, 1)


def test_distance_has_a_gradient_in_both_and_none_at_zero() -> None:
    jtfs = small()
    x, y = noise(N, seed=1).requires_grad_(), noise(N, seed=2).requires_grad_()
    relative_distance(jtfs, x, y).backward()
    for signal in (x, y):
        assert signal.grad is not None
        assert float(signal.grad.abs().max()) > 0
    at = noise(N).requires_grad_()
    relative_distance(jtfs, at, at.detach()).backward()
    assert at.grad is not None
    assert not at.grad.any()


def test_distance_in_float32_of_quiet_sounds() -> None:
    jtfs, x, y = small().float(), noise(N, seed=1).float(), noise(N, seed=2).float()
    expected = float(relative_distance(jtfs, x, y))
    assert 0 < expected < math.sqrt(2)
    assert float(relative_distance(jtfs, x * 1e-25, y * 1e-25)) == pytest.approx(expected, rel=1e-4)
    assert float(relative_distance(jtfs.double(), x.double(), y.double())) == pytest.approx(expected, rel=1e-4)


def test_distance_of_unlike_signals_is_named() -> None:
    jtfs, x = small(), noise(N)
    with pytest.raises(ValueError, match=r"Invalid y: shape \(100,\); expected that of x, \(4096,\)"):
        relative_distance(jtfs, x, x[:100])
    with pytest.raises(TypeError, match=r"Invalid y: ndarray; expected a torch.Tensor; use torch.as_tensor"):
        relative_distance(jtfs, x, x.numpy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected 4096 samples"):
        relative_distance(jtfs, x[:100], x[:100])
    with pytest.raises(ValueError, match=r"Invalid y: torch.float32 on cpu; expected torch.float64"):
        relative_distance(jtfs, x, x.float())
