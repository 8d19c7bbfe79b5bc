"""Alignment of JTFS paths: its slopes are those of backward passes to the controls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import scrapl_optim
from scrapl_jtfs import JTFSPath, JTFSPathLoss, measure_alignment

N, M = 1024, 5
TIME = torch.arange(N, dtype=torch.float64) / N
THETA, THETA_HAT = torch.rand(2, M, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def synth(theta: Tensor, seeds: list[int]) -> Tensor:
    """Loudness and pitch, with a phase from the seed."""
    phases = [torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in seeds]
    turns = 64 * 2 ** theta[:, 1:] * TIME + torch.stack(phases)
    return (0.2 + theta[:, :1]) * torch.sin(2 * torch.pi * turns) * torch.sin(torch.pi * TIME) ** 2


def transform(**options: Any) -> JTFSPath:
    return JTFSPath(N, J=5, Q=(4, 1), J_fr=2, T=64, **options).double()


@pytest.mark.parametrize(
    ("options", "settings", "renderings"),
    [
        ({}, {}, 1),
        ({"smoothing": 1e-3}, {"squared": False}, 1),
        ({"orders": (1, 2), "samples_per_bandwidth": 2.0}, {"log1p_eps": 1e-3, "path_scale": False}, 1),
        ({"smoothing": 1e-3, "orders": (1, 2)}, {}, 2),
    ],
)
def test_slopes_are_those_of_backward_passes(
    options: dict[str, Any], settings: dict[str, Any], renderings: int
) -> None:
    jtfs = transform(**options)
    ours = measure_alignment(
        synth, JTFSPathLoss(jtfs, **settings), THETA, THETA_HAT, renderings=renderings, batch_size=3, seed=4
    )
    loss_fn = JTFSPathLoss(jtfs, reduction="none", **settings)
    plain = scrapl_optim.measure_alignment(
        synth, loss_fn, THETA, THETA_HAT, jtfs.n_paths, renderings=renderings, batch_size=3, seed=4
    )
    largest = plain.slopes.abs().amax((0, 2), keepdim=True)
    torch.testing.assert_close(ours.slopes / largest, plain.slopes / largest, rtol=0, atol=1e-9)


def test_channels_share_their_controls() -> None:
    def stereo(theta: Tensor, seeds: list[int]) -> Tensor:
        return torch.stack([synth(theta, seeds), 0.5 * synth(theta.flip(1), seeds)], 1)

    loss_fn = JTFSPathLoss(transform(), squared=False)
    both = measure_alignment(stereo, loss_fn, THETA, THETA_HAT)
    left = measure_alignment(synth, loss_fn, THETA, THETA_HAT)
    right = measure_alignment(lambda t, seeds: 0.5 * synth(t.flip(1), seeds), loss_fn, THETA, THETA_HAT)
    torch.testing.assert_close(both.slopes, left.slopes + right.slopes)


def test_reduction_and_float32_make_no_difference() -> None:
    # Smoothed, as gradients of paths that hear nothing are roundings.
    jtfs = transform(smoothing=1e-3)
    mean = measure_alignment(synth, JTFSPathLoss(jtfs), THETA, THETA_HAT)
    total = measure_alignment(synth, JTFSPathLoss(jtfs, reduction="sum"), THETA, THETA_HAT)
    assert torch.equal(mean.slopes, total.slopes)
    single = measure_alignment(
        lambda theta, seeds: synth(theta.double(), seeds).float(),
        JTFSPathLoss(jtfs.float()),
        THETA.float(),
        THETA_HAT.float(),
    )
    torch.testing.assert_close(single.correlation(), mean.correlation(), atol=1e-3, rtol=0)


def test_a_synth_without_a_gradient_is_refused() -> None:
    theta, theta_hat = torch.rand(2, 4, 2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="Invalid synth: its sounds have no gradient"):
        measure_alignment(
            lambda theta, seeds: synth(theta.detach(), seeds), JTFSPathLoss(transform()), theta, theta_hat
        )


def test_other_losses_are_led_to_scrapl_optim() -> None:
    with pytest.raises(TypeError, match=r"scrapl_optim\.measure_alignment"):
        measure_alignment(synth, torch.nn.MSELoss(), THETA, THETA_HAT)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Invalid synth"):
        measure_alignment(None, JTFSPathLoss(transform()), THETA, THETA_HAT)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="by itself"):
        measure_alignment(
            lambda theta, seeds: synth(theta, seeds) / theta.mean(), JTFSPathLoss(transform()), THETA, THETA_HAT
        )
