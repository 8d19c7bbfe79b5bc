"""What calls of the transform and its losses take for paths and targets, and what they say to wrong ones."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor, taylor_signals
from tests.support.jtfs_helpers import OPTIONS, SMALL, assert_near, noise

PATHS: list[Any] = [
    [9, 2, 2],
    (9, 2, 2),
    np.array([9, 2, 2]),
    np.array([9, 2, 2], dtype=np.uint8),
    np.array([9, 2, 2], dtype=object),
    torch.tensor([9, 2, 2]),
    torch.tensor([9, 2, 2], dtype=torch.int16),
    [np.int64(9), torch.tensor(2), 2],
]
RANGES: list[Any] = [range(9, 1, -7), np.arange(9, 1, -7), torch.tensor([9, 2]), [9, 2]]


@pytest.fixture(scope="module")
def jtfs() -> JTFSPath:
    return JTFSPath(**SMALL)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return noise(2, 512, dtype=torch.float32)


@pytest.fixture(scope="module")
def y() -> Tensor:
    return noise(2, 512, seed=1, dtype=torch.float32)


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("paths", PATHS, ids=lambda paths: f"{type(paths).__name__} {getattr(paths, 'dtype', '')}")
def test_several_paths_of_any_kind(jtfs: JTFSPath, x: Tensor, y: Tensor, paths: Any) -> None:
    loss_fn, single = JTFSPathLoss(jtfs), [jtfs(x, p) for p in (9, 2, 2)]
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(jtfs.select(x, paths), single, strict=True))
    assert same(jtfs.select(jtfs.first_layer(x, paths), paths), jtfs.select(x, [9, 2, 2]))
    pairs = [phi for pair in jtfs.select_pairs(x, y, paths) for phi in pair]
    assert same(pairs, [phi for pair in jtfs.select_pairs(x, y, [9, 2, 2]) for phi in pair])
    expected = loss_fn(x, y, [9, 2, 2], weights=[1.0, 2.0, 3.0])
    for weights in ([1.0, 2.0, 3.0], np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])):
        assert torch.equal(loss_fn(x, y, paths, weights), expected)
    assert same(loss_fn.prepare(y).coefficients(paths), loss_fn.prepare(y).coefficients([9, 2, 2]))


@pytest.mark.parametrize("paths", RANGES, ids=lambda paths: type(paths).__name__)
def test_several_paths_of_series(jtfs: JTFSPath, y: Tensor, paths: Any) -> None:
    loss_fn = JTFSPathLoss(jtfs)
    theta = torch.full((2, 1), 0.5)
    series = PathTaylor(loss_fn, lambda t: t * torch.sin(torch.arange(512) * t), theta, y, paths)
    assert [p for p, *_ in series.iter_derivatives(paths)] == [9, 2]
    with pytest.raises(ValueError, match="does not serve path 3"):
        series.derivatives(3)
    assert torch.equal(loss_fn(y.flip(0), y, paths), loss_fn(y.flip(0), y, [9, 2]))


@pytest.mark.parametrize("weight", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_one_weight_for_all(jtfs: JTFSPath, x: Tensor, y: Tensor, weight: Any) -> None:
    loss_fn = JTFSPathLoss(jtfs)
    assert torch.equal(loss_fn(x, y, [3, 9], weight), loss_fn(x, y, [3, 9], [0.5, 0.5]))


@pytest.mark.parametrize(
    "paths",
    [
        np.array([1.0, 2.0]),
        np.array([[1, 2]]),
        np.array([True, False]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([[1, 2]]),
        torch.tensor([True, False]),
        torch.empty(2, dtype=torch.long, device="meta"),
        "12",
        b"12",
        {1: 2},
        [[1, 2]],
        [1.0],
    ],
)
def test_what_are_no_paths(jtfs: JTFSPath, x: Tensor, paths: Any) -> None:
    loss_fn = JTFSPathLoss(jtfs)
    for call in (
        lambda: jtfs.select(x, paths),
        lambda: jtfs.first_layer(x, paths),
        lambda: loss_fn(x, x, paths),
        lambda: loss_fn.prepare(x).coefficients(paths),
    ):
        with pytest.raises(TypeError, match=r"Invalid path_i(dx|ndices): .*; expected"):
            call()


@pytest.mark.parametrize("paths", [np.array([0, 21]), torch.tensor([0, -1]), range(22)])
def test_paths_out_of_range(jtfs: JTFSPath, x: Tensor, paths: Any) -> None:
    assert jtfs.n_paths == 21
    for call in (lambda: jtfs.select(x, paths), lambda: JTFSPathLoss(jtfs)(x, x, paths)):
        with pytest.raises(IndexError, match=f"{'-1' if paths[1] == -1 else '21'}"):
            call()


@pytest.mark.parametrize("paths", [[], (), np.array([]), np.array([], dtype=int), torch.tensor([]), range(0)])
def test_no_paths_at_all(jtfs: JTFSPath, x: Tensor, paths: Any) -> None:
    assert jtfs.select(x, paths) == []
    with pytest.raises(ValueError, match="an empty sequence; expected at least one path"):
        JTFSPathLoss(jtfs)(x, x, paths)


@pytest.mark.parametrize("paths", [[1, 2], np.array([1]), torch.tensor([1]), range(3)])
def test_several_paths_where_one_is_taken(jtfs: JTFSPath, x: Tensor, paths: Any) -> None:
    with pytest.raises(
        TypeError, match=r"integer from 0 to 20; for several paths: jtfs\.select\(x, path_indices\)"
    ):
        jtfs(x, paths)
    series = PathTaylor(JTFSPathLoss(jtfs), lambda t: t * x[:, :512], torch.ones(2, 1), x, [1, 2])
    with pytest.raises(TypeError, match=r"for several paths: iter_derivatives\(paths\)"):
        series.derivatives(paths)


def test_no_path_named(jtfs: JTFSPath, x: Tensor) -> None:
    loss_fn = JTFSPathLoss(jtfs)
    for call in (lambda: loss_fn(x, x), lambda: loss_fn(x, x, None), lambda: loss_fn(x, x, weights=1.0)):
        with pytest.raises(TypeError, match=r"loss_fn\(x, target, sampler\(step\)\); .* loss_fn\.full\(x, target"):
            call()
    for call in (lambda: jtfs(x), lambda: jtfs(x, path_idx=None)):
        with pytest.raises(TypeError, match=r"jtfs\(x, path_idx\); .* jtfs\.full\(x\)"):
            call()


SWAPPED = "it requires a gradient and x does not; .* swap them, or pass target.detach"


def test_swapped_arguments(jtfs: JTFSPath, x: Tensor, y: Tensor) -> None:
    loss_fn, prediction = JTFSPathLoss(jtfs), x.clone().requires_grad_()
    assert loss_fn(prediction, y, 3).requires_grad
    for call in (
        lambda: loss_fn(y, prediction, 3),
        lambda: loss_fn(y, 2 * prediction, [3, 5]),
        lambda: loss_fn.full(y, prediction),
        lambda: jtfs.select_pairs(y, prediction, [3]),
    ):
        with pytest.raises(ValueError, match=SWAPPED):
            call()
    with pytest.raises(TypeError, match=r"Invalid x: a PreparedTarget; .* loss_fn\(x, target, path_idx\)"):
        loss_fn(loss_fn.prepare(y), prediction, 3)


def test_targets_with_gradients_that_nobody_asks_for(jtfs: JTFSPath, x: Tensor, y: Tensor) -> None:
    """No gradient at all, gradients of both, and derivatives that do not show in requires_grad."""
    loss_fn, learned = JTFSPathLoss(jtfs), y.clone().requires_grad_()
    expected = loss_fn(x, y, 3)
    with torch.no_grad():
        assert torch.equal(loss_fn(x, learned, 3), expected)
    with torch.inference_mode():
        assert torch.equal(loss_fn(x, learned, 3), expected)
    assert torch.equal(loss_fn(x, learned.detach(), 3), expected)
    assert torch.equal(loss_fn(x, loss_fn.prepare(learned), 3), loss_fn(x, loss_fn.prepare(y), 3))
    prediction = x.clone().requires_grad_()
    loss_fn(prediction, learned, 3).backward()
    assert learned.grad is None
    gradient = torch.func.grad(lambda s: loss_fn(s, learned, 3))(x)
    assert prediction.grad is not None
    assert_near(gradient.detach(), prediction.grad, 1e-5)
    along = torch.func.jvp(lambda s: loss_fn(s, learned, 3), (x,), (y,))[1]
    torch.testing.assert_close(along.detach(), (gradient * y).sum().detach())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, y)
        tangent = torch.autograd.forward_ad.unpack_dual(loss_fn(dual, learned, 3)).tangent
    torch.testing.assert_close(tangent, along.detach())


@pytest.mark.parametrize(
    ("transform", "given", "remedy"),
    [
        (torch.float32, torch.float64, "{}.float(), or else the transform with jtfs.to(torch.float64)"),
        (torch.float64, torch.float32, "{}.double(), or else the transform with jtfs.to(torch.float32)"),
    ],
)
def test_signals_of_another_dtype(transform: torch.dtype, given: torch.dtype, remedy: str) -> None:
    jtfs = JTFSPath(**SMALL).to(transform)
    loss_fn = JTFSPathLoss(jtfs)
    fit, unfit = noise(2, 512).to(transform), noise(2, 512).to(given)
    invalid = (
        f"Invalid {{}}: {given} on cpu; expected {transform} on cpu, as the transform; convert it with {remedy}"
    )

    def message(name: str) -> str:
        return re.escape(invalid.format(name, name))

    for call in (lambda: jtfs(unfit, 3), lambda: jtfs.full(unfit), lambda: loss_fn(unfit, fit, 3)):
        with pytest.raises(ValueError, match=message("x")):
            call()
    theta = torch.ones(2, 1, dtype=transform)
    for call in (lambda: loss_fn(fit, unfit, 3), lambda: PathTaylor(loss_fn, lambda t: t * fit, theta, unfit)):
        with pytest.raises(ValueError, match=message("target")):
            call()
    with pytest.raises(ValueError, match=message("synth(theta)")):
        PathTaylor(loss_fn, lambda t: t.to(given) * unfit, theta, fit)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(512), "x: ndarray; expected a torch.Tensor; use torch.as_tensor"),
        ([0.0] * 512, "x: list; expected a torch.Tensor; use torch.as_tensor"),
        ("x.wav", r"Invalid x: str; expected a torch\.Tensor$"),
        (None, r"Invalid x: NoneType; expected a torch\.Tensor$"),
    ],
)
def test_what_is_no_signal(jtfs: JTFSPath, x: Tensor, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        jtfs(value, 3)
    with pytest.raises(TypeError, match=message):
        JTFSPathLoss(jtfs)(value, x, 3)
    with pytest.raises(TypeError, match="Invalid x: a FirstLayer"):
        jtfs.select_pairs(jtfs.first_layer(x), x, [3])  # type: ignore[arg-type]


def replica(module: Any) -> Any:
    """A copy as DataParallel makes one: a shallow one, of modules below as well."""
    copied = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        copied._modules[name] = child._replicate_for_data_parallel()
    return copied


def averaged(module: Any) -> Any:
    return torch.optim.swa_utils.AveragedModel(module).module


def anew(module: Any) -> Any:
    settings = {"n_samples": 512, "J": 5, "Q": [4, 1], "J_fr": 2, "T": 32.0, "F": 4, "sample_rate": 8000}
    jtfs = JTFSPath(**{**settings, **(OPTIONS if module.jtfs.smoothing else {})})
    return JTFSPathLoss(jtfs, log1p_eps=1e-3)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "replica": replica,
    "average": averaged,
    "anew": anew,
    "there and back": lambda module: copy.deepcopy(module).double().float(),
}


@pytest.mark.parametrize("options", [dict(), OPTIONS], ids=["plain", "options"])
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_take_targets_and_first_layers(
    copied: Callable[[Any], Any], options: dict, x: Tensor, y: Tensor
) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL, **options), log1p_eps=1e-3)
    other = copied(loss_fn)
    expected = [loss_fn(x, loss_fn.prepare(y), p) for p in (3, 8)]
    for first, second in ((loss_fn, other), (other, loss_fn)):
        target, layer = first.prepare(y), first.jtfs.first_layer(x)
        assert torch.equal(second(x, target, 3), expected[0])
        assert torch.equal(first(x, target, 8), expected[1])
        assert torch.equal(second(x, target, 8), expected[1])
        assert same(second.jtfs.full(layer), loss_fn.jtfs.full(x))
    theta, paths = torch.full((2, 1), 0.5), [3, 8]

    def synth(theta: Tensor) -> Tensor:
        return theta * torch.sin(torch.arange(512) * theta)

    found = PathTaylor(other, synth, theta, loss_fn.prepare(y), paths).derivatives(8)
    assert same(list(found), list(PathTaylor(loss_fn, synth, theta, loss_fn.prepare(y), paths).derivatives(8)))


def test_a_copied_target_serves_the_original(x: Tensor, y: Tensor) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL))
    target = loss_fn.prepare(y)
    expected = loss_fn(x, target, 3)
    for copied in (copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
        assert torch.equal(loss_fn(x, copied, 3), expected)
        assert torch.equal(loss_fn(x, copied, 5), loss_fn(x, target, 5))
    assert repr(target) == "PreparedTarget(shape=(2, 512), 2 of 21 paths computed)"


def test_a_target_follows_whoever_comes(x: Tensor, y: Tensor) -> None:
    """A copy of another dtype has its numbers computed anew, from the signals as they were given."""
    single = JTFSPathLoss(JTFSPath(**SMALL))
    double = copy.deepcopy(single).double()
    exact = noise(2, 512, seed=1)
    target = single.prepare(exact)
    for _ in range(2):
        assert torch.equal(single(x, target, 3), single(x, single.prepare(exact.float()), 3))
        assert torch.equal(double(x.double(), target, 3), double(x.double(), double.prepare(exact), 3))


OTHERS: dict[str, dict[str, Any]] = {
    "n_samples=512 there and 500 here": dict(n_samples=500),
    "J=5 there and 4 here": dict(J=4, T=32),
    r"Q=\(4, 1\) there and \(5, 1\) here": dict(Q=5),
    "J_fr=2 there and 1 here": dict(J_fr=1, F=4),
    "Q_fr=1 there and 2 here": dict(Q_fr=2),
    "T=32 there and 16 here": dict(T=16),
    "T=32 there and 'global' here": dict(T="global"),
    "F=4 there and 0 here": dict(F=0),
    r"orders=\(2,\) there and \(1, 2\) here": dict(orders=(1, 2)),
    "samples_per_bandwidth=None there and 2 here": dict(samples_per_bandwidth=2),
    r"smoothing=0\.0 there and 0\.01 here": dict(smoothing=0.01),
}


@pytest.mark.parametrize(("message", "change"), OTHERS.items(), ids=[str(change) for change in OTHERS.values()])
def test_others_are_refused_by_name(message: str, change: dict[str, Any], y: Tensor) -> None:
    loss_fn, other = JTFSPathLoss(JTFSPath(**SMALL)), JTFSPathLoss(JTFSPath(**{**SMALL, **change}))
    n = other.jtfs.geometry.n_samples
    target, layer = loss_fn.prepare(y), loss_fn.jtfs.first_layer(y)
    prepared = f"prepared by another transform: {message}; .* prepare it with this loss"
    with pytest.raises(ValueError, match=prepared):
        other(y[:, :n], target, 1)
    with pytest.raises(ValueError, match=prepared):
        PathTaylor(other, lambda t: t * y[:, :n], torch.ones(2, 1), target)
    with pytest.raises(ValueError, match=f"of another transform, or before .*: {message}"):
        other.jtfs(layer, 1)
    target.coefficients([0])  # of use as before


def test_differences_are_named_together(y: Tensor) -> None:
    layer = JTFSPath(**SMALL).first_layer(y)
    with pytest.raises(ValueError, match=r": J_fr=2 there and 1 here, F=4 there and 2 here, dtype=torch\.float"):
        JTFSPath(**{**SMALL, "J_fr": 1}).double()(layer, 1)


def test_settings_show(jtfs: JTFSPath) -> None:
    shown = repr(
        JTFSPathLoss(JTFSPath(**SMALL, T="global", F=0, sample_rate=16000), log1p_eps=1e-3, squared=False)
    )
    for setting in (
        "p=2, squared=False, log1p_eps=0.001, relative_eps=None, path_scale=True, reduction='mean'",
        "n_samples=512, J=5, Q=(4, 1), J_fr=2, Q_fr=1, T='global', F=0, sample_rate=16000, orders=(2,)",
    ):
        assert setting in shown
    assert "T=32, F=4, sample_rate=1, " in repr(jtfs)


@pytest.mark.parametrize("options", [dict(), dict(orders=(1, 2)), dict(smoothing=1e-2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("channels", [(1,), (2,), (2, 3)])
def test_series_of_several_channels(channels: tuple[int, ...], reduction: Any, options: dict[str, Any]) -> None:
    """(B, ..., N), as everything else takes: the controls of an example are those of all its channels."""
    jtfs = JTFSPath(**SMALL, **options).double()
    loss_fn = JTFSPathLoss(jtfs, reduction=reduction)
    gains = 1 + noise(*channels, 1).abs()
    theta, target = torch.rand(3, 2, dtype=torch.float64), noise(3, *channels, 512)

    def synth(theta: Tensor) -> Tensor:
        time = torch.arange(512, dtype=torch.float64)
        loudness, pitch = (theta[:, u].reshape(-1, *[1] * (len(channels) + 1)) for u in range(2))
        return gains * loudness.exp() * torch.sin((0.2 + pitch * gains) * time)

    assert taylor_signals(synth, theta).shape == (6, 3, *channels, 512)
    for given in (target, loss_fn.prepare(target)):
        series = PathTaylor(loss_fn, synth, theta, given, [1, 8])
        for p in (1, 8):
            slope, hessian = series.derivatives(p)
            controls = theta.clone().requires_grad_()
            (first,) = torch.autograd.grad(loss_fn(synth(controls), target, p), controls, create_graph=True)
            rows = [torch.autograd.grad(first[:, u].sum(), controls, retain_graph=True)[0] for u in range(2)]
            torch.testing.assert_close(slope, first.detach(), rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(hessian, torch.stack(rows, 1), rtol=1e-8, atol=1e-9)


def test_targets_and_sounds_of_unlike_shapes() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL))
    y, theta = torch.ones(3, 512), torch.ones(3, 1)
    for sounds, target in ((y, y[:, None]), (y[:, None], y), (y[:, None], y[:, None, None])):
        with pytest.raises(ValueError, match=r"Invalid target: .* both \(B, N\), or .*; .* squeeze\(1\)"):
            PathTaylor(loss_fn, lambda t, s=sounds: s * t.reshape(-1, *[1] * (s.ndim - 1)), theta, target)
    with pytest.raises(ValueError, match=r"Invalid target: .* both \(B, \.\.\., N\)$"):
        PathTaylor(loss_fn, lambda t: t[..., None] * torch.ones(3, 2, 512), theta, y)
    for target in (y[0], y[:2], y[:, 1:], y[None], y[:, :, None]):
        with pytest.raises(ValueError, match=r"target: .*\(B, N\) or \(B, \.\.\., N\) with B = 3 and N = 512"):
            PathTaylor(loss_fn, lambda t: t * y, theta, target)


def test_signals_and_targets_of_unlike_shapes(jtfs: JTFSPath, x: Tensor) -> None:
    loss_fn = JTFSPathLoss(jtfs)
    for given, target, remedy in (
        (
            x[:, None],
            x,
            r"\(2, 512\); expected \(2, 1, 512\), .*; reshape one to the other, e\.g\. with squeeze\(1\)",
        ),
        (x, x[None], r"\(1, 2, 512\); expected \(2, 512\), .*; reshape"),
        (x, x[0], r"\(512,\); expected \(2, 512\), .*; expand the target to the batch of x"),
        (x, x[:, None].expand(2, 2, 512), r"\(2, 2, 512\); expected \(2, 512\), .*; expand"),
    ):
        for call in (
            lambda a=given, b=target: loss_fn(a, b, 3),
            lambda a=given, b=target: loss_fn(a, loss_fn.prepare(b), 3),
            lambda a=given, b=target: jtfs.select_pairs(a, b, [3]),
        ):
            with pytest.raises(ValueError, match=f"Invalid target: shape {remedy}"):
                call()
