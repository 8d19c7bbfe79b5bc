"""Pictures show the numbers they are given, in their place, with axes in the right units; bad input is named."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from scrapl_jtfs import (
    JTFSPath,
    JTFSPathLoss,
    draw_alignment,
    draw_coefficients,
    draw_curves,
    draw_distribution,
    draw_rate_scale,
    draw_scalogram,
    draw_sweep,
    sweep_control,
)
from scrapl_optim import Alignment

N, RATE = 2048, 2048
SETTINGS: dict[str, Any] = {"n_samples": N, "J": 8, "Q": (8, 1), "J_fr": 2, "sample_rate": RATE}
JTFS = JTFSPath(**SETTINGS)
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(0))


def axes() -> Axes:
    return Figure().subplots()


def cells(mesh: QuadMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges of frames and of rows, and the numbers (rows, frames)."""
    corners = np.asarray(mesh.get_coordinates())
    return corners[0, :, 0], corners[:, 0, 1], np.asarray(mesh.get_array())


# Sounds ---------------------------------------------------------------------------------------------------------


def test_scalogram_is_in_decibels_below_its_loudest_point() -> None:
    ax = axes()
    frames, rows, shown = cells(draw_scalogram(ax, JTFS, NOISE, decibels=30, hop=4))
    scalogram = JTFS.scalogram(NOISE, hop=4)
    level = 20 * (scalogram.values.double() / scalogram.values.max()).log10()
    np.testing.assert_allclose(shown, level.clamp_min(-30), atol=1e-4)
    assert shown.max() == pytest.approx(0)
    assert (frames[0], frames[-1]) == (0, 1)
    assert all(frames[:-1] <= scalogram.times.numpy())
    assert all(scalogram.times.numpy() <= frames[1:])
    assert all(rows[:-1] > scalogram.frequencies.numpy())
    assert all(scalogram.frequencies.numpy() > rows[1:])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("time (s)", "frequency (Hz)", "log")
    assert ax.get_ylim() == pytest.approx((float(scalogram.frequencies[-8]), rows[0]))
    assert ax.figure.axes[1].get_ylabel() == "dB"


def test_scalogram_of_silence_has_no_light_and_no_warning() -> None:
    ax = axes()
    _, _, shown = cells(draw_scalogram(ax, JTFS, torch.zeros(1, 1, N), label=None))
    assert (shown == -50).all()
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize("settings", [{}, {"T": 0, "F": 0}, {"T": "global", "F": "global"}, {"T": "global"}])
def test_coefficients_are_drawn_at_their_frequencies_and_times(settings: dict[str, Any]) -> None:
    jtfs, ax = JTFSPath(**SETTINGS, **settings), axes()
    frames, rows, shown = cells(draw_coefficients(ax, jtfs, NOISE.requires_grad_(), 10))
    np.testing.assert_allclose(shown, jtfs(NOISE, 10).detach(), rtol=1e-5)
    assert (frames[0], frames[-1]) == (0, 1)
    for edges, centres in ((frames, jtfs.frame_times(10)), (rows[::-1], jtfs.row_frequencies(10).flip(0))):
        assert (np.diff(edges) > 0).all()
        assert (np.searchsorted(edges, centres.numpy(), side="right") == np.arange(1, len(edges))).all()


def test_without_a_sample_rate_axes_are_in_samples() -> None:
    jtfs, ax = JTFSPath(N, J=8, Q=(8, 1), J_fr=2), axes()
    draw_coefficients(ax, jtfs, NOISE.detach(), 10)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (samples)", "frequency (cycles/sample)")
    draw_rate_scale(ax, jtfs.paths, [1.0] * jtfs.n_paths)
    assert ax.get_xlabel() == "rate (cycles/sample)"


def test_several_signals_are_refused() -> None:
    for draw in (draw_scalogram, lambda ax, jtfs, x: draw_coefficients(ax, jtfs, x, 10)):
        with pytest.raises(ValueError, match=r"Invalid x: shape \(2, 2048\); expected one signal"):
            draw(axes(), JTFS, torch.zeros(2, N))
        with pytest.raises(ValueError, match="expected 2048 samples"):
            draw(axes(), JTFS, torch.zeros(100))
    with pytest.raises(ValueError, match="Invalid decibels: 0; expected a positive number"):
        draw_scalogram(axes(), JTFS, torch.zeros(N), decibels=0)


# Paths ----------------------------------------------------------------------------------------------------------


def test_rate_scale_puts_each_number_where_its_path_is() -> None:
    jtfs, ax = JTFSPath(**SETTINGS, orders=(1, 2)), axes()
    values = torch.rand(jtfs.n_paths, generator=torch.Generator().manual_seed(1)) + 0.5
    values[5] = math.nan
    image = draw_rate_scale(ax, jtfs.paths, values)
    shown = np.ma.filled(np.ma.asarray(image.get_array()), np.nan)
    rates = sorted({path.rate for path in jtfs.paths})
    scales = sorted({path.spin * path.scale for path in jtfs.paths})
    assert shown.shape == (len(scales), len(rates))
    for path, value in zip(jtfs.paths, values.tolist(), strict=True):
        there = shown[scales.index(path.spin * path.scale), rates.index(path.rate)]
        assert there == pytest.approx(value, nan_ok=True)
    assert np.isnan(shown).sum() == shown.size - jtfs.n_paths + 1
    assert [text.get_text() for text in ax.get_xticklabels()] == [f"{rate:.3g}" for rate in rates]
    signs = [text.get_text()[0] for text in ax.get_yticklabels()]
    assert signs == sorted(signs, key="-0+".index)
    assert signs.count("-") == signs.count("+") == len(scales) // 2


def test_colours_diverge_from_once_uniform() -> None:
    ax = axes()
    values = np.ones(JTFS.n_paths)
    values[:3] = 0, 1e3, 1 / 4
    image = draw_rate_scale(ax, JTFS.paths, values)
    low, high, quarter, once = image.to_rgba(np.array([1e-9, 1e3, 1 / 4, 1.0]))
    assert min(once[:3]) > 0.95  # no colour
    assert low[2] > low[0]  # blue
    assert quarter[2] > quarter[0]
    assert high[0] > high[2]  # red
    bar = ax.figure.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert bar.get_ylabel() == "times uniform"


def test_other_numbers_take_a_norm_and_no_bar() -> None:
    ax = axes()
    image = draw_rate_scale(ax, JTFS.paths, np.linspace(-60, 0, JTFS.n_paths), norm=Normalize(), label=None)
    assert image.get_clim() == (-60, 0)
    assert len(ax.figure.axes) == 1


def test_many_rates_share_labels() -> None:
    jtfs, ax = JTFSPath(8192, J=11, Q=(8, 4), J_fr=4, Q_fr=4, T="global", sample_rate=8192), axes()
    draw_rate_scale(ax, jtfs.paths, [1] * jtfs.n_paths)
    assert len(ax.get_xticks()) <= 12
    assert "0" in [text.get_text() for text in ax.get_yticklabels()]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0], ValueError, r"Invalid values: shape \(1,\); expected one for each of \d+ paths"),
        ("a", TypeError, "Invalid values: a str; expected numbers"),
        ([-1.0] * JTFS.n_paths, ValueError, "and ratios of at least 0 unless a norm is given"),
        ([math.inf] * JTFS.n_paths, ValueError, "some are infinite"),
    ],
)
def test_numbers_that_cannot_be_drawn(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw_rate_scale(axes(), JTFS.paths, values)


# Sweeps ---------------------------------------------------------------------------------------------------------


def itself(theta: Tensor) -> Tensor:
    return theta.flatten()


def bowl(sound: Tensor, target: Tensor) -> Tensor:
    return (sound - target).square().sum()


def wave(sound: Tensor, target: Tensor) -> Tensor:
    """Three periods over the unit interval, with a slope of the wrong sign half of the time."""
    return torch.sin(6 * math.pi * (sound - target)).square().sum()


def test_a_sweep_has_the_losses_and_their_slopes() -> None:
    theta = torch.tensor([[0.2, 0.4]], dtype=torch.float64)
    sweep = sweep_control({"bowl": bowl, "wave": wave}, itself, theta, 1)
    assert sweep.truth == 0.4
    assert 0.4 in sweep.values
    assert len(sweep.values) == 34  # 33 and the truth
    away = sweep.values - 0.4
    np.testing.assert_allclose(sweep.losses["bowl"], away**2, atol=1e-12)
    np.testing.assert_allclose(sweep.gradients["bowl"], 2 * away, atol=1e-12)
    np.testing.assert_allclose(sweep.gradients["wave"], 6 * math.pi * np.sin(12 * math.pi * away), atol=1e-9)
    assert sweep.shares["bowl"] == 1
    elsewhere = away[away != 0]
    right = np.sign(np.sin(12 * math.pi * elsewhere)) == np.sign(elsewhere)
    assert sweep.shares["wave"] == pytest.approx(right.mean())
    assert repr(sweep).startswith("Sweep(34 values from 0 to 1, truth 0.4; bowl: 100% of gradients point to it")


def test_slopes_of_a_path_loss_are_those_of_finite_differences() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(512, J=6, Q=(4, 1), J_fr=2, T="global", F="global").double())
    t = torch.arange(512, dtype=torch.float64)

    def synth(theta: Tensor) -> Tensor:
        return theta[0] * torch.sin(0.5 * t) * (1 + torch.sin(0.05 * 2 ** theta[1] * t))

    places = np.array([0.2, 0.2 + 1e-6, 0.8, 0.8 + 1e-6])
    sweep = sweep_control(loss_fn.full, synth, torch.tensor([1.0, 0.5], dtype=torch.float64), 1, places)
    assert len(sweep.values) == 5
    loss, slope = sweep.losses["loss"], sweep.gradients["loss"]
    assert (loss[1] - loss[0]) / 1e-6 == pytest.approx(slope[0], rel=1e-3)
    assert (loss[4] - loss[3]) / 1e-6 == pytest.approx(slope[3], rel=1e-3)
    assert loss[2] == 0


def test_a_flat_loss_never_points_to_the_truth() -> None:
    sweep = sweep_control(lambda x, y: (0 * x).sum(), itself, torch.tensor([0.5]), 0, [0, 1])
    assert sweep.shares == {"loss": 0.0}
    unheard = sweep_control(bowl, lambda theta: theta[1:], torch.tensor([0.5, 0.5]), 0)
    assert unheard.shares == {"loss": 0.0}


def test_sweep_picture_marks_where_descent_goes_wrong() -> None:
    ax = axes()
    sweep = draw_sweep(ax, {"bowl": bowl, "wave": wave}, itself, torch.tensor([0.5]), 0)
    assert ax.get_legend_handles_labels()[1] == [
        f"{name}: {sweep.shares[name]:.0%} of gradients lead to the truth" for name in ("bowl", "wave")
    ]
    curve, none, _, crosses, truth = ax.get_lines()
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), sweep.losses["bowl"] / sweep.losses["bowl"].max())
    assert len(np.asarray(none.get_xdata())) == 0
    wrong = ~sweep.points_to_truth("wave") & (sweep.values != 0.5)
    np.testing.assert_array_equal(crosses.get_xdata(), sweep.values[wrong])
    assert np.asarray(truth.get_xdata()).tolist() == [0.5, 0.5]
    assert ax.get_xlabel() == "control 0"


THETA = torch.tensor([0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sweep_control(bowl, itself, torch.zeros(4, 2), 0),
            ValueError,
            r"shape \(4, 2\); expected the con",
        ),
        (lambda: sweep_control(bowl, itself, [0.5], 0), TypeError, "Invalid theta: .*; expected a torch.Tensor"),  # type: ignore[arg-type]
        (
            lambda: sweep_control(bowl, itself, THETA, 2),
            IndexError,
            "Invalid control: 2; expected an integer from 0 to 1",
        ),
        (lambda: sweep_control(bowl, itself, THETA, 0.5), TypeError, "Invalid control: 0.5"),  # type: ignore[arg-type]
        (lambda: sweep_control({}, itself, THETA, 0), ValueError, "an empty mapping"),
        (lambda: sweep_control(3, itself, THETA, 0), TypeError, "Invalid loss 'loss': 3"),  # type: ignore[arg-type]
        (
            lambda: sweep_control(bowl, itself, 7 * THETA, 0),
            ValueError,
            "Invalid values: None, with the truth at 3.5",
        ),
        (lambda: sweep_control(bowl, itself, THETA, 0, [1]), ValueError, "at least two finite numbers"),
        (lambda: sweep_control(bowl, itself, THETA, 0, [0, math.nan]), ValueError, "at least two finite numbers"),
        (lambda: sweep_control(bowl, itself, THETA, 0, "ab"), ValueError, "finite numbers on one axis"),  # type: ignore[arg-type]
        (lambda: sweep_control(lambda x, y: x - y, itself, THETA, 0), ValueError, r"it returned shape \(2,\)"),
        (lambda: sweep_control(lambda x, y: 1.0, itself, THETA, 0), ValueError, "it returned a float"),  # type: ignore[arg-type, return-value]
        (
            lambda: sweep_control(bowl, torch.Tensor.detach, THETA, 0),
            ValueError,
            "it has no gradient with respect",
        ),
    ],
)
def test_bad_sweeps_are_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# Curves ---------------------------------------------------------------------------------------------------------


def test_curves_are_means_within_bands() -> None:
    ax = axes()
    runs = np.array([[3.0, 2, 1], [5, 2, np.nan], [4, 5, np.nan]])
    several, single = draw_curves(ax, [0, 10, 20], {"three": torch.tensor(runs), "one": [1, 2, 3]})
    np.testing.assert_allclose(np.asarray(several.get_ydata()), [4, 3, 1])
    np.testing.assert_allclose(np.asarray(single.get_ydata()), [1, 2, 3])
    (band,) = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    corners = {tuple(corner) for corner in np.asarray(band.get_paths()[0].vertices)}
    assert {(0, 3), (0, 5), (10, 2), (10, 5), (20, 1)} <= corners
    assert ax.get_legend_handles_labels()[1] == ["three", "one"]


def test_curves_without_a_name_have_no_legend() -> None:
    ax = axes()
    draw_curves(ax, torch.arange(3), [[1, 2, 3]])
    assert ax.get_legend() is None
    draw_curves(ax, torch.arange(3), [1, 2, 3], label="this")
    assert ax.get_legend_handles_labels()[1] == ["this"]


@pytest.mark.parametrize("runs", [[1, 2], [[[1, 2, 3]]], []])
def test_curves_that_do_not_fit_their_steps(runs: Any) -> None:
    with pytest.raises(ValueError, match=r"Invalid runs: shape .* for steps of shape \(3,\); expected one row"):
        draw_curves(axes(), [0, 1, 2], runs)
    with pytest.raises(TypeError, match="Invalid runs: a list; expected numbers"):
        draw_curves(axes(), [0, 1, 2], [[1, 2, 3], [1, 2]])


# Alignment ------------------------------------------------------------------------------------------------------


def known_alignment() -> Alignment:
    """Path 0 hears the first control, all others nothing; the second control is led away from the truth."""
    theta, theta_hat = torch.rand(2, 60, 2, generator=torch.Generator().manual_seed(0))
    slopes = torch.zeros(60, JTFS.n_paths, 2)
    slopes[:, 0] = (theta_hat - theta) * torch.tensor([1.0, -1.0])
    return Alignment(theta, theta_hat, slopes)


def test_alignment_shows_paths_and_their_sum() -> None:
    first, second, signs = Figure().subplots(1, 3)
    draw_alignment([first, second, signs], JTFS.paths, known_alignment(), names=["density", "slope"])
    for ax, title, value in ((first, "density: sum 1.00 (1.00 to 1.00)", 1.0), (second, "slope: sum -1.00", -1.0)):
        assert ax.get_title().startswith(title)
        shown = np.asarray(ax.images[0].get_array())
        assert np.nansum(np.abs(shown)) == pytest.approx(1.0)
        assert np.nansum(shown) == pytest.approx(value)
    right, wrong = (np.asarray(box.lines[0].get_ydata()) for box in signs.containers)
    assert right.tolist() == [1.0] * 6
    assert wrong.tolist() == [0.0] * 6
    sizes = np.asarray(signs.containers[0].lines[0].get_xdata())
    assert (np.diff(sizes) > 0).all()
    assert signs.get_legend_handles_labels()[1] == ["density", "slope"]


def test_alignment_takes_axes_for_its_controls() -> None:
    alignment, (one, two, three) = known_alignment(), Figure().subplots(1, 3)
    with pytest.raises(ValueError, match="Invalid axes: 2 of them; expected 3"):
        draw_alignment([one, two], JTFS.paths, alignment)
    with pytest.raises(ValueError, match="Invalid names: 1 of them; expected 2"):
        draw_alignment([one, two, three], JTFS.paths, alignment, names=["a"])
    with pytest.raises(ValueError, match="Invalid paths"):
        draw_alignment([one, two, three], JTFS.paths[:3], alignment)
    with pytest.raises(TypeError, match="Invalid alignment"):
        draw_alignment([one], JTFS.paths, [1.0])  # type: ignore[arg-type]


# Without matplotlib ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_distribution(None, JTFS.paths, [1.0] * JTFS.n_paths),  # type: ignore[arg-type]
        lambda: draw_scalogram(None, JTFS, NOISE),  # type: ignore[arg-type]
        lambda: draw_coefficients(None, JTFS, NOISE, 0),  # type: ignore[arg-type]
        lambda: draw_rate_scale(None, JTFS.paths, [1.0] * JTFS.n_paths),  # type: ignore[arg-type]
        lambda: draw_sweep(None, bowl, itself, THETA, 0),  # type: ignore[arg-type]
        lambda: draw_curves(None, [0], [1]),  # type: ignore[arg-type]
        lambda: draw_alignment([], JTFS.paths, None),  # type: ignore[arg-type]
    ],
)
def test_without_matplotlib(draw: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'scrapl-jtfs\[pictures\]'"):
        draw()
