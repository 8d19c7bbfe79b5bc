"""Time scattering: kymatio's coefficients and order, the literal twin, closed forms, derivatives, bad input."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import PathLoss, TimePath, TimePathTable, TimeScattering
from scrapl_jtfs._time_scattering import layers
from scrapl_jtfs.reference import ReferenceTimeScattering
from scrapl_jtfs.testing import assert_path_transform
from scrapl_optim.testing import assert_unbiased
from tests.support.jtfs_helpers import assert_all_near, energy, noise, value_and_gradient

SMALL: dict[str, Any] = dict(n_samples=512, J=5, Q=(4, 1))
# For numerical Jacobians, which have a row for each sample
TINY: dict[str, Any] = dict(n_samples=32, J=3, Q=(2, 1), T=8)
SETTINGS = [
    dict(n_samples=2048, J=7, Q=8),
    dict(n_samples=1500, J=6, Q=(8, 1)),
    dict(n_samples=777, J=6, Q=(3, 3), T=0),
    dict(n_samples=1001, J=5, Q=(4, 2), T=20),
    dict(n_samples=2048, J=8, Q=(8, 2), T=64),
    dict(n_samples=513, J=5, Q=(1, 1), T=0),
    dict(n_samples=600, J=9, Q=(2, 1), max_order=1),
    dict(n_samples=4096, J=4, Q=(12, 1), T=1),
    dict(n_samples=300, J=3, Q=(6, 1), T=256),
]


def wavelets(path: TimePath) -> tuple[int, ...]:
    """Return what kymatio calls a path of by="pair"."""
    return path.n1 if path.n2 is None else (*path.n1, path.n2)


def kymatio(n_samples: int, J: int, Q: Any, T: Any = None, max_order: int = 2, *, repaired: bool) -> Any:
    """Build kymatio 0.3.0's transform; repaired, filters at stride 2**k no longer lose the factor 2**k."""
    from kymatio.scattering1d.frontend.numpy_frontend import ScatteringNumPy1D

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Signal support is too small")
        transform = ScatteringNumPy1D(J, n_samples, Q, T, max_order, out_type="list")
    for one in [transform.phi_f, *transform.psi1_f, *transform.psi2_f] if repaired else []:
        one["levels"] = [2**k * response for k, response in enumerate(one["levels"])]
    return transform


def assert_relative(actual: Tensor, expected: Any, tolerance: float) -> None:
    """Compare with a tolerance relative to the largest expected magnitude."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual.double().numpy() - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_coefficients_are_kymatios_in_its_order(settings: dict[str, Any]) -> None:
    x = noise(2, settings["n_samples"])
    expected = kymatio(**settings, repaired=True)(x.numpy())
    scattering = TimeScattering(**settings)
    assert [wavelets(path) for path in scattering.paths] == [path["n"] for path in expected]
    single, double = scattering.full(x.float()), scattering.double().full(x)
    for path, phi32, phi64 in zip(expected, single, double, strict=True):
        assert_relative(phi64, path["coef"].reshape(phi64.shape), 2e-10)
        assert_relative(phi32, path["coef"].reshape(phi32.shape), 1e-5)


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3], SETTINGS[4]], ids=str)
def test_frequencies_and_rates_are_kymatios(settings: dict[str, Any]) -> None:
    meta = kymatio(**settings, repaired=False).meta()
    rate = 8000.0
    paths = TimeScattering(**settings, sample_rate=rate).paths
    assert [path.order for path in paths] == list(meta["order"])
    for path, (xi1, xi2), (j1, j2) in zip(paths, meta["xi"], meta["j"], strict=True):
        assert path.frequency == pytest.approx(0.0 if math.isnan(xi1) else rate * xi1, rel=1e-12)
        assert path.rate == pytest.approx(0.0 if math.isnan(xi2) else rate * xi2, rel=1e-12)
        assert (path.j1, path.j2) == tuple(None if math.isnan(j) else j for j in (j1, j2))


@pytest.mark.parametrize("T", [None, 20, 0])
def test_the_release_of_kymatio_is_weaker_by_its_strides_alone(T: int | None) -> None:
    """By one stride at order 1, by both at order 2, and without an average by the first: the docstring's note."""
    x, J, log2_T = noise(1024), 6, 4 if T else 6
    scattering = TimeScattering(1024, J, (4, 2), T).double()
    released = kymatio(1024, J, (4, 2), T, repaired=False)(x.numpy())
    for path, phi, weaker in zip(scattering.paths, scattering.full(x), released, strict=True):
        k1, k2 = (0 if j is None else min(j, log2_T) for j in (path.j1, path.j2))
        if T == 0:
            k1, k2 = k1 if path.order == 2 else 0, 0
        assert_relative(phi / 2 ** (k1 + k2), weaker["coef"], 1e-9)


@pytest.mark.parametrize("T", [None, 0, "global", 9, 64.0])
@pytest.mark.parametrize("boundary", ["reflect", "even"])
def test_literal_twin(boundary: Any, T: Any) -> None:
    for n_samples in (257, 300):
        fast = TimeScattering(n_samples, 6, (4, 2), T, boundary=boundary).double()
        slow = ReferenceTimeScattering(n_samples, 6, (4, 2), T, boundary=boundary)
        assert slow.paths == [wavelets(path) for path in fast.paths]
        x = noise(2, n_samples)
        for p, phi in fast.stream(x):
            assert_relative(phi, slow(x, p), 1e-10)


def test_global_is_the_mean_of_what_is_not_averaged() -> None:
    x = noise(3, 500)
    averaged, moduli = (TimeScattering(500, 6, (4, 1), T).double().full(x) for T in ("global", 0))
    assert torch.equal(moduli[0], x)
    assert_all_near(averaged, [phi.mean(-1, keepdim=True) for phi in moduli], 1e-10)


@pytest.mark.parametrize("T", [None, 0, "global"])
def test_second_order_wavelets_have_the_rows_of_their_pairs(T: Any) -> None:
    x = noise(2, 512)
    pairs, second = (TimeScattering(512, 5, (4, 2), T, by=by).double() for by in ("pair", "second"))  # type: ignore
    rows = {wavelets(path): phi for path, phi in zip(pairs.paths, pairs.full(x), strict=True)}
    for path, phi in zip(second.paths, second.full(x), strict=True):
        keys = [(n1, path.n2) if path.n2 is not None else (n1,) for n1 in path.n1] or [()]
        torch.testing.assert_close(phi, torch.stack([rows.pop(key) for key in keys], 1), rtol=0, atol=1e-14)
        assert list(path.n1) == sorted(path.n1)
        assert second.row_frequencies(path.index).tolist() == list(path.frequencies)
    assert not rows
    assert sum(path.order == 1 for path in second.paths) == (5 if T == 0 else 1)


def test_a_sine_sounds_in_the_rows_whose_wavelets_pass_it() -> None:
    """S1 of a cos(2 pi f t) is a / 2 times each wavelet's response at f, and nothing modulates it."""
    n, amplitude, frequency = 4097, 3.0, 700 / 8192
    # An integer number of half periods from the first to the last sample: reflections continue it.
    x = amplitude * torch.cos(2 * math.pi * frequency * torch.arange(n, dtype=torch.float64))
    scattering = TimeScattering(n, 7, (8, 1), "global").double()
    for path, phi in zip(scattering.paths, scattering.full(x), strict=True):
        if path.order == 1:
            step = 2 ** (-1 / 8)
            sigma = max(path.frequency * (1 - step) / (1 + step) / math.sqrt(math.log(2)), 0.1 / 2**7)
            response = math.exp(-((frequency - path.frequency) ** 2) / (2 * sigma**2))
            # The Morlet's second term, and that the l1 norm of its window is not quite one.
            assert float(phi) == pytest.approx(amplitude / 2 * response, abs=2e-3 * amplitude)
        elif path.order == 2:
            assert float(phi) < 1e-6 * amplitude


def test_a_modulated_sine_is_heard_at_its_rate() -> None:
    """S2 is a m / 4 where both wavelets are centred: a / 2 of the analytic signal, m / 2 of its modulation."""
    n, depth = 2**14 + 1, 0.5
    scattering = TimeScattering(n, 9, (1, 1), "global").double()
    second = [path for path in scattering.paths if path.order == 2 and path.n1 == (0,)]
    target = second[4]
    t = torch.arange(n, dtype=torch.float64)
    carrier, rate = (round(f * 2 * (n - 1)) / (2 * (n - 1)) for f in (target.frequency, target.rate))
    x = 4.0 * (1 + depth * torch.cos(2 * math.pi * rate * t)) * torch.cos(2 * math.pi * carrier * t)
    coefficients = dict(scattering.stream(x))
    loudest = max(second, key=lambda path: float(coefficients[path.index]))
    assert loudest == target
    # Of a wavelet with one an octave, which is not quite a Gaussian's: see the test above.
    assert float(coefficients[target.index]) == pytest.approx(4.0 * depth / 4, rel=0.05)


def test_a_constant_is_its_average() -> None:
    for T in (None, "global", 0):
        zero, *others = TimeScattering(512, 5, (4, 1), T).double().full(torch.full((512,), 2.5).double())  # type: ignore
        torch.testing.assert_close(zero, torch.full_like(zero, 2.5), rtol=1e-12, atol=0)
        assert max(float(phi.abs().max()) for phi in others) < 1e-12


@pytest.mark.parametrize("T", [None, 0, "global"])
@pytest.mark.parametrize("by", ["pair", "second"])
def test_single_paths_are_those_of_the_tree_with_their_gradients(by: Any, T: Any) -> None:
    scattering = TimeScattering(**SMALL, T=T, by=by).double()
    x = noise(2, 3, 512)
    coefficients, gradient = value_and_gradient(scattering.full, x)
    one_by_one = [value_and_gradient(lambda x, p=p: [scattering(x, p)], x) for p in range(scattering.n_paths)]
    assert_all_near([phi for (phi,), _ in one_by_one], coefficients, 1e-13)
    torch.testing.assert_close(sum(g for _, g in one_by_one), gradient, rtol=1e-10, atol=1e-10)
    streamed = list(scattering.stream(x))
    assert [p for p, _ in streamed] == list(range(scattering.n_paths))
    assert all(torch.equal(a, b) for (_, a), b in zip(streamed, coefficients, strict=True))
    some = [4, 2, 4, 0]
    assert_all_near(scattering.select(x, some), [coefficients[p] for p in some], 1e-13)
    assert scattering.select(x, []) == []


@pytest.mark.parametrize("boundary", ["reflect", "even"])
def test_derivatives_are_those_of_finite_differences(boundary: Any) -> None:
    scattering = TimeScattering(**TINY, smoothing=1e-2, boundary=boundary).double()
    x = noise(32).requires_grad_()
    for p in (0, 3, scattering.n_paths - 1):
        assert torch.autograd.gradcheck(lambda x, p=p: scattering(x, p), x)
        assert torch.autograd.gradgradcheck(lambda x, p=p: scattering(x, p), x, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: torch.cat(scattering.full(x)), x)
    sharp = TimeScattering(**TINY, boundary=boundary).double()
    assert torch.autograd.gradcheck(lambda x: torch.cat(sharp.full(x)), x)
    direction = noise(32, seed=1)
    tangents = torch.func.jvp(lambda x: torch.cat(sharp.full(x)), (x.detach(),), (direction,))[1]
    step = 1e-6
    ends = [torch.cat(sharp.full(x.detach() + h * direction)) for h in (step, -step)]
    torch.testing.assert_close(tangents, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_step_in_single_precision_is_near_that_in_double() -> None:
    scattering = TimeScattering(4096, 8, (8, 1))
    x = noise(2, 4096)
    values32, gradient32 = value_and_gradient(scattering.full, x.float())
    values64, gradient64 = value_and_gradient(scattering.double().full, x)
    assert_all_near([phi.double() for phi in values32], values64, 1e-5)
    torch.testing.assert_close(gradient32.double(), gradient64, rtol=0, atol=1e-4 * float(gradient64.abs().max()))


@pytest.mark.parametrize("by", ["pair", "second"])
def test_memory_changes_nothing_but_roundings(by: Any) -> None:
    x = noise(3, 512)
    bounded, free = (TimeScattering(**SMALL, by=by, memory=m).double() for m in (2000, None))
    last = free.n_paths - 1
    for f, g in [(bounded.full, free.full), (lambda x: [bounded(x, last)], lambda x: [free(x, last)])]:
        (values, gradient), (expected, wanted) = value_and_gradient(f, x), value_and_gradient(g, x)
        assert_all_near(values, expected, 1e-13)
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12 * float(wanted.abs().max()))


def test_a_path_computes_no_sub_band_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    scattering = TimeScattering(4096, 8, (8, 1)).double()
    padded = scattering.geometry.n_padded
    sizes: list[int] = []
    inner = layers.row_layers

    def spy(*args: Any) -> Any:
        first, some = inner(*args)
        sizes.extend(layer.size for layer in some)
        return first, some

    monkeypatch.setattr(layers, "row_layers", spy)
    x = noise(4096)
    for path in scattering.paths:
        sizes.clear()
        scattering(x, path.index)
        # Both planes of one sub-band at its own stride, nothing else.
        assert sizes == [2 * (padded >> j) for j in [path.j1] if j is not None]
    sizes.clear()
    scattering.full(x)
    assert sum(sizes) == sum(2 * (padded >> (path.j1 or 0)) for path in scattering.paths if path.order == 1)


def test_smooth_coefficients_scale_with_the_signal() -> None:
    scattering = TimeScattering(**SMALL, smoothing=1e-2).double()
    x = noise(2, 512)
    assert_all_near(scattering.full(1e-3 * x), [1e-3 * phi for phi in scattering.full(x)], 1e-10)
    gentle, sharp = (TimeScattering(**SMALL, smoothing=eps).double().full(x) for eps in (1e-6, 0.0))
    assert_all_near(gentle, sharp, 1e-4)


def test_pairs_of_signals_are_computed_together_and_the_target_is_not_differentiated() -> None:
    scattering = TimeScattering(**SMALL).double()
    x, y, z = (noise(2, 512, seed=seed) for seed in range(3))
    x.requires_grad_()
    ids = [30, 0, 4]
    found = list(scattering.stream_pairs(x, y, ids))
    assert [p for p, _, _ in found] == sorted(ids)
    for p, phi_x, phi_y in found:
        torch.testing.assert_close(phi_x, scattering(x, p), rtol=0, atol=1e-13)
        torch.testing.assert_close(phi_y, scattering(y, p), rtol=0, atol=1e-13)
        assert not phi_y.requires_grad
    gradient, expected = (
        torch.autograd.grad(energy(outputs), x)[0]
        for outputs in ([a for _, a, _ in found], scattering.select(x, ids))
    )
    torch.testing.assert_close(gradient, expected)
    for p, both, phi_y in scattering.stream_pairs([x, z], y, ids):
        torch.testing.assert_close(list(both), [scattering(x, p), scattering(z, p)], rtol=0, atol=1e-13)
        torch.testing.assert_close(phi_y, scattering(y, p), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match=r"shape \(512,\); expected \(2, 512\), the shape of x"):
        next(scattering.stream_pairs(x, y[0], ids))
    with pytest.raises(ValueError, match="it requires a gradient and x does not"):
        next(scattering.stream_pairs(y, x, ids))


@pytest.mark.parametrize("by", ["pair", "second"])
def test_losses_take_it(by: Any) -> None:
    scattering = TimeScattering(**SMALL, by=by).double()
    loss_fn = PathLoss(scattering)
    x, y = noise(3, 512).requires_grad_(), noise(3, 512, seed=1)
    each = [loss_fn(x, y, p) for p in range(scattering.n_paths)]
    n = scattering.n_paths
    for p in (0, 2, n - 1):
        distance = (scattering(x, p) - scattering(y, p)).square().flatten(1).sum(-1).mean()
        torch.testing.assert_close(each[p] / each[0], distance / (scattering(x - y, 0)).square().sum(-1).mean())
    torch.testing.assert_close(loss_fn(x, loss_fn.prepare(y), n - 1), each[-1])
    probs = torch.arange(1, n + 1, dtype=torch.float64)
    probs /= probs.sum()

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, x, retain_graph=True)[0]

    full = loss_fn.full(x, y)
    assert_unbiased(lambda p: each[p].detach() / (n * probs[p]), probs, full.detach())
    assert_unbiased(lambda p: gradient(each[p]) / (n * probs[p]), probs, gradient(full))


@pytest.mark.parametrize(
    "settings",
    [dict(by="second"), dict(T=0, by="second"), dict(T="global", smoothing=1e-3, boundary="even"), dict(T=16)],
    ids=str,
)
def test_it_meets_the_protocol(settings: Any) -> None:
    assert_path_transform(TimeScattering(128, 4, (2, 1), **settings))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_made_on_the_default_device_in_the_default_dtype(dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            scattering = TimeScattering(**SMALL)
    finally:
        torch.set_default_dtype(before)
    assert (scattering.device.type, scattering.dtype) == ("meta", dtype)
    made = scattering.to_empty(device="cpu")
    assert_all_near(
        made.full(noise(512).to(dtype)), TimeScattering(**SMALL).to(dtype).full(noise(512).to(dtype)), 1e-6
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("boundary", ["reflect", "even"])
def test_a_gpu_computes_the_same(boundary: Any) -> None:
    scattering = TimeScattering(4096, 8, (8, 1), boundary=boundary)
    x = noise(2, 4096, dtype=torch.float32)
    values, gradient = value_and_gradient(scattering.full, x)
    on_gpu, gradient_there = value_and_gradient(scattering.cuda().full, x.cuda())
    assert_all_near([phi.cpu() for phi in on_gpu], values, 1e-5)
    torch.testing.assert_close(gradient_there.cpu(), gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()))


def test_batches_dtypes_devices_and_copies() -> None:
    scattering = TimeScattering(**SMALL, T="global", by="second")
    x = noise(2, 3, 512, dtype=torch.float32)
    whole = scattering.full(x)
    assert [phi.shape for phi in whole] == [(2, 3, max(1, path.n_rows), 1) for path in scattering.paths]
    assert_all_near([phi[1, 2] for phi in whole], scattering.full(x[1, 2]), 1e-6)
    assert torch.equal(scattering(x.half(), 3), scattering(x.half().float(), 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scattering(x, 3), whole[3])
    mapped = torch.func.vmap(lambda x: scattering(x, 3))(x)
    torch.testing.assert_close(mapped, whole[3])
    for twin in (copy.deepcopy(scattering), pickle.loads(pickle.dumps(scattering))):
        assert torch.equal(twin(x, 3), whole[3])
        assert twin.settings == scattering.settings
        assert twin.double().dtype == torch.float64
    assert not scattering.state_dict()
    meta = copy.deepcopy(scattering).to("meta")
    assert [phi.shape for phi in meta.full(x.to("meta"))] == [phi.shape for phi in whole]
    assert torch.equal(meta.to_empty(device="cpu")(x, 3), whole[3])
    assert TimeScattering(**SMALL, T=16).settings != TimeScattering(**SMALL).settings


@pytest.mark.parametrize("settings", [dict(T=16), dict(T=0), dict(T=0, boundary="even"), dict(boundary="even")])
def test_a_click_is_heard_in_the_frames_around_it(settings: Any) -> None:
    rate = 100.0
    scattering = TimeScattering(**SMALL, sample_rate=rate, **settings).double()
    x = torch.zeros(512, dtype=torch.float64)
    x[200] = 1.0
    for path in scattering.paths:
        phi, times = scattering(x, path.index), scattering.frame_times(path.index)
        assert phi.shape == times.shape
        if path.order == 1 and path.frequency > 2.0:
            centre = float((phi * times).sum() / phi.sum())
            step = float(times[1] - times[0]) if len(times) > 1 else 0.0
            assert centre == pytest.approx(200 / rate, abs=0.3 * step + 0.02)
    assert TimeScattering(**SMALL, T="global", sample_rate=rate).frame_times(3).tolist() == [255.5 / rate]


def test_tables_tell_what_a_path_listens_to() -> None:
    paths = TimeScattering(16384, J=10, Q=(8, 1), sample_rate=16384).paths
    assert isinstance(paths, TimePathTable)
    assert str(paths[0]) == "path 0: the average of the signal"
    assert str(paths).splitlines()[1:] == [str(path) for path in paths]
    kept = [path.index for path in paths if path.order == 2 and 5 <= path.rate <= 12 and path.frequency <= 1000]
    assert list(paths.where(order=2, rate=(5, 12), frequency=(None, 1000))) == kept != []
    assert paths.where(order=(0, 1)) == tuple(path.index for path in paths if path.order < 2)
    with pytest.raises(ValueError, match=r"rate=\(0.1, 0.2\): no path has that; expected those of 374 paths"):
        paths.where(order=2, rate=(0.1, 0.2))
    with pytest.raises(ValueError, match="no path has all of that"):
        paths.where(order=1, rate=(5, 12))
    with pytest.raises(ValueError, match="Invalid order: 3; expected one of 0, 1, 2"):
        paths.where(order=3)
    assert {len({paths[p].rate for p in bundle}) for bundle in paths.bundles("n2")} == {1}
    second = TimeScattering(16384, J=10, Q=(8, 1), by="second").paths
    assert str(second[1]).endswith("cycles/sample")
    assert " to " in str(second[1])
    fed = second[3]
    assert fed.frequencies[-1] < fed.frequency < fed.frequencies[0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(n_samples=16, J=5, Q=1), ValueError, "Invalid J: 5; expected J <= 4"),
        (dict(n_samples=512.0, J=5, Q=1), TypeError, "Invalid n_samples: 512.0; expected an integer"),
        (dict(n_samples=512, J=5, Q=(8, 1, 1)), ValueError, r"Invalid Q: \(8, 1, 1\); expected an integer Q1 or"),
        (dict(n_samples=512, J=5, Q=8, T=600), ValueError, "Invalid T: 600; expected at most 512"),
        (dict(n_samples=512, J=5, Q=8, T="local"), ValueError, "Invalid T: 'local'; expected None, 0, 'global'"),
        (dict(n_samples=512, J=5, Q=8, max_order=3), ValueError, "Invalid max_order: 3; expected 1 or 2"),
        (dict(n_samples=512, J=5, Q=8, max_order=True), ValueError, "Invalid max_order: True"),
        (dict(n_samples=512, J=5, Q=8, by="rate"), ValueError, "Invalid by: 'rate'; expected 'pair' or 'second'"),
        (dict(n_samples=512, J=5, Q=8, sample_rate=0), ValueError, "Invalid sample_rate: 0; expected a positive"),
        (
            dict(n_samples=512, J=5, Q=8, boundary="zero"),
            ValueError,
            "Invalid boundary: 'zero'; expected 'reflect'",
        ),
        (dict(n_samples=512, J=5, Q=8, smoothing=-1), ValueError, "Invalid smoothing: -1; expected 0, or"),
    ],
)
def test_settings_are_checked(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TimeScattering(**settings)


def test_signals_and_ids_are_checked() -> None:
    scattering = TimeScattering(**SMALL)
    x = torch.zeros(512)
    for bad, error, message in (
        (x[:500], ValueError, r"Invalid x: shape \(500,\); expected \(512,\) as last axes"),
        (x.long(), TypeError, "Invalid x: torch.int64; expected real floating-point"),
        (x.double(), ValueError, "Invalid x: torch.float64 on cpu; expected torch.float32"),
        (x[None][:0], ValueError, "an empty batch"),
        ([0.0] * 512, TypeError, "Invalid x: list; expected a torch.Tensor"),
    ):
        with pytest.raises(error, match=message):
            scattering(bad, 0)  # type: ignore[arg-type]
    n = scattering.n_paths
    with pytest.raises(IndexError, match=f"Invalid path_idx: {n}; expected an id from 0 to {n - 1}"):
        scattering(x, n)
    with pytest.raises(TypeError, match=r"Invalid path_idx: 1\.5; expected an integer"):
        scattering(x, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Invalid path_indices: 3; expected a sequence"):
        scattering.select(x, 3)  # type: ignore[arg-type]
