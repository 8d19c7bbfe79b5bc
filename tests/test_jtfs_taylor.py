"""Slopes and Hessians by Taylor series: agreement with double backward and finite differences, bundles, errors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

import scrapl_jtfs.taylor
from benchmarks.importance.problem import SCALES, Drum, make_audio, make_synth
from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor, taylor_signals
from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.layer import Layer, scattering_layer
from scrapl_jtfs._transform.taylor_layer import TaylorSeries, taylor_layer
from scrapl_optim._importance.derivatives import path_derivatives
from tests.support.jtfs_helpers import assert_near, noise, random_dense

N = 1024
BASIC: dict[str, Any] = {"J": 6, "Q": (6, 1), "J_fr": 2}


@functools.cache
def transform(**options: Any) -> JTFSPath:
    return JTFSPath(N, **{**BASIC, **options}).double()


def synth(theta: Tensor) -> Tensor:
    """Vibrato of up to three controls (pitch, rate, loudness), nonlinear in all, with a fixed hum."""
    pitch, rate, loudness = (theta[:, i, None] if i < theta.shape[1] else 0.5 for i in range(3))
    time = torch.arange(N, dtype=theta.dtype)
    phase = (0.2 + 0.6 * pitch) * time + 8 * torch.sin((0.02 + 0.1 * rate * pitch) * time)
    return torch.as_tensor(loudness).exp() * torch.sin(phase) + 0.1 * torch.sin(0.3 * time)


def controls(batch: int = 2, n_controls: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, n_controls, dtype=torch.float64, generator=generator)


def assert_agrees(
    loss_fn: JTFSPathLoss,
    theta: Tensor,
    paths: Sequence[int],
    *,
    sounds: Callable[[Tensor], Tensor] = synth,
    target: Tensor | None = None,
    tolerance: float = 1e-9,
) -> None:
    """Compare with double backward, one by one and in bundles."""
    target = noise(theta.shape[0], N, seed=3) if target is None else target
    prepared = loss_fn.prepare(target)
    series = PathTaylor(loss_fn, sounds, theta, prepared, paths)
    bundled = {p: (slope, hessian) for p, slope, hessian in series.iter_derivatives(paths)}
    for p in paths:
        expected = path_derivatives(lambda t, p=p: loss_fn(sounds(t), prepared, p), theta)
        slope, hessian = series.derivatives(p)
        assert_near(slope, expected.slope, tolerance)
        assert_near(hessian, expected.hessian, tolerance)
        assert_near(bundled[p][0], slope, 1e-11)
        assert_near(bundled[p][1], hessian, 1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"orders": (1, 2)},
        {"orders": (1,)},
        {"orders": (1, 2), "T": "global", "F": "global"},
        {"T": 0, "F": 0},
        {"samples_per_bandwidth": 2},
        {"smoothing": 1e-3},
        {"smoothing": 1e-2, "orders": (1, 2), "samples_per_bandwidth": 1},
        {"memory": 1},
        {"memory": 2**19},
        {"boundary": "even"},
        {"boundary": "even", "orders": (1, 2), "T": "global", "smoothing": 1e-3, "samples_per_bandwidth": 2},
    ],
)
def test_agrees_with_double_backward(options: dict[str, Any]) -> None:
    jtfs = transform(**options)
    slow = [p.index for p in jtfs.paths if p.n_fr in (0, 1, 4)]
    paths = sorted({0, *slow[:2], *slow[len(slow) // 2 :][:3], *slow[-2:], jtfs.n_paths - 1})
    assert_agrees(JTFSPathLoss(jtfs), controls(), paths)


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("log1p_eps", [None, 1e-3])
def test_agrees_for_every_distance(p: float, squared: bool, log1p_eps: float | None) -> None:
    loss_fn = JTFSPathLoss(
        transform(), p=p, squared=squared, log1p_eps=log1p_eps, path_scale=squared,
        relative_eps=1e-3 if log1p_eps else None, reduction="mean" if squared else "sum",
    )  # fmt: skip
    assert_agrees(loss_fn, controls(), [2, 17])


@pytest.mark.parametrize("n_controls", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_agrees_for_every_size(n_controls: int, batch: int) -> None:
    for options in ({}, {"smoothing": 1e-3}):
        assert_agrees(JTFSPathLoss(transform(**options)), controls(batch, n_controls), [1, 20])


@pytest.mark.parametrize("name", ["tiny", "drum"])
def test_agrees_on_the_synthesizers_of_the_benchmark(name: str) -> None:
    scale = SCALES["tiny"]
    if name == "tiny":
        render, theta = make_synth(scale), controls(2)
    else:
        render = Drum(scale.n_samples, 8000.0, start=300.0)
        theta = controls(1, 14)
    shift = torch.zeros(theta.shape[0], dtype=torch.float64)
    jtfs = JTFSPath(scale.n_samples, **scale.transform).double()
    loss_fn = JTFSPathLoss(jtfs, squared=False, path_scale=False)
    assert_agrees(
        loss_fn, theta, [4, jtfs.n_paths - 9], sounds=lambda t: render(t, shift),
        target=make_audio(scale)[: theta.shape[0]], tolerance=1e-8,
    )  # fmt: skip


def test_agrees_with_finite_differences() -> None:
    loss_fn, theta, y, h = JTFSPathLoss(transform()), controls(1), noise(1, N, seed=3), 1e-5
    slope, hessian = PathTaylor(loss_fn, synth, theta, y).derivatives(12)

    def loss(*steps: float) -> float:
        return loss_fn(synth(theta + torch.tensor([steps], dtype=torch.float64)), y, 12).item()

    e = [(h, 0.0), (0.0, h)]
    numbers = [(loss(*e[u]) - loss(-e[u][0], -e[u][1])) / (2 * h) for u in range(2)]
    assert_near(slope[0], torch.tensor(numbers, dtype=torch.float64), 1e-3)
    second = [[0.0, 0.0], [0.0, 0.0]]
    for u in range(2):
        for v in range(2):
            a, b = e[u][0] + e[v][0], e[u][1] + e[v][1]
            c, d = e[u][0] - e[v][0], e[u][1] - e[v][1]
            second[u][v] = (loss(a, b) + loss(-a, -b) - loss(c, d) - loss(-c, -d)) / (4 * h * h)
    assert_near(hessian[0], torch.tensor(second, dtype=torch.float64), 1e-3)


@pytest.mark.parametrize("work", [1, 2000, 10**6])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("second_order", [True, False])
def test_layer_maps_series_to_series(work: int, epsilon: float, second_order: bool) -> None:
    """Against derivatives of the layer along a polynomial of two controls, with some z = 0."""
    series, batch, budget = TaylorSeries(2, second_order), 3, Budget(work, 0)
    first = random_dense([(5,)], (4,), seed=0)
    layers = [
        Layer(random_dense([(4,)], (2, 3, 2), seed=i), random_dense([(3, 2)], (3, 4), seed=i + 9), 12, epsilon)
        for i in (1, 2)
    ]
    x = noise(series.n_inputs * batch, 5, seed=7)
    x.view(series.n_inputs, batch, 5)[:, 1] = 0.0
    outputs = taylor_layer(first, layers, budget, x, series=series)

    def at(e: Tensor) -> list[Tensor]:
        c = x.unflatten(0, (series.n_inputs, batch))
        y = c[0] + e[0] * c[1] + e[1] * c[2]
        if second_order:
            y = y + e[0] ** 2 / 2 * c[3] + e[0] * e[1] * c[4] + e[1] ** 2 / 2 * c[5]
        return [u.flatten() for u in scattering_layer(first, layers, budget, y)]

    zero = torch.zeros(2, dtype=torch.float64)
    for i, output in enumerate(outputs):
        jacobian = torch.func.jacrev(lambda e, i=i: at(e)[i])
        hessian = torch.func.jacrev(jacobian)(zero)
        assert isinstance(hessian, Tensor)
        u = [at(zero)[i], *jacobian(zero).unbind(-1), hessian[:, 0, 0], hessian[:, 0, 1], hessian[:, 1, 1]]
        assert_near(output.unflatten(0, (series.n_outputs, batch)).flatten(1), torch.stack(u), 1e-12)


def test_raw_target_and_other_order_of_paths() -> None:
    loss_fn, theta, y = JTFSPathLoss(transform(orders=(1, 2))), controls(), noise(2, N, seed=3)
    wanted = [30, 2, 31, 2, 14, 0]
    raw = PathTaylor(loss_fn, synth, theta, y, wanted)
    prepared = PathTaylor(loss_fn, synth, theta, loss_fn.prepare(y))
    found = list(raw.iter_derivatives(wanted))
    assert [p for p, _, _ in found] == wanted
    for p, slope, hessian in found:
        expected = prepared.derivatives(p)
        assert_near(slope, expected.slope, 1e-12)
        assert_near(hessian, expected.hessian, 1e-12)
        assert torch.equal(hessian, hessian.mT)


def test_bundles_are_of_one_modulation_and_respect_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    loss_fn, theta, y = JTFSPathLoss(transform()), controls(), noise(2, N, seed=3)
    series = PathTaylor(loss_fn, synth, theta, y)
    paths = loss_fn.jtfs.paths
    bundles = list(series._bundles(range(len(paths))))
    assert [p for bundle in bundles for p in bundle] == list(range(len(paths)))
    assert len(bundles) == len({path.n2 for path in paths})
    monkeypatch.setattr(scrapl_jtfs.taylor, "_BUNDLE_OVER_MEMORY", 0)
    assert list(series._bundles([3, 4])) == [[3], [4]]


def test_silence_and_float32_are_finite() -> None:
    time = torch.arange(N)

    def pulse(theta: Tensor) -> Tensor:
        x = theta[:, :1] * torch.sin((0.5 + theta[:, 1:]) * time) * ((time - 512).abs() < 9)
        return torch.cat([x[:1], torch.zeros_like(x[1:])])

    for dtype in (torch.float64, torch.float32):
        jtfs = JTFSPath(N, **BASIC).to(dtype)
        series = PathTaylor(JTFSPathLoss(jtfs), pulse, controls().to(dtype), noise(2, N, dtype=dtype))
        for _, slope, hessian in series.iter_derivatives(range(0, jtfs.n_paths, 5)):
            assert slope.dtype == hessian.dtype == dtype
            assert bool(slope.isfinite().all())
            assert bool(hessian.isfinite().all())
            assert not slope[1].any()
            assert not hessian[1].any()


def test_float32_is_close() -> None:
    theta, y = controls(), noise(2, N, seed=3)
    exact = PathTaylor(JTFSPathLoss(transform()), synth, theta, y).derivatives(12)
    single = JTFSPathLoss(JTFSPath(N, **BASIC).float())
    found = PathTaylor(single, synth, theta.float(), y.float()).derivatives(12)
    assert_near(found.slope.double(), exact.slope, 1e-2)
    assert_near(found.hessian.double(), exact.hessian, 5e-2)


def test_control_that_does_not_act() -> None:
    loss_fn, y = JTFSPathLoss(transform()), noise(2, N, seed=3)
    slope, hessian = PathTaylor(loss_fn, lambda t: synth(t[:, :2]), controls(2, 3), y).derivatives(7)
    expected = PathTaylor(loss_fn, synth, controls(2, 3)[:, :2], y).derivatives(7)
    assert_near(hessian[:, :2, :2], expected.hessian, 1e-12)
    assert not slope[:, 2].any()
    assert not hessian[:, 2].any()
    still = PathTaylor(loss_fn, lambda t: y + 1, controls(), y).derivatives(7)
    assert not still.slope.any()
    assert not still.hessian.any()


def test_does_not_depend_on_grad_mode_and_leaves_theta_alone() -> None:
    loss_fn, y = JTFSPathLoss(transform()), noise(2, N, seed=3)
    theta = controls().requires_grad_()
    expected = PathTaylor(loss_fn, synth, theta, y).derivatives(7)
    with torch.no_grad():
        found = PathTaylor(loss_fn, synth, theta, y).derivatives(7)
    assert torch.equal(found.hessian, expected.hessian)
    assert not found.hessian.requires_grad
    assert not found.slope.requires_grad
    assert theta.grad is None


class Cube(Function):
    """x^3 without a jvp."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grads[0]


def cubed(theta: Tensor) -> Tensor:
    return Cube.apply(synth(theta))  # type: ignore[no-any-return]


def test_synth_with_a_function_of_its_own() -> None:
    assert_agrees(JTFSPathLoss(transform()), controls(), [7], sounds=cubed)


def test_taylor_signals() -> None:
    theta = controls(3, 2)
    found = taylor_signals(cubed, theta)
    assert found.shape == (6, 3, N)
    for b in range(3):
        one = functools.partial(lambda t: synth(t[None])[0] ** 3)
        first = torch.func.jacfwd(one)(theta[b])
        second = torch.func.jacfwd(torch.func.jacfwd(one))(theta[b])
        assert isinstance(first, Tensor)
        assert isinstance(second, Tensor)
        expected = [one(theta[b]), *first.unbind(-1), second[:, 0, 0], second[:, 0, 1], second[:, 1, 1]]
        assert_near(found[:, b], torch.stack(expected), 1e-12)
    linear = taylor_signals(lambda t: t @ noise(2, 5), theta)
    assert_near(linear[1:3, 0], noise(2, 5), 1e-14)
    assert not linear[3:].any()


def test_errors() -> None:
    jtfs, y, theta = transform(), noise(2, N, seed=3), controls()
    loss_fn = JTFSPathLoss(jtfs)
    with pytest.raises(TypeError, match="a JTFSPathLoss"):
        PathTaylor(jtfs, synth, theta, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'none'"):
        PathTaylor(JTFSPathLoss(jtfs, reduction="none"), synth, theta, y)
    for bad in (torch.zeros(2, 2, dtype=torch.long), [[0.5]], theta + 0j):
        with pytest.raises(TypeError, match="controls"):
            taylor_signals(synth, bad)  # type: ignore[arg-type]
    for bad in (theta[0], theta[None], theta[:0], theta[:, :0]):
        with pytest.raises(ValueError, match=r"\(B, U\)"):
            PathTaylor(loss_fn, synth, bad, y)
    for wrong in (lambda t: synth(t)[0], lambda t: synth(t)[:1], lambda t: synth(t)[:, None]):
        with pytest.raises(ValueError, match=r"\(B, N\)"):
            PathTaylor(loss_fn, wrong, theta, y)
    with pytest.raises(TypeError, match="synth"):
        taylor_signals(lambda t: synth(t) + 0j, theta)
    with pytest.raises(TypeError, match="synth"):
        PathTaylor(loss_fn, lambda t: [0.0], theta, y)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=str(N)):
        PathTaylor(loss_fn, lambda t: synth(t)[:, 1:], theta, y)
    with pytest.raises(ValueError, match="float32"):
        PathTaylor(loss_fn, lambda t: synth(t).float(), theta, y)
    for target in (y[:1], y[:, 1:], loss_fn.prepare(y[:1])):
        with pytest.raises(ValueError, match="target"):
            PathTaylor(loss_fn, synth, theta, target)
    with pytest.raises(TypeError, match="target"):
        PathTaylor(loss_fn, synth, theta, y.tolist())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another transform"):
        PathTaylor(loss_fn, synth, theta, JTFSPathLoss(transform(memory=1)).prepare(y))


def test_errors_of_paths() -> None:
    jtfs = JTFSPath(N, **BASIC).double()
    series = PathTaylor(JTFSPathLoss(jtfs), synth, controls(), noise(2, N), [3, 4])
    for bad in (-1, jtfs.n_paths):
        with pytest.raises(IndexError, match=str(bad)):
            series.derivatives(bad)
    with pytest.raises(TypeError, match="path_idx"):
        series.derivatives(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not serve path 5"):
        series.derivatives(5)
    with pytest.raises(ValueError, match="does not serve path 5"):
        next(series.iter_derivatives([3, 5]))
    jtfs.float()
    with pytest.raises(ValueError, match="moved"):
        series.derivatives(3)


def test_hessian_of_zero_distance_is_finite() -> None:
    theta = controls()
    for squared in (True, False):
        loss_fn = JTFSPathLoss(transform(), squared=squared)
        slope, hessian = PathTaylor(loss_fn, synth, theta, synth(theta)).derivatives(7)
        assert math.isfinite(hessian.sum().item())
        assert float(slope.abs().max()) < 1e-9 * float(hessian.abs().max()) or not squared


def test_old_names_of_derivatives() -> None:
    loss_fn = JTFSPathLoss(transform())
    theta = controls()
    series = PathTaylor(loss_fn, synth, theta, synth(theta + 0.1))
    with pytest.warns(DeprecationWarning, match=r"use PathTaylor\.derivatives") as one:
        slope, hessian = series.curvature(7)
    with pytest.warns(DeprecationWarning, match=r"use PathTaylor\.iter_derivatives") as several:
        found = list(series.curvatures([7]))
    assert {warning.filename for warning in [*one, *several]} == {__file__}
    expected = series.derivatives(7)
    assert torch.equal(slope, expected.slope)
    assert torch.equal(found[0][2], hessian)
