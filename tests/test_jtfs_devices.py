"""The transform off the CPU, for which "meta" stands in: shapes, moves there and back, foreign defaults."""

from __future__ import annotations

import ast
import copy
import io
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor

import scrapl_jtfs
from scrapl_jtfs import JTFSPath, JTFSPathLoss, PathTaylor, draw_distribution
from tests.support.foreign_defaults import default_device, every_foreign_default
from tests.support.jtfs_helpers import OPTIONS, SMALL, noise

# Short signals on purpose, whose averages hear reflections.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")


@st.composite
def transforms(draw: st.DrawFn) -> JTFSPath:
    jtfs = JTFSPath(
        draw(st.sampled_from([256, 500, 4096])),
        J=draw(st.sampled_from([5, 6])),
        Q=draw(st.sampled_from([(2, 1), (4, 2), 3])),
        J_fr=draw(st.sampled_from([1, 2])),
        Q_fr=draw(st.sampled_from([1, 2])),
        T=draw(st.sampled_from([None, 0, "global", 1, 20])),
        F=draw(st.sampled_from([None, 0, "global", 1])),
        orders=draw(st.sampled_from([(1,), (2,), (1, 2)])),
        samples_per_bandwidth=draw(st.sampled_from([None, 1, 2.5])),
        smoothing=draw(st.sampled_from([0.0, 1e-4])),
        memory=draw(st.sampled_from([None, 1, 50_000])),
    )
    return jtfs.double() if draw(st.booleans()) else jtfs


def on_meta(jtfs: JTFSPath) -> JTFSPath:
    return copy.deepcopy(jtfs).to("meta")


def like(x: Tensor) -> tuple[torch.Size, torch.dtype]:
    return x.shape, x.dtype


@settings(max_examples=25, deadline=None)
@given(transforms(), st.sampled_from([(), (2,), (2, 1, 3)]))
def test_coefficients_on_meta_have_the_shapes_of_real_ones(jtfs: JTFSPath, batch: tuple[int, ...]) -> None:
    x = torch.zeros(*batch, jtfs.geometry.n_samples, dtype=jtfs.dtype)
    meta, empty = on_meta(jtfs), x.to("meta")
    real, shapes = jtfs.full(x), meta.full(empty)
    assert list(map(like, shapes)) == list(map(like, real))
    assert all(phi.is_meta for phi in shapes)
    some = [0, jtfs.n_paths // 2, jtfs.n_paths - 1]
    layer = meta.first_layer(empty, some)
    for p in some:
        assert like(meta(empty, p)) == like(meta(layer, p)) == like(real[p])
    assert [(p, like(phi)) for p, phi in meta.stream(empty)] == [(p, like(phi)) for p, phi in enumerate(real)]


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("distance", [dict(), dict(p=1.5, log1p_eps=1e-3), dict(squared=False)])
@pytest.mark.parametrize("options", [dict(), OPTIONS, dict(T="global", F=0)])
def test_losses_on_meta_have_the_shapes_of_real_ones(
    reduction: Any, distance: dict[str, Any], options: dict[str, Any]
) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL, **options), reduction=reduction, **distance)
    x, y = noise(2, 3, 512, dtype=torch.float32), noise(2, 3, 512, seed=1, dtype=torch.float32)
    expected = loss_fn(x, y, [1, 5])
    loss_fn.to("meta")
    empty = x.to("meta").requires_grad_()
    assert like(loss_fn.full(empty, y.to("meta"))) == like(expected)
    for target in (y.to("meta"), loss_fn.prepare(y.to("meta")), loss_fn.prepare(y)):
        loss = loss_fn(empty, target, [1, 5])
        assert like(loss) == like(expected)
        (gradient,) = torch.autograd.grad(loss.sum(), empty, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), empty)
        assert like(gradient) == like(second) == like(x)
        assert gradient.is_meta


@pytest.mark.parametrize("options", [dict(), OPTIONS])
def test_derivatives_on_meta_have_the_shapes_of_real_ones(options: dict[str, Any]) -> None:
    jtfs, x = JTFSPath(**SMALL, **options), noise(3, 512, dtype=torch.float32)
    meta, empty = on_meta(jtfs), x.to("meta")
    results = [
        (
            torch.func.vmap(lambda s, f=f: f(s, 3))(signals),
            torch.func.jvp(lambda s, f=f: f(s, 3), (signals,), (signals,))[1],
            torch.func.grad(lambda s, f=f: f(s, 3).sum())(signals),
        )
        for f, signals in ((jtfs, x), (meta, empty))
    ]
    assert list(map(like, results[1])) == list(map(like, results[0]))

    def synth(theta: Tensor) -> Tensor:
        return theta[:, :1] * torch.sin(theta[:, 1:] * torch.arange(512, device=theta.device))

    loss_fn = JTFSPathLoss(meta)
    series = PathTaylor(loss_fn, synth, torch.ones(3, 2, device="meta"), empty, [1, 4])
    slope, hessian = series.derivatives(4)
    assert like(slope) == ((3, 2), torch.float32)
    assert like(hessian) == ((3, 2, 2), torch.float32)


def test_shapes_on_meta_take_no_memory() -> None:
    """A million signals, whose scalograms are terabytes in all."""
    meta = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3).to("meta")
    coefficients = meta(torch.empty(10**6, 4096, device="meta"), 40)
    assert coefficients.shape[0] == 10**6
    assert coefficients.is_meta


@pytest.mark.parametrize("options", [dict(), OPTIONS])
@pytest.mark.parametrize("back", [dict(device="cpu"), dict(device="cpu", dtype=torch.float64)])
def test_there_and_back_changes_nothing(options: dict[str, Any], back: dict[str, Any]) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL, **options))
    x, y = noise(2, 512), noise(2, 512, seed=1)
    prepared = loss_fn.prepare(y)
    dtype = back.get("dtype", torch.float32)
    fresh = JTFSPathLoss(JTFSPath(**SMALL, **options)).to(dtype)
    x = x.to(dtype)
    loss_fn(x.float(), prepared, 3)
    loss_fn.to("meta")
    assert all(buffer.is_meta for buffer in loss_fn.jtfs.buffers())
    assert loss_fn(x.to("meta", torch.float32), prepared, 3).is_meta
    loss_fn.to(**back)
    assert all(map(torch.equal, loss_fn.jtfs.full(x), fresh.jtfs.full(x)))
    assert torch.equal(loss_fn(x, prepared, 3), fresh(x, fresh.prepare(y), 3))


def test_a_change_of_dtype_on_meta_stays_there() -> None:
    meta = JTFSPath(**SMALL).to("meta").double()
    assert (meta.dtype, meta.device.type) == (torch.float64, "meta")
    assert meta(torch.empty(512, dtype=torch.float64, device="meta"), 3).dtype == torch.float64


def test_parameters_beside_the_transform_keep_torchs_error() -> None:
    """Their numbers are lost on meta, and no constants bring them back."""

    class Learned(JTFSPath):
        def __init__(self) -> None:
            super().__init__(**SMALL)
            self.gain = torch.nn.Parameter(torch.ones(3))

    learned = Learned().to("meta")
    with pytest.raises(NotImplementedError, match="to_empty"):
        learned.to("cpu")


@every_foreign_default
def test_foreign_defaults_change_nothing(foreign: Callable[[], AbstractContextManager[object]]) -> None:
    for options in (dict(), OPTIONS):
        loss_fn = JTFSPathLoss(JTFSPath(**SMALL, **options), p=1.5, squared=False, log1p_eps=1e-3)
        expected = everything(loss_fn)
        with foreign():
            found = everything(loss_fn)
            found += everything(copy.deepcopy(loss_fn))
            found += everything(pickle.loads(pickle.dumps(loss_fn)))
        expected *= 3
        assert all(x.device.type == "cpu" for x in found)
        assert [x.dtype for x in found] == [x.dtype for x in expected]
        assert all(map(torch.equal, found, expected))


def everything(loss_fn: JTFSPathLoss) -> list[Tensor]:
    """What a program does with a transform, on the CPU and in its own dtype, whatever the defaults."""
    jtfs = loss_fn.jtfs
    generator = torch.Generator("cpu").manual_seed(0)
    x, y = torch.randn(2, 2, 512, generator=generator, device="cpu", dtype=torch.float32)
    x.requires_grad_()
    results = [*jtfs.select(x, [0, 3, jtfs.n_paths - 1]), *jtfs.full(jtfs.first_layer(x.detach()))]
    for target in (y, loss_fn.prepare(y)):
        loss = loss_fn(x, target, [3, 5], weights=[1.0, 2.0])
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        results += [loss, gradient, *torch.autograd.grad(gradient.square().sum(), x)]
        results += [loss_fn.full(x, target)]
    time = torch.arange(512, device="cpu", dtype=torch.float32)
    theta = torch.full((2, 2), 0.5, device="cpu", dtype=torch.float32)
    series = PathTaylor(loss_fn, lambda t: t[:, :1] * torch.sin((0.1 + t[:, 1:]) * time), theta, y, [3, 5])
    results += [number for _, *numbers in series.iter_derivatives([3, 5]) for number in numbers]
    moved = copy.deepcopy(loss_fn).double()
    results += [moved(x.detach().double(), y.double(), 3), moved.float()(x.detach(), y, 3)]
    pi = torch.full((jtfs.n_paths,), 1 / jtfs.n_paths, device="cpu", dtype=torch.float64)
    if any(path.order == 2 for path in jtfs.paths):
        draw_distribution(Figure().subplots(), jtfs.paths, pi)
    return [result.detach() for result in results]


@pytest.mark.parametrize("context", [lambda: torch.device("meta"), lambda: default_device("meta")])
def test_built_under_a_default_device(context: Callable[[], AbstractContextManager[object]]) -> None:
    x = noise(512, dtype=torch.float32)
    expected = JTFSPath(**SMALL)(x, 3)
    with context():
        jtfs = JTFSPath(**SMALL)
        assert {buffer.device.type for buffer in jtfs.buffers()} == {"meta"}
        assert jtfs(torch.empty(512), 3).shape == expected.shape
        jtfs.to("cpu")
        assert torch.equal(jtfs(x, 3), expected)
    assert torch.equal(copy.deepcopy(jtfs)(x, 3), expected)


@pytest.mark.parametrize("options", [dict(), OPTIONS])
def test_loaded_to_another_device(options: dict[str, Any]) -> None:
    """map_location moves all tensors of a pickle, exact constants as well, which belong to the CPU."""
    jtfs, x = JTFSPath(**SMALL, **options), noise(512, dtype=torch.float32)
    file = io.BytesIO()
    torch.save(jtfs, file)
    file.seek(0)
    loaded = torch.load(file, map_location="meta", weights_only=False)
    assert loaded.device.type == "meta"
    assert loaded(x.to("meta"), 3).shape == jtfs(x, 3).shape
    assert torch.equal(loaded.to("cpu")(x, 3), jtfs(x, 3))
    assert torch.equal(loaded.double()(x.double(), 3), JTFSPath(**SMALL, **options).double()(x.double(), 3))


@pytest.mark.parametrize(
    ("x", "device", "message"),
    [
        (torch.zeros(512, device="meta"), "cpu", r"no samples, for which jtfs\.to\('meta'\) gives the shapes"),
        (
            torch.zeros(512),
            "meta",
            r"expected torch\.float32 on meta, .* x\.to\('meta'\), or else .*jtfs\.to\('cpu'",
        ),
        (torch.zeros(512, dtype=torch.float64), "meta", r"x\.to\('meta', torch\.float32\)"),
    ],
)
def test_signals_elsewhere(x: Tensor, device: str, message: str) -> None:
    jtfs = JTFSPath(**SMALL).to(device)
    with pytest.raises(ValueError, match=message):
        jtfs(x, 3)
    y = torch.zeros(512, device=device)
    with pytest.raises(ValueError, match=message.replace("x\\.to", "target\\.to")):
        JTFSPathLoss(jtfs)(y, x, 3)


def test_a_target_on_meta_has_nothing_to_prepare() -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**SMALL))
    with pytest.raises(ValueError, match=r"Invalid target: shape \(512,\) on the meta device"):
        loss_fn.prepare(torch.zeros(512, device="meta"))
    loss_fn.to("meta")
    prepared = loss_fn.prepare(torch.zeros(512, device="meta"))
    loss_fn.to("cpu")
    with pytest.raises(ValueError, match=r"Invalid target: shape \(512,\) on the meta device"):
        loss_fn(torch.zeros(512), prepared, 3)


def test_no_tensor_is_made_without_a_device() -> None:
    """What is made while a signal is transformed comes from one that has its device (new_zeros, zeros_like)."""
    makers = "tensor as_tensor zeros ones empty full arange linspace eye rand randn triu_indices tril_indices"
    found = []
    package = Path(scrapl_jtfs.__file__).parent
    for file in sorted((*package.glob("*.py"), *package.glob("_transform/**/*.py"))):
        found += [f"{file.name}: {call}" for call in calls_without_device(file.read_text(), makers)]
    # Constructors of transforms ask for the default device.
    assert found == ["path_transform.py: torch.empty(0)"] * 2


def calls_without_device(source: str, makers: str) -> list[str]:
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) in {f"torch.{maker}" for maker in makers.split()}
        and not any(keyword.arg == "device" for keyword in node.keywords)
    ]
