"""Memory, sampling rates, smoothing, pairs and first layers: what they change, and what they must not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.layer import Layer, scattering_layer
from scrapl_jtfs._transform.linear.filters_and_averages import Identity, RowFilter
from scrapl_jtfs._transform.modulus import modulus
from tests.support.jtfs_helpers import (
    BOTH_ORDERS,
    TINY,
    assert_all_near,
    assert_near,
    distance,
    energy,
    noise,
    planes_of,
    value_and_gradient,
)

# Short signals on purpose, whose averages hear reflections.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")

LARGE: dict[str, Any] = dict(n_samples=4096, J=9, Q=(8, 1), J_fr=3, T=512, F=8)


# --- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [dict(), dict(smoothing=1e-3), dict(T=0, F=0), dict(T="global", F="global")])
@pytest.mark.parametrize("wanted", [[3], [0, 12, 9, 7], None], ids=["single", "several", "full"])
def test_memory_changes_neither_values_nor_gradients(
    options: dict, wanted: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the smallest memory cuts layers to single rows and sub-bands.
    monkeypatch.setattr("scrapl_jtfs._transform.scattering._FEWEST_ROWS_AT_ONCE", 1)
    monkeypatch.setattr("scrapl_jtfs._transform.budget._FEWEST_FFTS_AT_ONCE", 0)
    x = noise(3, 512)
    results = []
    for memory in (None, 1, 10_000, 300_000, 2**40):
        jtfs = JTFSPath(**{**BOTH_ORDERS, **options}, memory=memory).double()
        ids = range(jtfs.n_paths) if wanted is None else wanted
        results.append(value_and_gradient(partial(jtfs.select, path_indices=ids), x))
    for values, gradient in results[1:]:
        assert_all_near(values, results[0][0], 1e-12)
        assert_near(gradient, results[0][1], 1e-12)


@given(st.integers(1, 500_000), st.integers(1, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_memory_and_batch_for_pairs(memory: int, batch: int, smooth: bool) -> None:
    options: dict[str, Any] = dict(smoothing=1e-3 if smooth else 0.0)
    x, y = noise(batch, 512), noise(batch, 512, seed=1)
    roomy, tight = (JTFSPath(**BOTH_ORDERS, **options, memory=m).double() for m in (2**40, memory))
    expected = value_and_gradient(lambda s: [torch.stack(p) for p in roomy.select_pairs(s, y, [1, 8, 9])], x)
    actual = value_and_gradient(lambda s: [torch.stack(p) for p in tight.select_pairs(s, y, [1, 8, 9])], x)
    assert_all_near(actual[0], expected[0], 1e-12)
    assert_near(actual[1], expected[1], 1e-12)


# --- compact transforms ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, list[Tensor], Tensor]:
    x = noise(1, 4096)
    return x, *value_and_gradient(JTFSPath(**LARGE).double().full, x)


@pytest.mark.parametrize("samples_per_bandwidth", [1, 1.5, 2, 4, 100])
def test_compact_single_paths_are_the_full_tree(samples_per_bandwidth: float) -> None:
    jtfs = JTFSPath(**LARGE, samples_per_bandwidth=samples_per_bandwidth).double()
    x = noise(1, 4096)
    full, gradient = value_and_gradient(jtfs.full, x)
    singles = [value_and_gradient(lambda s, p=p: [jtfs(s, p)], x) for p in range(jtfs.n_paths)]
    assert_all_near([values[0] for values, _ in singles], full, 1e-11)
    assert_near(torch.stack([g for _, g in singles]).sum(0), gradient, 1e-10)
    streamed = dict(jtfs.stream(x))
    assert list(streamed) == list(range(jtfs.n_paths))
    assert_all_near(list(streamed.values()), full, 1e-12)
    some = [50, 3, 3, 20]
    assert_all_near(jtfs.select(x, some), [full[p] for p in some], 1e-11)


def test_compact_losses_sum_to_the_full_loss() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**LARGE, samples_per_bandwidth=2, smoothing=1e-5).double())
    x, y = noise(1, 4096).requires_grad_(), noise(1, 4096, seed=1)
    n_paths = loss_fn.jtfs.n_paths
    full = loss_fn.full(x, y)
    (gradient,) = torch.autograd.grad(full, x)
    losses = [loss_fn(x, y, p) for p in range(n_paths)]
    gradients = [torch.autograd.grad(loss, x)[0] for loss in losses]
    torch.testing.assert_close(torch.stack(losses).mean(), full, rtol=1e-11, atol=0)
    assert_near(torch.stack(gradients).mean(0), gradient, 1e-10)


def test_error_falls_as_samples_grow(exact: tuple[Tensor, list[Tensor], Tensor]) -> None:
    x, expected, expected_gradient = exact
    errors = []
    for samples_per_bandwidth in (1, 2, 4, 100):
        jtfs = JTFSPath(**LARGE, samples_per_bandwidth=samples_per_bandwidth).double()
        values, gradient = value_and_gradient(jtfs.full, x)
        assert [v.shape for v in values] == [e.shape for e in expected]
        errors.append((distance(values, expected), distance([gradient], [expected_gradient])))
    of_values, of_gradients = zip(*errors, strict=True)
    assert list(of_values) == sorted(of_values, reverse=True)
    assert list(of_gradients) == sorted(of_gradients, reverse=True)
    assert of_values[1] < 1e-3
    # Rows of a share of 1e-5 are cut; and kymatio's own short sub-bands, which alias, are sampled better.
    assert of_values[-1] < 3e-5
    # z / |z| jumps where z passes zero: its spectrum has no end, and aliases where |z| averaged hardly does.
    assert of_gradients[1] < 0.03
    assert of_gradients[-1] < 3e-3


def test_ample_samples_without_cuts_is_exact(
    exact: tuple[Tensor, list[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapl_jtfs._transform.filter_design._NEGLIGIBLE_WEIGHT_COMPACT", 2e-8)
    monkeypatch.setattr("scrapl_jtfs._transform.filter_design._SHORTEST_SHARED", 1)
    # Without these two cuts nothing but bins below 1e-12 of a peak differs; with them 5e-5 of a path does.
    x, expected, _ = exact
    assert_all_near(JTFSPath(**LARGE, samples_per_bandwidth=100).double().full(x), expected, 1e-8)
    # Smoothed, as the gradient through sub-bands empty but for rounding is noise.
    exact_gradient, gradient = (
        value_and_gradient(JTFSPath(**LARGE, samples_per_bandwidth=o, smoothing=1e-2).double().full, x)[1]
        for o in (None, 100)
    )
    assert_near(gradient, exact_gradient, 1e-7)


ODD = [
    dict(T="global", F="global"),
    dict(T="global", F=40),
    dict(T=0),
    dict(T=0, F=0),
    dict(T=0, F="global", orders=(1, 2)),
    dict(F=0, orders=(1,)),
    dict(F=80),
    dict(T=64, orders=(1, 2)),
    dict(n_samples=5000, Q=(4, 2), Q_fr=2, T=100.5, F=3),
    dict(n_samples=3001, J=11, T=3001),
    dict(n_samples=600, J=6, T=8),
]


@pytest.mark.parametrize("change", ODD, ids=str)
def test_odd_settings_are_close_and_of_the_same_shape(change: dict) -> None:
    config = {**LARGE, "T": None, "F": None, **change}
    jtfs = JTFSPath(**config).double()
    x = noise(2, config["n_samples"])
    expected = jtfs.full(x)
    for samples_per_bandwidth, tolerance in ((1, 0.02), (2, 3e-3), (100, 1e-4)):
        compact = JTFSPath(**config, samples_per_bandwidth=samples_per_bandwidth).double()
        actual = compact.full(x)
        assert [a.shape for a in actual] == [e.shape for e in expected]
        assert distance(actual, expected) < tolerance
        assert_near(compact(x, 2), actual[2], 1e-12)


# --- smoothing ------------------------------------------------------------------------------------------------


@given(st.floats(1e-6, 10), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_smoothed_modulus_is_its_closed_form(epsilon: float, scale: float) -> None:
    z = scale * noise(2, 3, 4, dtype=torch.complex128)
    layer = Layer(RowFilter(torch.eye(6, dtype=torch.float64)), Identity(12), 24, epsilon)
    (u,) = scattering_layer(Identity(24), [layer], Budget(10**6, 0), planes_of(z).flatten(1, 2))
    torch.testing.assert_close(u, (z.abs().square() + epsilon**2).sqrt() - epsilon, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("factor", [1e-3, 1e3, -1.0, 2.0**-30, 2.0**30])
def test_scaling_the_signal_scales_the_coefficients(smoothing: float, factor: float) -> None:
    jtfs = JTFSPath(**BOTH_ORDERS, smoothing=smoothing).double()
    x = noise(2, 512)
    values, gradient = value_and_gradient(jtfs.full, x)
    scaled, scaled_gradient = value_and_gradient(jtfs.full, factor * x)
    assert_all_near(scaled, [abs(factor) * v for v in values], 1e-11)
    assert_near(scaled_gradient, factor * gradient, 1e-11)


def test_smoothed_derivatives() -> None:
    jtfs = JTFSPath(**TINY, smoothing=0.05).double()
    x = noise(2, 48).requires_grad_()
    for p in (0, 4, jtfs.n_paths - 1):
        assert torch.autograd.gradcheck(partial(jtfs, path_idx=p), x, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(partial(jtfs, path_idx=p), x, fast_mode=True)


def test_no_smoothing_is_the_limit() -> None:
    x = noise(1, 512)
    plain = JTFSPath(**BOTH_ORDERS).double().full(x)
    errors = [
        distance(JTFSPath(**BOTH_ORDERS, smoothing=s).double().full(x), plain) for s in (1e-1, 1e-3, 1e-5, 1e-9)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-7


@pytest.mark.parametrize("options", [dict(), dict(smoothing=1e-5), dict(smoothing=1e-5, samples_per_bandwidth=2)])
def test_silence_and_its_neighbours(options: dict) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**BOTH_ORDERS, **options), reduction="none")
    jtfs, signal = loss_fn.jtfs, noise(2, 512, dtype=torch.float32)
    silence = torch.zeros(1, 512)
    mixed = torch.cat([signal[:1], silence, signal[1:]]).requires_grad_()
    target = noise(3, 512, seed=1, dtype=torch.float32)
    for p in range(0, jtfs.n_paths, 3):
        phi = jtfs(mixed, p)
        assert torch.equal(phi[1], torch.zeros_like(phi[1]))
        assert_near(phi[::2], jtfs(signal, p), 1e-5)
        (gradient,) = torch.autograd.grad(loss_fn(mixed, target, p).sum(), mixed, create_graph=True)
        assert gradient.isfinite().all()
        assert torch.autograd.grad(gradient.square().sum(), mixed)[0].isfinite().all()
        others = signal.clone().requires_grad_()
        (alone,) = torch.autograd.grad(loss_fn(others, target[::2], p).sum(), others)
        assert_near(gradient[::2].detach(), alone, 1e-4)
    assert loss_fn(silence, silence, 0).item() == 0


# --- pairs and first layers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [dict(), dict(smoothing=1e-4), dict(T="global", F=0)])
def test_pairs_are_two_selections(options: dict) -> None:
    jtfs = JTFSPath(**{**BOTH_ORDERS, **options}).double()
    x, y = noise(2, 2, 512).requires_grad_(), noise(2, 2, 512, seed=1).requires_grad_()
    ids = [9, 0, 9, 14]
    pairs = jtfs.select_pairs(x, y, ids)
    assert_all_near([a for a, _ in pairs], jtfs.select(x, ids), 1e-12)
    assert_all_near([b for _, b in pairs], jtfs.select(y, ids), 1e-12)
    assert not any(b.requires_grad for _, b in pairs)
    gradient, none = torch.autograd.grad(energy([a - b for a, b in pairs]), [x, y], allow_unused=True)
    assert none is None
    apart = [a - b.detach() for a, b in zip(jtfs.select(x, ids), jtfs.select(y, ids), strict=True)]
    assert_near(gradient, torch.autograd.grad(energy(apart), x)[0], 1e-12)


def test_pairs_of_different_precision() -> None:
    jtfs = JTFSPath(**BOTH_ORDERS)
    x, y = noise(2, 512, dtype=torch.float32), noise(2, 512, seed=1, dtype=torch.float32)
    for a, b in ((x.half(), y), (x, y.bfloat16()), (x.bfloat16(), y.half())):
        ((phi, target),) = jtfs.select_pairs(a.requires_grad_(), b, [7])
        assert phi.dtype == target.dtype == torch.float32
        assert_near(phi, jtfs(a.float(), 7), 1e-6)
        assert_near(target, jtfs(b.float(), 7), 1e-6)
        (gradient,) = torch.autograd.grad(phi.sum(), a)
        assert gradient.dtype == a.dtype
        assert gradient.any()


@pytest.mark.parametrize("options", [dict(), dict(smoothing=1e-4, samples_per_bandwidth=2), dict(orders=(2,))])
def test_first_layers_stand_for_the_signal(options: dict) -> None:
    jtfs = JTFSPath(**{**BOTH_ORDERS, **options}).double()
    x = noise(2, 3, 512)
    layer = jtfs.first_layer(x)
    assert_near(jtfs(layer, 7), jtfs(x, 7), 1e-13)
    assert_all_near(jtfs.select(layer, [9, 2]), jtfs.select(x, [9, 2]), 1e-12)
    assert_all_near(jtfs.full(layer), jtfs.full(x), 1e-13)
    assert_all_near(list(dict(jtfs.stream(layer)).values()), jtfs.full(x), 1e-13)

    def shared(x: Tensor) -> list[Tensor]:
        first = jtfs.first_layer(x)
        return [jtfs(first, 1), *jtfs.select(first, [5, 9]), jtfs(first, 1)]

    _, gradient = value_and_gradient(shared, x)
    _, expected = value_and_gradient(lambda x: [jtfs(x, p) for p in (1, 5, 9, 1)], x)
    assert_near(gradient, expected, 1e-11)


def test_first_layers_refuse_what_they_cannot_serve() -> None:
    jtfs = JTFSPath(**BOTH_ORDERS)
    layer = jtfs.first_layer(noise(512, dtype=torch.float32), [8, 9])
    assert torch.equal(jtfs(layer, 9), jtfs(noise(512, dtype=torch.float32), 9))
    for call in (partial(jtfs, path_idx=3), jtfs.full, partial(jtfs.select, path_indices=[8, 0])):
        with pytest.raises(ValueError, match="does not serve path"):
            call(layer)
    with pytest.raises(ValueError, match="compute it again"):
        jtfs.double()(layer, 9)


def test_first_layers_are_refused_by_another_transform() -> None:
    layer = JTFSPath(**BOTH_ORDERS).first_layer(noise(512, dtype=torch.float32))
    with pytest.raises(ValueError, match="transform"):
        JTFSPath(**{**BOTH_ORDERS, "smoothing": 0.1})(layer, 9)


def test_first_layers_are_refused_where_path_ids_mean_other_paths() -> None:
    layer = JTFSPath(**BOTH_ORDERS).first_layer(noise(512, dtype=torch.float32))
    with pytest.raises(ValueError, match="another transform"):
        JTFSPath(**{**BOTH_ORDERS, "orders": (2,)})(layer, 3)


def test_prepared_targets_follow_the_dtype() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**BOTH_ORDERS, smoothing=1e-5, samples_per_bandwidth=2))
    x, y = noise(2, 512), noise(2, 512, seed=1)
    prepared = loss_fn.prepare(y.float())
    single = [loss_fn(x.float(), prepared, p) for p in (3, 9)]
    loss_fn.double()
    for p, before in zip((3, 9), single, strict=True):
        assert loss_fn(x, prepared, p).item() == pytest.approx(loss_fn(x, y.float().double(), p).item(), rel=1e-12)
        assert loss_fn(x, prepared, p).item() == pytest.approx(before.item(), rel=1e-4)


@pytest.mark.parametrize(("Q", "samples_per_bandwidth"), [((8, 8), 1.0), ((8, 8), 1.3), ((24, 4), 2.0)])
def test_fast_modulations_beyond_a_compact_rate_are_zero(Q: tuple[int, int], samples_per_bandwidth: float) -> None:
    jtfs = JTFSPath(2048, J=7, Q=Q, J_fr=2, samples_per_bandwidth=samples_per_bandwidth).double()
    x = noise(2048).requires_grad_()
    loss = sum((c.square().sum() for c in jtfs.full(x)), torch.zeros(()))
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(gradient @ x, 2 * loss.double(), rtol=1e-10, atol=0.0)  # degree 2, by Euler


def test_paths_left_out_of_a_bundle_get_no_gradient() -> None:
    jtfs = JTFSPath(**BOTH_ORDERS).double()
    x = noise(512).requires_grad_()
    (expected,) = torch.autograd.grad(jtfs(x, 9).square().sum(), x)
    bundle = jtfs.full(x)
    (gradient,) = torch.autograd.grad(bundle[9].square().sum(), x)
    assert_near(gradient, expected, 1e-11)


def test_outputs_may_be_changed_in_place() -> None:
    jtfs = JTFSPath(**{**BOTH_ORDERS, "F": 0})
    x = noise(2, 512, dtype=torch.float32).requires_grad_()
    for coefficients in (*jtfs.full(x), jtfs.select_pairs(x, x.detach(), [4])[0][0]):
        coefficients.mul_(2.0)


def test_wrong_signals_are_named() -> None:
    jtfs = JTFSPath(**BOTH_ORDERS)
    x = noise(2, 512, dtype=torch.float32)
    layer = jtfs.first_layer(x)
    with pytest.raises(TypeError, match="Invalid x: a FirstLayer"):
        jtfs.first_layer(layer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(1, 512\); expected \(2, 512\), the shape of x"):
        jtfs.select_pairs(x, x[:1], [3])
    for bad in (None, [1.0], x.to(torch.complex64), x.to(torch.int16)):
        with pytest.raises(TypeError, match="Invalid x"):
            JTFSPathLoss(jtfs)(bad, x, 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Invalid target"):
            JTFSPathLoss(jtfs).prepare(bad)  # type: ignore[arg-type]


def test_smoothed_modulus_of_small_numbers_does_not_cancel() -> None:
    z = 1e-4 * noise(1, 2, 1, 64)
    single = modulus(z.float(), 0.1).double()
    torch.testing.assert_close(single, modulus(z, 0.1), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(single, z.square().sum(1) / 0.2, rtol=1e-5, atol=0.0)  # |z|^2 / (2 eps)
