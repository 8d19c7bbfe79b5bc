"""Hostile input to scrapl_jtfs: a clear error or a sane result, and everything works afterwards as before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrapl_jtfs import (
    JTFSPath,
    JTFSPathLoss,
    PathTable,
    PathTaylor,
    PreparedTarget,
    path_distance,
    taylor_signals,
)
from scrapl_jtfs.experimental import GraphedPathLoss
from tests.support.fuzz_helpers import HOSTILE, NOT_FINITE, attempt, fuzz, hostile, signals

N = 128
SETTINGS: dict[str, Any] = {"n_samples": N, "J": 4, "Q": (2, 1), "J_fr": 2}
OPTIONS = ["Q_fr", "T", "F", "sample_rate", "orders", "samples_per_bandwidth", "smoothing", "memory", "boundary"]
DISTANCE = ["p", "squared", "log1p_eps", "relative_eps"]
jtfs = JTFSPath(**SETTINGS)
smooth = JTFSPath(**SETTINGS, orders=(1, 2), smoothing=1e-4, samples_per_bandwidth=2)
loss_fn = JTFSPathLoss(jtfs)
SIGNALS = signals(N)
x = SIGNALS["good"]
EXPECTED = jtfs(x, 3).clone()
names = st.sampled_from(sorted(SIGNALS))
indices = st.one_of(hostile, st.lists(st.one_of(st.integers(-1, 8), hostile), max_size=3))


def assert_usable() -> None:
    assert torch.equal(jtfs(x, 3), EXPECTED)


def assert_sane(result: Any, name: str) -> None:
    tensors = [result] if isinstance(result, Tensor) else result if isinstance(result, list) else []
    for tensor in tensors:
        assert tensor.dtype == torch.float32
        assert name in NOT_FINITE or bool(tensor.isfinite().all()), name


def synth(theta: Tensor) -> Tensor:
    return theta[:, :1] * torch.sin((0.1 + theta[:, 1:]) * torch.arange(float(N)))


@fuzz(250)
@given(st.dictionaries(st.sampled_from([*SETTINGS, *OPTIONS]), hostile, min_size=1, max_size=2))
def test_settings(changes: dict[str, Any]) -> None:
    def build() -> Tensor:
        made = JTFSPath(**(SETTINGS | changes))
        return made(torch.ones(made.geometry.n_samples), 0)

    result = attempt(build)
    if isinstance(result, Tensor):
        assert result.ndim == 2
        assert bool(result.isfinite().all())


@pytest.mark.parametrize(
    "changes",
    [{"n_samples": 2**28 + 1}, {"J": 10**9}, {"J_fr": 10**9}, {"Q": 257}, {"Q": (1, 257)}, {"Q_fr": 257}],
)
def test_huge_settings_are_refused_at_once(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        JTFSPath(**(SETTINGS | changes))


@pytest.mark.parametrize("transform", [jtfs, smooth], ids=["exact", "smooth"])
@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_signals(transform: JTFSPath, name: str) -> None:
    signal = SIGNALS[name]
    calls = [
        lambda: transform(signal, 3),
        lambda: transform.select(signal, [1, 2]),
        lambda: [phi for _, phi in transform.stream(signal)],
        lambda: transform.select(transform.first_layer(signal), [0]),
        lambda: [a for pair in transform.select_pairs(x, signal, [1]) for a in pair],
        lambda: JTFSPathLoss(transform)(x, signal, 1),
        lambda: JTFSPathLoss(transform)(signal, x, 1),
        lambda: JTFSPathLoss(transform)([x, signal], x.flip(0), 1),
        lambda: JTFSPathLoss(transform)(x, JTFSPathLoss(transform).prepare(signal), [1, 2]),
    ]
    for call in calls:
        assert_sane(attempt(call), name)
    assert_usable()


@fuzz(150)
@given(indices, names)
def test_path_ids(index: Any, name: str) -> None:
    attempt(lambda: jtfs(x, index))
    attempt(lambda: jtfs.checked_index(index))
    attempt(lambda: jtfs.select(SIGNALS[name], index))
    attempt(lambda: jtfs.select_pairs(x, x, index))
    attempt(lambda: jtfs.first_layer(x, index))
    attempt(lambda: loss_fn(x, x, index))
    attempt(lambda: PreparedTarget(jtfs, x).coefficients(index))
    assert_usable()


@pytest.mark.parametrize("index", [1.0, True, torch.tensor(True), torch.tensor([1]), "1", None])
def test_what_is_no_path_id(index: Any) -> None:
    with pytest.raises(TypeError, match="path_idx"):
        jtfs(x, index)


@fuzz(150)
@given(
    st.dictionaries(st.sampled_from([*DISTANCE, "path_scale", "reduction"]), hostile, max_size=2),
    st.one_of(st.none(), hostile, st.lists(hostile, max_size=2)),
)
def test_losses(options: dict[str, Any], weights: Any) -> None:
    y = x.flip(0)
    result = attempt(lambda: JTFSPathLoss(jtfs, **options)(x, y, [1, 2], weights))
    if isinstance(result, Tensor) and not isinstance(weights, Tensor) and "1e+308" not in str(weights):
        assert bool(result.isfinite().all())
    distance = {key: value for key, value in options.items() if key in DISTANCE}
    result = attempt(lambda: path_distance(x[None], y[None], **distance))
    assert not isinstance(result, Tensor) or bool(result.isfinite().all())


places = st.one_of(hostile, st.tuples(hostile, hostile), st.lists(hostile, max_size=3))


@fuzz(400)
@given(st.dictionaries(st.sampled_from(["rate", "scale", "spin", "order", "n2"]), places, max_size=2), places)
def test_choices_of_paths(options: dict[str, Any], value: Any) -> None:
    table = smooth.paths
    for found in (attempt(lambda: table.where(**options)), attempt(lambda: table.ids(value))):
        if not isinstance(found, Exception):
            assert found
            assert list(found) == sorted(set(found) & set(range(len(table))))
    near = {name: value for name, value in options.items() if name in ("rate", "scale", "spin")}
    found = attempt(lambda: table.nearest(**near))
    assert isinstance(found, Exception) or 0 <= found < len(table)
    attempt(lambda: table.bundles(value))
    attempt(lambda: table.bundles("scale", within=value))
    attempt(lambda: PathTable(value))


@fuzz(100)
@given(hostile)
def test_objects_in_place_of_others(value: Any) -> None:
    theta = torch.full((2, 2), 0.5)
    attempt(lambda: JTFSPathLoss(value))
    attempt(lambda: GraphedPathLoss(value, (2,)))
    attempt(lambda: PreparedTarget(value, x))
    attempt(lambda: PreparedTarget(jtfs, value).coefficients([0]))
    attempt(lambda: loss_fn(value, x, 1))
    attempt(lambda: loss_fn.full(x, value))
    attempt(lambda: loss_fn.full(x, x, value))
    attempt(lambda: path_distance(value, x))
    attempt(lambda: path_distance(x, value))
    attempt(lambda: taylor_signals(value, theta))
    attempt(lambda: taylor_signals(synth, value))
    attempt(lambda: taylor_signals(lambda _: value, theta))
    attempt(lambda: PathTaylor(value, synth, theta, x))
    attempt(lambda: PathTaylor(loss_fn, value, theta, x, [1]))
    attempt(lambda: PathTaylor(loss_fn, synth, value, x, [1]))
    attempt(lambda: PathTaylor(loss_fn, synth, theta, value, [1]))
    attempt(lambda: PathTaylor(loss_fn, synth, theta, x, value))
    assert_usable()


def test_paths_of_taylor_series() -> None:
    theta = torch.full((2, 2), 0.5)
    series = PathTaylor(loss_fn, synth, theta, x, [1, 2])
    expected = series.derivatives(1)
    for value in HOSTILE:
        attempt(lambda value=value: series.derivatives(value))
        attempt(lambda value=value: list(series.iter_derivatives(value)))
    assert all(map(torch.equal, series.derivatives(1), expected))


@pytest.mark.parametrize("p", [3.0, 5.0, 100.0])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_powers_neither_vanish_nor_overflow(p: float, unit: float) -> None:
    a = (torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) * unit).requires_grad_()
    distance = path_distance(a, torch.zeros(2, 3, 4), p=p, squared=False)
    expected = path_distance(a.double().detach(), torch.zeros(2, 3, 4).double(), p=p, squared=False)
    torch.testing.assert_close(distance.double(), expected, rtol=1e-5, atol=0)
    distance.sum().backward()
    assert a.grad is not None
    assert bool(a.grad.isfinite().all())
    assert a.grad.abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_change_of_dtype_and_back_changes_nothing(dtype: torch.dtype) -> None:
    moved = JTFSPath(**SETTINGS).to(dtype)
    assert moved(x.to(moved.dtype), 3).dtype == moved.dtype
    assert torch.equal(moved.float()(x, 3), EXPECTED)
