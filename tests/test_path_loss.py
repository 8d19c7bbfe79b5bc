"""PathLoss on families that are no JTFS: closed forms, any number of axes, targets of learners, errors."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import (
    ImageScattering,
    JTFSPath,
    JTFSPathLoss,
    PathLoss,
    PathTransform,
    PreparedTarget,
    TimeScattering,
)
from tests.support.jtfs_helpers import SMALL, noise
from tests.support.path_families import Band, Foreign, Gratings, LearnedBands, Spectra

DOUBLES: dict[str, Callable[[], Any]] = {
    "Spectra": lambda: Spectra().double(),
    "LearnedBands": lambda: LearnedBands().double(),
    "Gratings": lambda: Gratings().double(),
    "JTFSPath": lambda: JTFSPath(**SMALL).double(),
}
each = pytest.mark.parametrize("family", DOUBLES.values(), ids=DOUBLES)


def signals(transform: Any, *batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return (
        noise(*batch, *transform.signal_shape, seed=1, dtype=dtype),
        noise(*batch, *transform.signal_shape, seed=2, dtype=dtype),
    )


def literal(a: np.ndarray, b: np.ndarray, p: float = 2.0, squared: bool = True) -> float:
    norm = np.linalg.norm((a - b).ravel(), ord=p)
    return float(norm**2 if squared else norm)


@each
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_loss_is_that_of_its_formula(family: Any, batch: tuple[int, ...]) -> None:
    transform = family()
    x, y = signals(transform, *batch)
    several: list[dict[str, Any]] = [dict(), dict(p=1.0), dict(p=3.0, squared=False), dict(squared=False)]
    for options in several:
        loss_fn = PathLoss(transform, reduction="none", **options)
        for path_idx in (0, transform.n_paths - 1):
            loss = loss_fn(x, y, path_idx).detach()
            assert loss.shape == batch
            a, b = (transform(s, path_idx).detach().reshape(-1, *transform(s, path_idx).shape[len(batch):]).numpy()
                    for s in (x, y))  # fmt: skip
            expected = [transform.n_paths * literal(u, v, **options) for u, v in zip(a, b, strict=True)]
            np.testing.assert_allclose(loss.reshape(-1).numpy(), expected, rtol=1e-9)


@each
def test_the_mean_over_paths_is_the_full_loss(family: Any) -> None:
    transform = family()
    x, y = signals(transform, 2)
    loss_fn = PathLoss(transform)
    apart = torch.stack([loss_fn(x, y, p) for p in range(transform.n_paths)])
    full = loss_fn.full(x, y)
    torch.testing.assert_close(apart.mean(), full)
    torch.testing.assert_close(loss_fn.full(x, loss_fn.prepare(y)), full)
    others = set(range(transform.n_paths)) - {0, 2}
    torch.testing.assert_close(loss_fn.full(x, y, [2, 0]) + loss_fn.full(x, y, others), full)
    torch.testing.assert_close(loss_fn(x, y, [2, 0, 2], weights=[1, 2, 3]), (4 * apart[2] + 2 * apart[0]) / 3)
    torch.testing.assert_close(loss_fn(x, y, [transform.paths[2]]), apart[2])


@each
def test_gradients_reach_signals_and_never_the_target(family: Any) -> None:
    transform = family().requires_grad_(False)
    x, y = signals(transform, 2)
    loss_fn = PathLoss(transform)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss_fn(x, y, 1), x.requires_grad_(), fast_mode=True)
    loss_fn(x, y, [0, 2]).backward()
    assert x.grad is not None
    assert y.grad is None
    with pytest.raises(ValueError, match=r"it requires a gradient and x does not; .*; swap them"):
        loss_fn(x.detach(), y, 1)


def test_a_learnable_family_learns_from_x_alone() -> None:
    learned = LearnedBands().double()
    x, y = signals(learned, 2)
    PathLoss(learned, reduction="sum")(x, y, 1).backward()
    grad = learned.filters.grad
    assert grad is not None
    expected = torch.autograd.grad(4 * (learned(x, 1) - learned(y, 1).detach()).square().sum(), learned.filters)[0]
    torch.testing.assert_close(grad, expected)
    assert set(PathLoss(learned).state_dict()) == {"transform.filters"}


@each
def test_renderings_are_products_of_pairs(family: Any) -> None:
    transform = family()
    y, _ = signals(transform, 2)
    x1, x2, x3 = (noise(2, *transform.signal_shape, seed=s) for s in (3, 4, 5))
    loss_fn = PathLoss(transform, reduction="sum", path_scale=False)
    d = [transform(x, 1) - transform(y, 1) for x in (x1, x2, x3)]
    expected = ((d[0] * d[1]).sum() + (d[0] * d[2]).sum() + (d[1] * d[2]).sum()) / 3
    torch.testing.assert_close(loss_fn([x1, x2, x3], y, 1), expected)
    torch.testing.assert_close(loss_fn([x1, x2, x3], loss_fn.prepare(y), 1), expected)


def test_log_of_signed_coefficients_is_odd() -> None:
    class Signed(PathTransform):
        """The mean of signals, which has a sign."""

        signal_shape = (4,)
        paths = (Band(0),)

        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            return x.mean(-1)

    transform = Signed().double()
    loss_fn = PathLoss(transform, log1p_eps=0.1, squared=False, path_scale=False)
    x = torch.full((4,), -0.5, dtype=torch.float64, requires_grad=True)
    loss = loss_fn(x, torch.full((4,), 0.3, dtype=torch.float64), 0)
    assert loss.item() == pytest.approx(np.log(6) + np.log(4))
    loss.backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(-1 / (0.1 + 0.5))
    # at zero the slope is 1 / eps from either side
    zero = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss_fn(zero, torch.full((4,), -1.0, dtype=torch.float64), 0).backward()
    assert zero.grad is not None
    assert zero.grad.sum().item() == pytest.approx(1 / 0.1)
    jtfs = JTFSPath(**SMALL)
    x, y = signals(jtfs, 2, dtype=torch.float32)
    torch.testing.assert_close(
        PathLoss(jtfs, log1p_eps=1e-3)(x, y, 3), JTFSPathLoss(jtfs, log1p_eps=1e-3)(x, y, 3)
    )


def test_structure_alone_is_enough() -> None:
    transform = Foreign()
    x, y = signals(transform, 2, dtype=torch.float32)
    loss_fn = PathLoss(transform, reduction="none", path_scale=False)
    for target in (y, loss_fn.prepare(y)):
        torch.testing.assert_close(loss_fn(x, target, 1), (x.diff(n=2).abs() - y.diff(n=2).abs()).square().sum(-1))
    assert loss_fn.transform is transform
    copy.deepcopy(loss_fn)(x, y, 0)
    for bad, message in [
        (x[:, :5], r"Invalid x: shape \(2, 5\); expected \(6,\) as last axes"),
        (x.double(), r"Invalid x: torch.float64 on cpu; expected torch.float32"),
        (x[0], r"Invalid target: shape \(2, 6\); expected \(6,\), the shape of x"),
    ]:
        with pytest.raises(ValueError, match=message):
            loss_fn(bad, y, 0)
        if bad.shape != y.shape or bad.dtype != y.dtype:
            with pytest.raises(ValueError, match="Invalid "):
                loss_fn(bad, loss_fn.prepare(y), 0)


# --- prepared targets ---


class Counted(Gratings):
    """Counts the coefficients that are computed, of how many signals each."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, path_idx: int) -> Tensor:
        self.computed.append((path_idx, *x.shape[:-2]))
        return super().forward(x, path_idx)


def test_a_prepared_target_is_computed_once() -> None:
    transform = Counted()
    x, y = signals(transform, 3, dtype=torch.float32)
    loss_fn = PathLoss(transform)
    target = loss_fn.prepare(y)
    assert transform.computed == []
    first = loss_fn(x, target, 2)
    assert transform.computed == [(2, 3)] * 2
    assert torch.equal(loss_fn(x, target, 2), first)
    assert transform.computed == [(2, 3)] * 3
    assert repr(target) == "PreparedTarget(shape=(3, 12, 10), 1 of 6 paths computed)"


@pytest.mark.parametrize("change", [
    lambda learned: torch.optim.SGD(learned.parameters(), lr=0.1).step(),
    lambda learned: torch.optim.Adam(learned.parameters(), lr=0.1, foreach=True).step(),
    lambda learned: torch.optim.AdamW(learned.parameters(), lr=0.1, fused=True).step(),
    lambda learned: learned.filters.data.mul_(2),  # which the count of versions does not see
    lambda learned: learned.load_state_dict(LearnedBands(seed=7).state_dict()),
    lambda learned: setattr(learned, "filters", torch.nn.Parameter(2 * learned.filters.detach())),
], ids=["SGD", "Adam", "fused", "data", "load_state_dict", "another parameter"])  # fmt: skip
def test_a_prepared_target_follows_a_transform_that_learns(change: Callable[[Any], Any]) -> None:
    learned = LearnedBands()
    x, y = signals(learned, 2, dtype=torch.float32)
    loss_fn = PathLoss(learned)
    target = loss_fn.prepare(y)
    before = loss_fn(x, target, 1)
    before.backward()
    change(learned)
    after = loss_fn(x, target, 1)
    assert not torch.equal(after, before)
    assert torch.equal(after, loss_fn(x, loss_fn.prepare(y), 1))


def test_a_prepared_target_serves_equal_copies_and_refuses_others() -> None:
    learned = LearnedBands()
    x, y = signals(learned, 2, dtype=torch.float32)
    target = PathLoss(learned).prepare(y)
    expected = PathLoss(learned)(x, target, 1)
    for other in (copy.deepcopy(learned), pickle.loads(pickle.dumps(learned)), LearnedBands()):
        assert torch.equal(PathLoss(other)(x, target, 1), expected)
    averaged: Any = torch.optim.swa_utils.AveragedModel(learned).module
    assert torch.equal(PathLoss(averaged)(x, target, 1), expected)
    with torch.no_grad():
        averaged.filters.add_(1e-3)
    with pytest.raises(
        ValueError, match=r"prepared by another transform: filters=contents .*; prepare it with this"
    ):
        PathLoss(averaged)(x, target, 1)
    assert torch.equal(PathLoss(learned)(x, target, 1), expected)
    # settings that a family names by itself do not know of dtypes
    gratings = Gratings()
    x, y = signals(gratings, 2)
    target = PathLoss(gratings).prepare(y)
    double = copy.deepcopy(gratings).double()
    assert torch.equal(PathLoss(double)(x, target, 1), PathLoss(double)(x, y, 1))


def test_targets_and_losses_of_earlier_versions_load() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL))
    x, y = signals(loss_fn.jtfs, 2, dtype=torch.float32)
    target = loss_fn.prepare(y)
    expected = loss_fn(x, target, 3)
    now = vars(target)
    then = {name: now[name] for name in ("_original", "signal", "_coefficients")}
    old = PreparedTarget.__new__(PreparedTarget)
    old.__setstate__({**then, "jtfs": now["transform"], "_layer": now["_shared"]})
    assert vars(old).keys() == now.keys()
    assert old.jtfs is old.transform is loss_fn.jtfs
    assert torch.equal(loss_fn(x, old, 3), expected)
    assert torch.equal(loss_fn(x, old, 4), loss_fn(x, target, 4))
    # the parts of a loss are those that its pickles name
    assert list(loss_fn._modules) == ["jtfs"]
    assert loss_fn.transform is loss_fn.jtfs
    assert isinstance(loss_fn, PathLoss)
    with pytest.warns(DeprecationWarning, match="transform"):
        PreparedTarget(jtfs=loss_fn.jtfs, signal=y)  # type: ignore[call-arg]


# --- sharing ---


def test_what_a_family_shares_is_used() -> None:
    """Its own stream for all paths, select for several, forward for one."""
    calls: list[str] = []

    class Sharing(Spectra):
        def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
            calls.append("stream")
            return super().stream(x)

        def select(self, x: Any, path_indices: Any) -> list[Tensor]:
            calls.append("select")
            return super().select(x, path_indices)

    transform = Sharing()
    x, y = signals(transform, 2, dtype=torch.float32)
    loss_fn = PathLoss(transform)
    for paths, expected in ((1, []), ([0, 2], ["select"] * 2), (range(3), ["stream"] * 2)):
        calls.clear()
        loss_fn(x, y, paths)
        assert calls == expected


@pytest.mark.parametrize("own_pairs", [False, True])
def test_paths_may_come_in_any_order(own_pairs: bool) -> None:
    """Weights and prepared targets stay with their paths."""

    class Backwards(LearnedBands):
        def stream(self, x: Any) -> Iterator[tuple[int, Tensor]]:
            yield from reversed(list(super().stream(x)))

        def select(self, x: Any, path_indices: Any) -> list[Tensor]:
            return super().select(x, path_indices)

    class OwnPairs(Backwards):
        def stream_pairs(self, x: Any, target: Any, path_indices: Any) -> Iterator[tuple[int, Any, Tensor]]:
            for p in sorted(set(path_indices), reverse=True):
                several = tuple(self(one, p) for one in x) if isinstance(x, (list, tuple)) else self(x, p)
                yield p, several, self(target, p).detach()

    transform = (OwnPairs if own_pairs else Backwards)().double()
    x, y = signals(transform, 3)
    plain, loss_fn = PathLoss(LearnedBands().double()), PathLoss(transform)
    weights = [1.0, 10.0, 100.0, 1000.0]
    for paths, factors in ((range(4), weights), ([1, 3], [2.0, 5.0]), ([3, 0, 3], [1.0, 2.0, 3.0])):
        expected = plain(x, y, paths, weights=factors)
        torch.testing.assert_close(loss_fn(x, y, paths, weights=factors), expected)
        torch.testing.assert_close(loss_fn(x, loss_fn.prepare(y), paths, weights=factors), expected)
        both = plain([x, y.flip(0)], y, paths, weights=factors)
        torch.testing.assert_close(loss_fn([x, y.flip(0)], y, paths, weights=factors), both)
        torch.testing.assert_close(loss_fn([x, y.flip(0)], loss_fn.prepare(y), paths, weights=factors), both)


def test_no_path_is_held_while_others_are_computed() -> None:
    alive = most = 0

    class Watched(Spectra):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            phi = super().forward(x, path_idx)
            weakref.finalize(phi, gone)
            return phi

    def gone() -> None:
        nonlocal alive
        alive -= 1

    transform = Watched(256, n_paths=5)
    x, y = signals(transform, 2, dtype=torch.float32)
    with torch.no_grad():
        PathLoss(transform).full(x, y)
    assert most <= 4  # a path of both and the next one


@pytest.mark.parametrize("p", [0, [0, 1], range(3)])
def test_the_mode_of_gradients_is_the_callers(p: Any) -> None:
    """The target is computed without a graph while the graph of x goes on."""
    transform = Spectra()
    x, y = signals(transform, 2, dtype=torch.float32)
    modes = []

    class Modes(Spectra):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            modes.append(torch.is_grad_enabled())
            return super().forward(x, path_idx)

    PathLoss(Modes())(x.requires_grad_(), y, p).backward()
    assert sorted(set(modes)) == [False, True]
    assert torch.is_grad_enabled()


# --- errors ---


def test_errors_say_what_a_transform_lacks() -> None:
    with pytest.raises(TypeError, match=r"Invalid transform: Linear; .* it lacks paths, .*; derive it from"):
        PathLoss(torch.nn.Linear(2, 2))
    with pytest.raises(
        TypeError, match="Invalid jtfs: Spectra; expected a JTFSPath; for other transforms use PathLoss"
    ):
        JTFSPathLoss(Spectra())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Invalid path_idx: None; expected the id of a path"):
        PathLoss(Spectra())(torch.ones(64), torch.ones(64))
    with pytest.raises(IndexError, match="Invalid path_idx: 3; expected an id from 0 to 2"):
        PathLoss(Spectra())(torch.ones(64), torch.ones(64), 3)
    with pytest.raises(TypeError, match="'path 1: frames of 16 samples'; expected its id"):
        PathLoss(Spectra())(torch.ones(64), torch.ones(64), Spectra().paths[1])  # type: ignore[arg-type]


def test_a_family_that_puts_the_batch_elsewhere_is_named() -> None:
    class Turned(Spectra):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            return super().forward(x, path_idx).movedim(-1, 0)

    with pytest.raises(
        ValueError, match=r"Turned makes coefficients of shape \(5, 2\) .* batch axes \(2,\) first"
    ):
        PathLoss(Turned())(torch.ones(2, 64), torch.ones(2, 64), 0)


def test_a_family_of_complex_coefficients_is_named() -> None:
    class Complex(Spectra):
        def forward(self, x: Tensor, path_idx: int) -> Tensor:
            return torch.fft.rfft(self.checked_signal(x))

    loss_fn, x = PathLoss(Complex()), torch.ones(2, 64)
    message = r"Complex makes coefficients of torch\.complex64; expected real floating-point .* modulus"
    for target in (x, loss_fn.prepare(x)):
        with pytest.raises(ValueError, match=message):
            loss_fn(x, target, 0)


def test_signals_are_refused_in_the_words_of_the_family() -> None:
    loss_fn, x = PathLoss(ImageScattering((8, 6), J=1)), torch.ones(2, 8, 6)
    calls: list[Callable[[Tensor], Any]] = [
        lambda bad: loss_fn(bad, x, 1), lambda bad: loss_fn(x, bad, 1), loss_fn.prepare,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=r"channels come before them, as in x\.movedim"):
            call(torch.ones(2, 8, 6, 3))
        with pytest.raises(ValueError, match=r"swap them with x\.mT"):
            call(torch.ones(2, 6, 8))


def test_several_ids_where_one_is_expected_lead_to_select() -> None:
    for transform in (Spectra(), TimeScattering(64, 3, 2)):
        with pytest.raises(TypeError, match=r"for several paths: select\(x, path_indices\)"):
            transform(torch.ones(64), [0, 1])  # type: ignore[arg-type]
