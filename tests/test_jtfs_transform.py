"""Properties of JTFSPath that need no reference: derivatives, symmetries, module behaviour, bad input."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_jtfs._transform.filters import TimeAverage
from scrapl_jtfs._transform.linear.filters_and_averages import Matrix, SpectralAverage
from tests.support.jtfs_helpers import LOCAL, TINY, noise

# Short signals on purpose, whose averages hear reflections.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")


@pytest.fixture(scope="module")
def jtfs() -> JTFSPath:
    return JTFSPath(**LOCAL)


@pytest.fixture(scope="module")
def jtfs64() -> JTFSPath:
    return JTFSPath(**LOCAL).double()


@pytest.mark.parametrize("T", [2, 8, 0, "global"])
def test_first_and_second_derivatives(T) -> None:
    tiny = JTFSPath(**TINY | {"T": T}).double()
    x = noise(2, 48).requires_grad_()
    for path_idx in (0, tiny.n_paths // 2, tiny.n_paths - 1):
        assert torch.autograd.gradcheck(partial(tiny, path_idx=path_idx), x, fast_mode=True, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(partial(tiny, path_idx=path_idx), x, fast_mode=True)


def test_third_derivative() -> None:
    tiny = JTFSPath(**TINY).double()
    x, v = noise(48).requires_grad_(), noise(48, seed=1)

    def second(signal: torch.Tensor) -> torch.Tensor:
        """Second derivative of the energy of a path along v."""
        (first,) = torch.autograd.grad(tiny(signal, 3).square().sum(), signal, create_graph=True)
        (along,) = torch.autograd.grad(first @ v, signal, create_graph=True)
        return along @ v

    (third,) = torch.autograd.grad(second(x), x)
    step = 1e-5
    ahead, behind = ((x + s * step * v).detach().requires_grad_() for s in (1, -1))
    torch.testing.assert_close(third @ v, (second(ahead) - second(behind)) / (2 * step), rtol=1e-5, atol=0)


def test_low_pass_by_fft_equals_low_pass_by_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    for T in (1, 4, 32):
        by_matrix = JTFSPath(**{**LOCAL, "T": T}, orders=(1, 2)).double()
        monkeypatch.setattr("scrapl_jtfs._transform.filter_design.LARGEST_MATRIX", 0)
        by_fft = JTFSPath(**{**LOCAL, "T": T}, orders=(1, 2)).double()
        monkeypatch.undo()
        for jtfs, kind in ((by_matrix, Matrix), (by_fft, SpectralAverage)):
            modules = [module for module in jtfs.modules() if isinstance(module, TimeAverage)]
            assert modules
            assert all(isinstance(module.map(), kind) for module in modules)
        x = noise(2, 512)
        for a, b in zip(by_matrix.full(x), by_fft.full(x), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * a.max().item())


def test_sum_over_paths_equals_the_full_tree(jtfs64: JTFSPath) -> None:
    loss_fn = JTFSPathLoss(jtfs64)
    x, y = noise(3, 512).requires_grad_(), noise(3, 512, seed=1)
    full = loss_fn.full(x, y)
    (full_gradient,) = torch.autograd.grad(full, x)
    losses = [loss_fn(x, y, p) for p in range(jtfs64.n_paths)]
    gradients = [torch.autograd.grad(loss, x)[0] for loss in losses]
    torch.testing.assert_close(sum(losses) / jtfs64.n_paths, full, rtol=1e-12, atol=0)
    torch.testing.assert_close(sum(gradients) / jtfs64.n_paths, full_gradient, rtol=1e-10, atol=1e-14)
    distance = sum((a - b).square().sum() for a, b in zip(jtfs64.full(x), jtfs64.full(y), strict=True)) / 3
    torch.testing.assert_close(full, distance, rtol=1e-12, atol=0)


@given(st.lists(st.integers(0, 20), max_size=6))
@settings(max_examples=20, deadline=None)
def test_any_selection_equals_single_paths(wanted: list[int]) -> None:
    jtfs64 = JTFSPath(**LOCAL).double()
    x = noise(512)
    for path_idx, coefficients in zip(wanted, jtfs64.select(x, wanted), strict=True):
        torch.testing.assert_close(coefficients, jtfs64(x, path_idx), rtol=1e-13, atol=1e-16)


def test_stream_yields_every_path_in_order(jtfs64: JTFSPath) -> None:
    x = noise(2, 512)
    streamed = list(jtfs64.stream(x))
    assert [p for p, _ in streamed] == list(range(jtfs64.n_paths))
    for p, phi in streamed[::4]:
        torch.testing.assert_close(phi, jtfs64(x, p), rtol=1e-13, atol=1e-16)


def test_shift_by_whole_frames_moves_the_frames(jtfs64: JTFSPath) -> None:
    # A burst far from both ends, so that reflection plays no part.
    burst = torch.zeros(512, dtype=torch.float64)
    burst[200:232] = noise(32) * torch.hann_window(32, dtype=torch.float64)
    shift = 2 * 32
    for path_idx in range(0, jtfs64.n_paths, 4):
        before, after = jtfs64(burst, path_idx), jtfs64(burst.roll(shift), path_idx)
        error = (before[:, 2:-4] - after[:, 4:-2]).abs().max() / before.max()
        assert error < 2e-2, f"path {path_idx}: {error:.1e}"


@pytest.mark.parametrize("direction", [1, -1])
def test_spin_tells_rising_from_falling(direction: int) -> None:
    rate_of_change, sample_rate = 8.0, 4096
    jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=sample_rate)
    t = (torch.arange(4096) - 2048) / sample_rate
    gamma = direction * rate_of_change
    chirp = torch.sin(2 * math.pi * 400 * torch.expm1(gamma * math.log(2) * t) / (gamma * math.log(2)))
    chirp *= torch.exp(-0.5 * (t / 0.05) ** 2)
    # The paths whose rate / scale is the chirp's octaves per second.
    matching = [p for p in jtfs.paths if p.spin and 0.6 < p.rate / p.scale / rate_of_change < 1.7]
    assert len(matching) >= 4
    energy = {
        spin: sum(jtfs(chirp, p.index).square().sum() for p in matching if p.spin == spin) for spin in (1, -1)
    }
    assert energy[direction] > 5 * energy[-direction]


def test_only_a_global_average_ignores_the_reflection() -> None:
    # Rising chirps all along; in the reflection they fall, and a local average over 4096 samples hears both.
    t = (torch.arange(4096) - 2048) / 4096
    chirp = torch.sin(2 * math.pi * 400 * torch.expm1(8 * math.log(2) * t) / (8 * math.log(2)))
    chirp *= torch.exp(-0.5 * (t / 0.05) ** 2)
    texture = sum((chirp.roll(shift) for shift in range(-1536, 1537, 512)), torch.zeros(4096))

    def rising_over_falling(T) -> float:
        jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, T=T, sample_rate=4096)
        matching = [p for p in jtfs.paths if p.spin and 0.6 < p.rate / p.scale / 8.0 < 1.7]
        energy = {s: sum(jtfs(texture, p.index).square().sum() for p in matching if p.spin == s) for s in (1, -1)}
        return float(energy[1] / energy[-1])

    assert rising_over_falling(4096) < 1.1
    assert rising_over_falling(512) > 5
    assert rising_over_falling("global") > 50


@pytest.mark.parametrize("name", ["silence", "half silent", "constant", "denormal", "click"])
def test_silence_has_finite_gradients_of_both_orders(jtfs: JTFSPath, name: str) -> None:
    x = torch.zeros(512)
    if name == "half silent":
        x[:256] = noise(256, dtype=torch.float32)
    elif name == "constant":
        x += 0.5
    elif name == "denormal":
        x += 1e-41
    elif name == "click":
        x[100] = 1.0
    x.requires_grad_()
    loss_fn = JTFSPathLoss(jtfs)
    for path_idx in range(0, jtfs.n_paths, 3):
        for target in (torch.zeros(512), noise(512, seed=1, dtype=torch.float32)):
            (gradient,) = torch.autograd.grad(loss_fn(x, target, path_idx), x, create_graph=True)
            (second,) = torch.autograd.grad((gradient * noise(512, seed=2, dtype=torch.float32)).sum(), x)
            assert gradient.isfinite().all()
            assert second.isfinite().all()


@given(st.lists(st.integers(1, 3), max_size=3))
@settings(max_examples=10, deadline=None)
def test_any_leading_batch_shape(shape: list[int]) -> None:
    jtfs64 = JTFSPath(**LOCAL).double()
    x = noise(*shape, 512)
    batched = jtfs64(x, 5)
    one_by_one = [jtfs64(row, 5) for row in x.reshape(-1, 512)]
    assert batched.shape[: len(shape)] == x.shape[:-1]
    torch.testing.assert_close(batched.reshape(-1, *one_by_one[0].shape), torch.stack(one_by_one))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_compute_the_same(jtfs: JTFSPath, copied) -> None:
    x = noise(2, 512, dtype=torch.float32)
    other = copied(jtfs)
    assert other.paths == jtfs.paths
    assert torch.equal(other(x, 3), jtfs(x, 3))
    assert torch.equal(copied(other.double())(x.double(), 3), JTFSPath(**LOCAL).double()(x.double(), 3))


def test_state_dict_holds_no_filters(jtfs: JTFSPath) -> None:
    assert jtfs.state_dict() == {}
    assert list(jtfs.parameters()) == []
    jtfs.load_state_dict({})


def test_conversion_to_float64_restores_full_precision(jtfs64: JTFSPath) -> None:
    x = noise(512)
    there_and_back = JTFSPath(**LOCAL).half().float().to(torch.float64)
    assert torch.equal(there_and_back(x, 3), jtfs64(x, 3))
    assert JTFSPath(**LOCAL).half().dtype == torch.float32


@pytest.mark.parametrize(
    ("default", "expected"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
)
def test_built_under_another_default_dtype(default: torch.dtype, expected: torch.dtype) -> None:
    torch.set_default_dtype(default)
    try:
        assert JTFSPath(**LOCAL).dtype == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_built_on_the_meta_device_and_materialized(jtfs: JTFSPath) -> None:
    with torch.device("meta"):
        module = torch.nn.ModuleDict({"jtfs": JTFSPath(**LOCAL), "linear": torch.nn.Linear(2, 2)})
    assert module["jtfs"].device.type == "meta"  # type: ignore[union-attr]
    x = noise(512, dtype=torch.float32)
    assert torch.equal(module.to_empty(device="cpu")["jtfs"](x, 3), jtfs(x, 3))


def test_shared_memory_is_shared() -> None:
    assert all(buffer.is_shared() for buffer in JTFSPath(**LOCAL).share_memory().buffers())


def test_autocast_and_half_input_compute_in_float32(jtfs: JTFSPath) -> None:
    x = noise(512, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = jtfs(x, 3)
    assert torch.equal(inside, jtfs(x, 3))
    assert jtfs(x.bfloat16(), 3).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu(jtfs: JTFSPath) -> None:
    x = noise(2, 512, dtype=torch.float32)
    on_gpu = copy.deepcopy(jtfs).cuda()
    torch.testing.assert_close(on_gpu(x.cuda(), 3).cpu(), jtfs(x, 3), rtol=1e-5, atol=1e-7)


def test_rates_scales_and_costs() -> None:
    jtfs = JTFSPath(32768, J=12, Q=(8, 2), J_fr=3, Q_fr=2, T=4096, F=8, sample_rate=8192)
    rates = [p.rate for p in jtfs.paths]
    assert max(rates) < 8192 / 4
    assert rates == sorted(rates, reverse=True)
    assert {p.spin for p in jtfs.paths} == {-1, 0, 1}
    assert all((p.scale == 0) == (p.spin == 0) for p in jtfs.paths)
    assert max(p.scale for p in jtfs.paths) == pytest.approx(0.35 * 8)
    assert sum(p.cost for p in jtfs.paths) == pytest.approx(315)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(J=10), ValueError, "J <= 9"),
        (dict(J=0), ValueError, "Invalid J: 0"),
        (dict(J=2.5), TypeError, "Invalid J: 2.5"),
        (dict(Q=0), ValueError, r"Q\[0\]: 0"),
        (dict(Q=(4, 0)), ValueError, r"Q\[1\]: 0"),
        (dict(Q=(4, 1, 1)), ValueError, "Q1, Q2"),
        (dict(Q_fr=0), ValueError, "Q_fr: 0"),
        (dict(J_fr=9), ValueError, "J_fr: 9"),
        (dict(n_samples=4096, J=10, Q=(8, 1), J_fr=6, T=64, F=1), ValueError, "64 rows for 70 first-order"),
        (dict(T=513), ValueError, "T='global'"),
        (dict(T=-1), ValueError, "Invalid T: -1"),
        (dict(T=math.nan), ValueError, "Invalid T: nan"),
        (dict(T="local"), ValueError, "Invalid T: 'local'"),
        (dict(F=100), ValueError, "F='global'"),
        (dict(n_samples=0), ValueError, "n_samples: 0"),
        (dict(n_samples=True), TypeError, "n_samples: True"),
        (dict(sample_rate=0), ValueError, "sample_rate: 0"),
        (dict(orders=(3,)), ValueError, "orders"),
        (dict(orders=()), ValueError, "orders"),
        (dict(orders=2), TypeError, r"orders: 2; expected \(2,\)"),
        (dict(J=1, T=2), ValueError, "larger J"),
    ],
)
def test_bad_settings(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        JTFSPath(**{**LOCAL, **change})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(2, 511), ValueError, "512 samples .* n_samples=511"),
        (torch.zeros(()), ValueError, "512 samples"),
        (torch.zeros(0, 512), ValueError, "empty batch"),
        (torch.zeros(512, dtype=torch.int16), TypeError, "int16"),
        (torch.zeros(512, dtype=torch.complex64), TypeError, "complex64"),
        (torch.zeros(512, dtype=torch.float64), ValueError, r"jtfs\.to"),
        (torch.zeros(512, device="meta"), ValueError, "meta"),
        ([0.0] * 512, TypeError, "torch.as_tensor"),
    ],
)
def test_bad_signals(jtfs: JTFSPath, x, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        jtfs(x, 0)


@pytest.mark.parametrize(
    ("path_idx", "error"),
    [
        (-1, IndexError),
        (10**6, IndexError),
        (1.0, TypeError),
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_bad_path_ids(jtfs: JTFSPath, path_idx, error: type[Exception]) -> None:
    with pytest.raises(error, match="path_idx"):
        jtfs(torch.zeros(512), path_idx)


def test_path_id_as_numpy_or_tensor(jtfs: JTFSPath) -> None:
    x = noise(512, dtype=torch.float32)
    assert torch.equal(jtfs(x, torch.tensor(4)), jtfs(x, 4))  # type: ignore[arg-type]
