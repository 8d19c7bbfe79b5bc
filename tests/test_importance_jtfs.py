"""theta-importance of JTFS paths: Taylor series in place of double backward passes, and the picture of pi."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor, draw_distribution
from scrapl_optim import Arnoldi, SharedSubspace, theta_importance

N, RATE = 512, 1024.0
JTFS = JTFSPath(N, J=6, Q=(4, 1), J_fr=2, Q_fr=1, T=64, F=2, sample_rate=RATE).double()


def synth(theta: Tensor) -> Tensor:
    """A tone whose loudness and pitch are set."""
    time = torch.arange(N, dtype=torch.float64) / RATE
    pitch, beat = (60 * 2 ** theta[:, i, None] for i in range(2))
    return torch.sin(2 * torch.pi * pitch * time) * (1 + torch.cos(beat * time)) + 0.1 * torch.cos(200 * time)


def test_taylor_series_take_the_place_of_double_backward_passes() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Sigmoid()).double()
    batch = torch.randn(2, 3, dtype=torch.float64)
    loss = JTFSPathLoss(JTFS)
    target = loss.prepare(synth(torch.full((2, 2), 0.4, dtype=torch.float64)))

    def derivatives(theta: Tensor, batch: Tensor, paths: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        return PathTaylor(loss, synth, theta, target, paths).iter_derivatives(paths)

    def importance(**options: Any) -> Tensor:
        return theta_importance(
            encoder, lambda theta, batch: synth(theta), lambda sound, batch, path: loss(sound, target, path),
            [batch], encoder.parameters(), JTFS.n_paths, **options,
        ).importance  # fmt: skip

    expected = importance(method=Arnoldi(1e-6))
    torch.testing.assert_close(
        importance(method=Arnoldi(1e-6), derivatives=derivatives), expected, rtol=1e-8, atol=0
    )
    together = importance(method=SharedSubspace(1e-6), derivatives=derivatives)
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=0)


def test_picture_shows_each_place_once_with_the_mean_of_its_spins() -> None:
    pi = np.random.default_rng(0).dirichlet(np.ones(JTFS.n_paths))
    axes = Figure().subplots()
    points = draw_distribution(axes, JTFS.paths, pi.tolist(), am=(1, 2), fm=(3, 4))
    places = {(p.rate, p.rate / p.scale) for p in JTFS.paths if p.scale > 0}
    drawn = {tuple(place) for place in np.asarray(points.get_offsets()).tolist()}
    assert drawn == places
    first = next(p for p in JTFS.paths if p.spin > 0)
    both = [pi[p.index] for p in JTFS.paths if (p.rate, p.scale) == (first.rate, first.scale)]
    assert len(both) == 2
    where = np.asarray(points.get_offsets()).tolist().index([first.rate, first.rate / first.scale])
    colours = points.get_array()
    assert colours is not None
    assert colours[where] == pytest.approx(JTFS.n_paths * np.mean(both))
    (rectangle,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert rectangle.get_xy() == (1, 3)


def test_picture_of_something_else_is_refused() -> None:
    axes = Figure().subplots()
    with pytest.raises(ValueError, match="Invalid probs: 2 entries"):
        draw_distribution(axes, JTFS.paths, [0.5, 0.5])
    flat = [p for p in JTFS.paths if p.scale == 0]
    with pytest.raises(ValueError, match="none has both a rate and a scale"):
        draw_distribution(axes, flat, [1 / len(flat)] * len(flat))
