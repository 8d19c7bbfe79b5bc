"""Several renderings of a random synthesizer: an unbiased distance to its mean, over every pair and path."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import SCRAPL, JTFSPath, JTFSPathLoss, path_distance
from scrapl_jtfs.reference import ReferenceJTFS
from scrapl_optim.testing import assert_unbiased

SETTINGS: dict[str, Any] = {"J": 5, "Q": (4, 1), "J_fr": 2}
N = 512
P = JTFSPath(N, **SETTINGS).n_paths
SEEDS = 3
PAIRS = list(itertools.product(range(SEEDS), repeat=2))
THETA = torch.tensor([[0.2, 0.7], [0.6, 0.4]], dtype=torch.float64)


def render(theta: Tensor, seed: int) -> Tensor:
    """Two chirps whose onsets and pitches the seed determines, one of three that are equally likely; (B, N)."""
    rate, slope = theta[:, :1], theta[:, 1:]
    t = torch.linspace(-1, 1, N, dtype=theta.dtype)
    shift, pitch = ((-0.3, 40.0), (0.05, 90.0), (0.4, 60.0))[seed]
    loudness = 1 + 0.5 * torch.sin(2 * torch.pi * (2 + 20 * rate) * (t - shift))
    return loudness * torch.sin(2 * torch.pi * (pitch * t + 30 * slope * (t - shift) ** 2))


def target() -> Tensor:
    return torch.stack([render(THETA[:1], 1)[0], render(THETA[1:].flip(1), 0)[0]]).detach()


@pytest.fixture(scope="module")
def jtfs() -> JTFSPath:
    return JTFSPath(N, **SETTINGS).double()


def with_gradient(loss: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return a loss of the controls and its gradient."""
    theta = THETA.clone().requires_grad_()
    value = loss(theta)
    (gradient,) = torch.autograd.grad(value, theta)
    return [value.detach(), gradient]


def distances_to_the_mean(
    transform: Callable[[Tensor, int], Tensor],
    theta: Tensor,
    log1p_eps: float | None = None,
    relative_eps: float | None = None,
) -> list[Tensor]:
    """Return P |E phi_p(x) - phi_p(y)|^2 for each path, mean over the batch, from all seeds."""
    losses = []
    for p in range(P):
        phis = torch.stack([transform(x, p) for x in (*(render(theta, s) for s in range(SEEDS)), target())])
        if log1p_eps is not None:
            phis = torch.log(1 + phis / log1p_eps)
        squares = (phis[:-1].mean(0) - phis[-1]).square().sum((-2, -1))
        if relative_eps is not None:
            squares = squares / (phis[-1].square().sum((-2, -1)) + relative_eps**2)
        losses.append(P * squares.mean())
    return losses


@pytest.mark.parametrize("options", [{}, {"log1p_eps": 1e-2}, {"relative_eps": 1e-4}])
def test_pairs_and_paths_have_the_distance_to_the_mean_as_their_mean(
    jtfs: JTFSPath, options: dict[str, Any]
) -> None:
    """Value and gradient, every pair of independent seeds and every path enumerated, paths drawn from any pi."""
    loss_fn, slow = JTFSPathLoss(jtfs, **options), ReferenceJTFS(N, **SETTINGS)
    pi = np.arange(1, P + 1) / np.arange(1, P + 1).sum()
    draws: dict[int, list[Tensor]] = {}

    def estimate(draw: int) -> list[Tensor]:
        if draw not in draws:
            p, (i, j) = draw // len(PAIRS), PAIRS[draw % len(PAIRS)]
            weight = 1 / (P * pi[p])
            draws[draw] = with_gradient(
                lambda t: loss_fn([render(t, i), render(t, j)], target(), p, weights=weight)
            )
        return draws[draw]

    # To float64's roundings; from the literal transform up to filters cut where they are 1e-7 of their peak.
    for transform, rtol in ((jtfs, 1e-12), (slow, 1e-6)):
        expected = with_gradient(
            lambda t, of=transform: torch.stack(distances_to_the_mean(of, t, **options)).mean()
        )
        assert_unbiased(estimate, np.repeat(pi / len(PAIRS), len(PAIRS)), expected, rtol=rtol)


def test_the_loss_of_one_rendering_has_the_variance_on_top(jtfs: JTFSPath) -> None:
    """On average it is the distance to the mean and the trace of the covariance, which both have gradients."""
    loss_fn, slow = JTFSPathLoss(jtfs), ReferenceJTFS(N, **SETTINGS)

    def variance(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for p in range(P):
            phis = torch.stack([slow(render(theta, s), p) for s in range(SEEDS)])
            total = total + phis.var(0, correction=0).sum((-2, -1)).mean()
        return total

    distance = with_gradient(lambda t: torch.stack(distances_to_the_mean(slow, t)).mean())
    spread = with_gradient(variance)
    uniform = np.full(SEEDS, 1 / SEEDS)

    def estimate(seed: int) -> list[Tensor]:
        return with_gradient(lambda t: loss_fn.full(render(t, seed), target()))

    assert_unbiased(estimate, uniform, [a + b for a, b in zip(distance, spread, strict=True)], rtol=1e-6)
    assert spread[0] > 0.1 * distance[0]
    with pytest.raises(AssertionError, match="biased"):
        assert_unbiased(estimate, uniform, distance, rtol=1e-2)


def test_is_the_literal_product(jtfs: JTFSPath) -> None:
    slow, (x1, x2) = ReferenceJTFS(N, **SETTINGS), (render(THETA, 0), render(THETA, 2))
    loss = JTFSPathLoss(jtfs, reduction="none")
    for p in range(0, P, 3):
        torch.testing.assert_close(
            loss([x1, x2], target(), p), slow.loss_of_two_renderings(x1, x2, target(), p), rtol=1e-5, atol=1e-12
        )


@pytest.mark.parametrize("log1p_eps", [None, 0.1])
def test_several_renderings_are_the_mean_over_all_pairs(log1p_eps: float | None) -> None:
    renderings = list(torch.rand(4, 2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    b = torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rho = (lambda s: s) if log1p_eps is None else (lambda s: np.log(1 + s / log1p_eps))
    d = [rho(a.numpy()) - rho(b.numpy()) for a in renderings]
    products = [(d[i] * d[j]).sum((-2, -1)) for i, j in itertools.combinations(range(4), 2)]
    np.testing.assert_allclose(path_distance(renderings, b, log1p_eps=log1p_eps), np.mean(products, 0), rtol=1e-12)
    pair = path_distance(renderings[:2], b, log1p_eps=log1p_eps)
    np.testing.assert_allclose(pair, products[0], rtol=1e-12)


def test_three_renderings_through_the_transform_have_the_mean_over_their_pairs(jtfs: JTFSPath) -> None:
    loss_fn, xs = JTFSPathLoss(jtfs), [render(THETA, s) for s in range(3)]
    pairs = [loss_fn(list(pair), target(), 7) for pair in itertools.combinations(xs, 2)]
    torch.testing.assert_close(loss_fn(xs, target(), 7), torch.stack(pairs).mean())


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_paths_weights_shares_and_prepared_targets(jtfs: JTFSPath, prepared: bool, reduction: Any) -> None:
    """All that a loss of one rendering can do, on signals (2, 3, N), against the coefficients of each alone."""
    x1, x2, y = torch.randn(3, 2, 3, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss_fn = JTFSPathLoss(jtfs, reduction=reduction)
    given = loss_fn.prepare(y) if prepared else y

    def by_hand(p: int) -> Tensor:
        loss = P * ((jtfs(x1, p) - jtfs(y, p)) * (jtfs(x2, p) - jtfs(y, p))).sum((-2, -1))
        return loss if reduction == "none" else getattr(loss, reduction)()

    for p in (0, 11):
        torch.testing.assert_close(loss_fn((x1, x2), given, p), by_hand(p))
    expected = (0.5 * by_hand(9) + 2.0 * by_hand(3) + 2.0 * by_hand(9)) / 3
    torch.testing.assert_close(loss_fn([x1, x2], given, [9, 3, 9], weights=[0.5, 2.0, 2.0]), expected)
    everything = torch.stack([by_hand(p) for p in range(P)]).mean(0)
    torch.testing.assert_close(loss_fn.full([x1, x2], given), everything)
    shares = [loss_fn.full([x1, x2], given, bundle) for bundle in jtfs.paths.bundles("rate")]
    torch.testing.assert_close(torch.stack(shares).sum(0), everything)
    assert loss_fn.full([x1, x2], given).shape == ((2, 3) if reduction == "none" else ())


def test_values_may_be_negative(jtfs: JTFSPath) -> None:
    y = render(THETA, 0)
    assert JTFSPathLoss(jtfs)([0.5 * y, 1.5 * y], y, 4) < 0


@pytest.mark.parametrize("prepared", [False, True])
def test_derivatives_of_any_order(jtfs: JTFSPath, prepared: bool) -> None:
    """Both renderings are differentiated, in reverse and forward mode and twice; the target is not."""
    loss_fn = JTFSPathLoss(jtfs)
    y = target().requires_grad_()
    given = loss_fn.prepare(y) if prepared else y

    def loss(theta: Tensor) -> Tensor:
        return loss_fn([render(theta, 0), render(theta, 2)], given, [5, 12])

    assert torch.autograd.gradcheck(loss, THETA.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(loss, THETA.clone().requires_grad_())
    gradient = torch.func.grad(loss)(THETA)
    torch.testing.assert_close(torch.func.jacfwd(loss)(THETA), gradient)
    loss(THETA.clone().requires_grad_()).backward()
    assert y.grad is None


@pytest.mark.parametrize("options", [{"smoothing": 1e-4}, {"samples_per_bandwidth": 2.0}, {"orders": (1, 2)}])
def test_float32_and_the_options_of_a_transform(options: dict[str, Any]) -> None:
    jtfs = JTFSPath(N, **SETTINGS, **options)
    loss_fn, (x1, x2, y) = JTFSPathLoss(jtfs), (render(THETA, 0), render(THETA, 2), target())
    value = loss_fn([x1.float(), x2.float()], y.float(), [1, 8])
    assert value.dtype == torch.float32
    exact = loss_fn.double()([x1, x2], y, [1, 8])
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("unit", ["path", "rate"])
def test_scrapl_takes_two_renderings(unit: str) -> None:
    scrapl = SCRAPL(N, **SETTINGS, unit=unit).double()
    theta = torch.nn.Parameter(THETA.clone())
    optimizer = scrapl.optimizer([theta], lr=1e-2)
    x1, x2 = render(theta, 0), render(theta, 2)
    members = list(scrapl.path_ids)
    loss = scrapl([x1, x2], target())
    scale = scrapl.n_paths * len(members) / P
    torch.testing.assert_close(loss, scrapl.loss_fn([x1, x2], target(), members) * scale)
    loss.backward()
    optimizer.step()
    assert not torch.equal(theta.detach(), THETA)
    torch.testing.assert_close(scrapl.eval()([x1, x2], target()), scrapl.full([x1, x2], target()))
    mean = torch.stack([scrapl.unit_loss([x1, x2], target(), b) for b in range(scrapl.n_paths)]).mean()
    torch.testing.assert_close(mean, scrapl.full([x1, x2], target()))


def test_refuses_what_has_no_unbiased_estimate(jtfs: JTFSPath) -> None:
    x1, x2, y = render(THETA, 0), render(THETA, 1), target()
    with pytest.raises(ValueError, match="Invalid p: 1; expected 2 for several renderings"):
        JTFSPathLoss(jtfs, p=1)([x1, x2], y, 3)
    with pytest.raises(ValueError, match="Invalid squared: False; expected True for several renderings"):
        JTFSPathLoss(jtfs, squared=False).full([x1, x2], y)
    with pytest.raises(ValueError, match="Invalid squared: False"):
        path_distance([torch.rand(4, 3), torch.rand(4, 3)], torch.rand(4, 3), squared=False)


def test_refuses_what_are_no_renderings(jtfs: JTFSPath) -> None:
    x1, x2, y = render(THETA, 0), render(THETA, 1), target()
    loss_fn = JTFSPathLoss(jtfs)
    with pytest.raises(ValueError, match="Invalid x: 1 renderings; expected two or more"):
        loss_fn([x1], y, 3)
    with pytest.raises(ValueError, match="Invalid x: the same tensor twice; expected independent renderings"):
        loss_fn([x1, x1], y, 3)
    with pytest.raises(ValueError, match=r"renderings of shapes \(1, 512\), \(2, 512\); expected one shape"):
        loss_fn([x1, x2[:1]], y, 3)
    with pytest.raises(TypeError, match="Invalid x: list"):
        loss_fn([x1.tolist(), x2.tolist()], y, 3)
    for given in (y[:1], loss_fn.prepare(y[:1])):
        with pytest.raises(ValueError, match="Invalid target: shape"):
            loss_fn([x1, x2], given, 3)
    with pytest.raises(ValueError, match="it requires a gradient and x does not"):
        loss_fn([x1, x2], y.clone().requires_grad_(), 3)
    with pytest.raises(ValueError, match="expected coefficients"):
        path_distance([torch.rand(4, 3), torch.rand(4, 3)], torch.rand(4, 2))
