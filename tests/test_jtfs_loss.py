"""Path losses: their formulas, scaling, targets and errors."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss, path_distance
from scrapl_jtfs.loss import Reduction


@pytest.fixture(scope="module")
def jtfs() -> JTFSPath:
    return JTFSPath(512, J=5, Q=(4, 1), J_fr=2).double()


def signals(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, 512, dtype=torch.float64, generator=generator) for _ in range(2))  # type: ignore


def test_paper_loss_is_p_times_the_squared_distance(jtfs: JTFSPath) -> None:
    x, y = signals()
    a, b = jtfs(x, 4).numpy(), jtfs(y, 4).numpy()
    expected = jtfs.n_paths * ((a - b) ** 2).sum((-2, -1))
    loss = JTFSPathLoss(jtfs, reduction="none")(x, y, 4)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert JTFSPathLoss(jtfs)(x, y, 4).item() == pytest.approx(expected.mean())
    assert JTFSPathLoss(jtfs, reduction="sum")(x, y, 4).item() == pytest.approx(expected.sum())


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("log1p_eps", [None, 1e-3])
def test_peer_variants(jtfs: JTFSPath, p: float, squared: bool, log1p_eps: float | None) -> None:
    x, y = signals()
    a, b = jtfs(x, 4).numpy(), jtfs(y, 4).numpy()
    if log1p_eps is not None:
        a, b = np.log(1 + a / log1p_eps), np.log(1 + b / log1p_eps)
    flat = (a - b).reshape(6, -1)
    norm = np.mean([np.linalg.norm(row, ord=p) for row in flat])
    if squared:
        norm = np.mean([np.linalg.norm(row, ord=p) ** 2 for row in flat])
    options: dict[str, Any] = dict(p=p, squared=squared, log1p_eps=log1p_eps, path_scale=False)
    assert JTFSPathLoss(jtfs, **options)(x, y, 4).item() == pytest.approx(norm, rel=1e-10)
    # relative to the norm of each target
    power = 2 if squared else 1
    ratios = [
        np.linalg.norm(row, ord=p) ** power / (np.linalg.norm(silent, ord=p) ** 2 + 0.1**2) ** (power / 2)
        for row, silent in zip(flat, b.reshape(6, -1), strict=True)
    ]
    relative = JTFSPathLoss(jtfs, **options, relative_eps=0.1)
    assert relative(x, y, 4).item() == pytest.approx(np.mean(ratios), rel=1e-10)


def test_several_paths_give_their_weighted_mean(jtfs: JTFSPath) -> None:
    x, y = signals()
    loss_fn = JTFSPathLoss(jtfs)
    expected = (0.5 * loss_fn(x, y, 3) + 2.0 * loss_fn(x, y, 9) + 2.0 * loss_fn(x, y, 9)) / 3
    torch.testing.assert_close(loss_fn(x, y, [3, 9, 9], weights=[0.5, 2.0, 2.0]), expected)
    torch.testing.assert_close(loss_fn(x, y, 3, weights=0.5), 0.5 * loss_fn(x, y, 3))


@pytest.mark.parametrize("path_scale", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_shares_of_disjoint_paths_add_up_to_the_full_loss(
    jtfs: JTFSPath, path_scale: bool, reduction: Reduction
) -> None:
    x, y = signals()
    loss_fn = JTFSPathLoss(jtfs, path_scale=path_scale, reduction=reduction)
    target = loss_fn.prepare(y)
    ids = np.random.default_rng(0).permutation(jtfs.n_paths)
    parts = [ids[:3], torch.tensor(ids[3:10]), set(ids[10:].tolist())]
    shares = [loss_fn.full(x, target, paths=part) for part in parts]
    full = loss_fn.full(x, y)
    torch.testing.assert_close(sum(shares), full)
    literal = torch.stack([loss_fn(x, y, int(p)) for p in ids[:3]]).sum(0) / jtfs.n_paths
    torch.testing.assert_close(shares[0], literal)
    assert torch.equal(loss_fn.full(x, y, paths=range(jtfs.n_paths)), full)
    torch.testing.assert_close(loss_fn.full(x, y, jtfs.paths[4:6]), loss_fn(x, y, [4, 5]) * 2 / jtfs.n_paths)


def test_shares_of_bad_paths(jtfs: JTFSPath) -> None:
    x, y = signals()
    loss_fn = JTFSPathLoss(jtfs)
    with pytest.raises(ValueError, match="Invalid paths: none; expected at least one of"):
        loss_fn.full(x, y, paths=[])
    with pytest.raises(ValueError, match="path 2 is named twice"):
        loss_fn.full(x, y, paths=[2, 1, 2])
    with pytest.raises(IndexError, match=f"Invalid paths: {jtfs.n_paths}; expected an id"):
        loss_fn.full(x, y, paths=[jtfs.n_paths])
    with pytest.raises(ValueError, match="is of another transform"):
        loss_fn.full(x, y, paths=JTFSPath(512, J=5, Q=(8, 1), J_fr=2).paths)
    with pytest.raises(TypeError, match="expected a sequence of path ids"):
        loss_fn.full(x, y, paths=3)  # type: ignore[arg-type]


def test_target_gets_no_graph_and_can_be_reused(jtfs: JTFSPath, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = signals()
    x.requires_grad_()
    y.requires_grad_()
    loss_fn = JTFSPathLoss(jtfs)
    direct = loss_fn(x, y, 4)
    direct.backward()
    assert x.grad is not None
    assert y.grad is None
    prepared = loss_fn.prepare(y)
    torch.testing.assert_close(loss_fn(x, prepared, 4), direct)

    calls = []
    original = JTFSPath._bundle
    monkeypatch.setattr(
        JTFSPath, "_bundle", lambda self, s, paths, n=1: calls.append(len(paths)) or original(self, s, paths, n)
    )
    torch.testing.assert_close(loss_fn(x, prepared, 4), direct)
    assert calls == [1], "the target's path was computed a second time"


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_identical_signals_have_zero_loss_and_finite_derivatives(jtfs: JTFSPath, squared: bool, p: float) -> None:
    x, v = signals()
    x.requires_grad_()
    loss = JTFSPathLoss(jtfs, squared=squared, p=p)(x, x.detach(), 4)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(x))
    (second,) = torch.autograd.grad((gradient * v).sum(), x)
    assert second.isfinite().all()


@pytest.mark.parametrize("squared", [True, False])
def test_relative_distances_do_not_depend_on_the_level_of_an_example(jtfs: JTFSPath, squared: bool) -> None:
    """An example whose sounds are a thousand times as loud has the same loss and the same vote."""
    (x, y), levels = signals(), torch.tensor([1.0, 1e3], dtype=torch.float64)[:, None, None]
    loss_fn = JTFSPathLoss(jtfs, squared=squared, relative_eps=1e-12, reduction="none")
    torch.testing.assert_close(loss_fn(levels * x, levels * y, [4, 9]), loss_fn(x, y, [4, 9]))
    silent = torch.zeros_like(y)
    assert loss_fn(x, silent, 4).isfinite().all()
    assert torch.equal(loss_fn(silent, silent, 4), torch.zeros(2, 3, dtype=torch.float64))


def test_log1p_with_a_tiny_eps_stays_finite() -> None:
    # A click through the low-pass by FFT leaves coefficients of about -1e-7 of the largest.
    jtfs = JTFSPath(32768, J=8, Q=(4, 1), J_fr=3, T=16, F=4)
    click = torch.zeros(32768)
    click[16000] = 1.0
    loss_fn = JTFSPathLoss(jtfs, log1p_eps=1e-10)
    losses = [loss_fn(click, torch.zeros(32768), p) for p in range(0, jtfs.n_paths, 5)]
    assert torch.stack(losses).isfinite().all()


def test_prepared_target_keeps_its_own_signal_and_follows_the_transform() -> None:
    x, y = signals()
    loss_fn = JTFSPathLoss(JTFSPath(512, J=5, Q=(4, 1), J_fr=2).double())
    expected = [loss_fn(x, y, p) for p in (5, 6)]
    buffer = y.clone()
    prepared = loss_fn.prepare(buffer)
    assert torch.equal(loss_fn(x, prepared, 5), expected[0])
    buffer.zero_()
    assert torch.equal(loss_fn(x, prepared, 6), expected[1])
    loss_fn.float()
    assert loss_fn(x.float(), prepared, 5).dtype == torch.float32
    assert loss_fn(x.float(), prepared, 5).item() == pytest.approx(expected[0].item(), rel=1e-4)
    other = JTFSPathLoss(JTFSPath(512, J=5, Q=(4, 1), J_fr=2, Q_fr=2))
    with pytest.raises(ValueError, match="prepared by another transform"):
        other(x.float(), prepared, 5)


def test_path_distance_reduces_rows_and_frames() -> None:
    a, b = torch.rand(5, 4, 3), torch.rand(5, 4, 3)
    assert path_distance(a, b).shape == (5,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(p=0.5), "Invalid p: 0.5"),
        (dict(p=float("nan")), "Invalid p: nan"),
        (dict(log1p_eps=0.0), "log1p_eps: 0.0"),
        (dict(relative_eps=0.0), "relative_eps: 0.0"),
        (dict(reduction="median"), "reduction: 'median'"),
    ],
)
def test_bad_settings(jtfs: JTFSPath, kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JTFSPathLoss(jtfs, **kwargs)


def test_bad_calls(jtfs: JTFSPath) -> None:
    x, y = signals()
    loss_fn = JTFSPathLoss(jtfs)
    with pytest.raises(ValueError, match="Invalid target: shape"):
        loss_fn(x, y[0], 0)
    with pytest.raises(ValueError, match="weights: 1 of them; expected one for each of 2 paths"):
        loss_fn(x, y, [0, 1], weights=[1.0])
    with pytest.raises(ValueError, match="expected a finite number"):
        loss_fn(x, y, 0, weights=10**400)
    with pytest.raises(TypeError, match=r"torch\.as_tensor"):
        loss_fn(x, y.numpy(), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty sequence"):
        loss_fn(x, y, [])
    with pytest.raises(IndexError, match="expected an id from 0"):
        loss_fn(x, y, jtfs.n_paths)


@pytest.mark.parametrize("renderings", [1, 2])
def test_the_full_tree_without_gradients_holds_the_paths_of_one_rate_at_a_time(renderings: int) -> None:
    jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2, T=0)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    class Watched(JTFSPathLoss):
        def _distance(self, a: Any, b: Tensor, n_axes: int = 2) -> Tensor:
            nonlocal most
            alive.append(weakref.ref(a if renderings == 1 else a[-1]))
            most = max(most, sum(ref() is not None for ref in alive))
            return super()._distance(a, b, n_axes)

    x, other, y = torch.randn(3, 2, 2048, generator=torch.Generator().manual_seed(0))
    sounds = x if renderings == 1 else [x, other]
    with torch.no_grad():
        loss = Watched(jtfs).full(sounds, y)
    assert most <= max(len(bundle) for bundle in jtfs.paths.bundles("rate"))
    assert len(alive) == jtfs.n_paths > most
    torch.testing.assert_close(loss, JTFSPathLoss(jtfs)(sounds, y, list(reversed(range(jtfs.n_paths)))))
