"""Pictures of distributions: ranges, units, what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scrapl_jtfs import JTFSPath, draw_distribution, draw_rate_scale

SETTINGS: dict[str, Any] = dict(n_samples=1024, J=6, Q=(4, 1), J_fr=2)
IN_HERTZ = JTFSPath(**SETTINGS, sample_rate=8000)
PER_SAMPLE = JTFSPath(**SETTINGS)
PI = np.random.default_rng(0).dirichlet(np.ones(IN_HERTZ.n_paths))


def drawn(**ranges: Any) -> Axes:
    axes = Figure().subplots()
    draw_distribution(axes, IN_HERTZ.paths, PI.tolist(), **ranges)
    return axes


def rectangle(axes: Axes) -> tuple[list[float], list[float]]:
    """Left and right, bottom and top, in data coordinates."""
    (patch,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert not patch.get_fill()
    box = patch.get_window_extent().transformed(axes.transData.inverted())
    return [float(box.x0), float(box.x1)], [float(box.y0), float(box.y1)]


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_ranges_are_drawn_as_a_rectangle_or_a_band(kind: Any) -> None:
    am, fm = [30.0, 160.0], [8.0, 20.0]
    across, along = rectangle(drawn(am=kind(am), fm=kind(fm)))
    assert across == pytest.approx(am)
    assert along == pytest.approx(fm)
    axes = drawn(am=kind(am))
    across, along = rectangle(axes)
    assert across == pytest.approx(am)
    assert along == pytest.approx(axes.get_ylim()), "all modulations of frequency"
    axes = drawn(fm=kind(fm))
    across, along = rectangle(axes)
    assert across == pytest.approx(axes.get_xlim())
    assert along == pytest.approx(fm)
    assert not drawn().patches


def test_axes_name_their_units() -> None:
    axes = drawn()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("AM: rate (Hz)", "FM: rate / scale (oct/s)")
    axes = Figure().subplots()
    points = draw_distribution(axes, PER_SAMPLE.paths, PI, am=(0.004, 0.02))
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "AM: rate (cycles/sample)",
        "FM: rate / scale (oct/sample)",
    )
    places = np.asarray(points.get_offsets())
    assert places[:, 0].max() < 0.5
    np.testing.assert_allclose(np.asarray(drawn().collections[0].get_offsets()), places * 8000, rtol=1e-12)
    assert {path.sample_rate for path in PER_SAMPLE.paths} == {1.0}
    assert {path.sample_rate for path in IN_HERTZ.paths} == {8000.0}


@dataclass
class Place:
    rate: float
    scale: float


def test_places_of_others_are_in_hertz() -> None:
    axes = Figure().subplots()
    draw_distribution(axes, [Place(0.2, 1.0), Place(0.4, 2.0)], [0.25, 0.75])
    assert axes.get_xlabel() == "AM: rate (Hz)"


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, torch.tensor, lambda pi: torch.tensor(pi).requires_grad_()]
)
def test_distributions_of_any_kind(kind: Any) -> None:
    points = draw_distribution(Figure().subplots(), IN_HERTZ.paths, kind(PI.tolist()))
    colours = np.asarray(points.get_array())
    np.testing.assert_allclose(colours, np.asarray(drawn().collections[0].get_array()), rtol=1e-6)
    assert len(colours) == len({(p.rate, p.scale) for p in IN_HERTZ.paths if p.scale})


@pytest.mark.parametrize("name", ["am", "fm"])
@pytest.mark.parametrize(
    "bad", [3, (3,), (3, 4, 5), (4, 3), (3, 3), (0, 3), (-1, 3), (1, math.inf), (1, math.nan), ("1", "2"), "12"]
)
def test_bad_ranges(name: str, bad: Any) -> None:
    axes = Figure().subplots()
    with pytest.raises(ValueError, match=rf"Invalid {name}: .*; expected \(lowest, highest\)"):
        draw_distribution(axes, IN_HERTZ.paths, PI, **{name: bad})
    assert not axes.has_data()


@pytest.mark.parametrize(
    ("pi", "error", "message"),
    [
        ([0.5, 0.5], ValueError, "2 entries; expected .* n_paths=28"),
        (np.full((28, 1), 1 / 28), ValueError, r"Invalid probs: shape \(28, 1\)"),
        (0.5, ValueError, r"Invalid probs: shape \(\)"),
        ([math.nan] * 28, ValueError, "entry 0 is nan"),
        ([-1.0] * 28, ValueError, "entry 0 is -1.0"),
        ([1.0] * 28, ValueError, "sum 28; expected 1 .* normalise"),
        (["a"] * 28, TypeError, "Invalid probs: .* real numbers"),
        (None, ValueError, "Invalid probs: None"),
        (torch.empty(28, device="meta"), TypeError, "Invalid probs: .* real numbers"),
    ],
)
def test_bad_distributions(pi: Any, error: type[Exception], message: str) -> None:
    assert IN_HERTZ.n_paths == 28
    axes = Figure().subplots()
    with pytest.raises(error, match=message):
        draw_distribution(axes, IN_HERTZ.paths, pi)
    assert not axes.has_data()


@dataclass(frozen=True)
class Tone:
    """A path of another transform."""

    index: int
    frequency: float
    angle: float
    order: int
    units: ClassVar[dict[str, str]] = {"frequency": "Hz"}


TONES = [Tone(p, (0.0, 20.0, 400.0, 400.0)[p], (0.0, 45.0, 90.0, 90.0)[p], 1) for p in range(4)]


def test_paths_of_any_transform_are_placed_by_two_attributes() -> None:
    axes = Figure().subplots()
    points = draw_distribution(axes, TONES, [0.1, 0.2, 0.3, 0.4], by=("frequency", "angle"))
    # frequencies go over a decade, so that 0 has no place; the last two share theirs
    assert np.asarray(points.get_offsets()).tolist() == [[20.0, 45.0], [400.0, 90.0]]
    assert np.asarray(points.get_array()).tolist() == pytest.approx([0.8, 1.4])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("frequency (Hz)", "angle")


@pytest.mark.parametrize(("by", "error", "message"), [
    (None, TypeError, r"Invalid paths: 'Tone\(.*' has no rate and scale; .* as in by=\('frequency', 'rate'\)"),
    (("frequency", "rate"), ValueError, r"Invalid by: \('frequency', 'rate'\); expected two attributes"),
    ("frequency", ValueError, "Invalid by: 'frequency'; expected two attributes"),
])  # fmt: skip
def test_attributes_that_are_none(by: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw_distribution(Figure().subplots(), TONES, [0.25] * 4, by=by)


def test_a_map_of_rates_and_scales_is_for_the_jtfs() -> None:
    with pytest.raises(TypeError, match=r"'Tone\(.*' has no rate, scale and spin; .*; place those .* by=...\)"):
        draw_rate_scale(Figure().subplots(), TONES, [1.0] * 4)  # type: ignore[arg-type]
