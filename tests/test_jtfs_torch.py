"""The transform under PyTorch's own modes: torch.func, autocast, compile, copies; and its options' errors."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scrapl_jtfs import SCRAPL, JTFSPath, JTFSPathLoss
from tests.support.jtfs_helpers import BOTH_ORDERS, TINY, assert_all_near, assert_near, noise, value_and_gradient

# Short signals on purpose, whose averages hear reflections.
pytestmark = pytest.mark.filterwarnings("ignore:T = .* is more than an eighth")

OPTIONS: dict[str, Any] = dict(smoothing=1e-5, samples_per_bandwidth=2, memory=100_000)


@pytest.fixture(scope="module", params=[0.0, 0.01], ids=["plain", "smoothed"])
def tiny(request: pytest.FixtureRequest) -> JTFSPath:
    return JTFSPath(**TINY, smoothing=request.param).double()


@pytest.mark.parametrize("path_idx", [0, 5])
def test_vmap_and_jacobians(tiny: JTFSPath, path_idx: int) -> None:
    phi = partial(tiny, path_idx=path_idx)
    x, v = noise(3, 48), noise(3, 48, seed=1)
    assert_near(torch.func.vmap(phi)(x), phi(x), 1e-13)
    wide = x.expand(2, 3, 48)
    assert_near(torch.func.vmap(phi, in_dims=1, out_dims=1)(wide), phi(wide), 1e-13)
    jacobian = torch.autograd.functional.jacobian(phi, x[0])
    assert isinstance(jacobian, Tensor)
    assert_near(torch.func.jacrev(phi)(x[0]), jacobian, 1e-12)
    assert_near(torch.func.jacfwd(phi)(x[0]), jacobian, 1e-12)
    along = torch.func.jvp(phi, (x[0],), (v[0],))[1]
    assert_near(along, jacobian @ v[0], 1e-12)


def test_forward_over_forward_is_refused(tiny: JTFSPath) -> None:
    """torch takes saved tensors of a Function for constants there: the second derivative would lack terms."""
    phi, x, v = partial(tiny, path_idx=5), noise(48), noise(48, seed=1)

    def along(u: Tensor) -> Tensor:
        return torch.func.jvp(phi, (u,), (v,))[1]

    with pytest.raises(RuntimeError, match="expected one of the two in reverse mode"):
        torch.func.jvp(along, (x,), (v,))
    reverse = torch.func.vjp(along, x)[1](torch.ones_like(along(x)))[0] @ v
    step = 1e-5
    differences = ((along(x + step * v) - along(x - step * v)) / (2 * step)).sum()
    assert_near(reverse, differences, 1e-5)


def hessian_vector(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    return torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]


class Energies:
    """Energy of a path, and its loss, with what a loop over signals gives."""

    def __init__(self, jtfs: JTFSPath, path_idx: int) -> None:
        self.jtfs, self.path_idx, self.loss_fn = jtfs, path_idx, JTFSPathLoss(jtfs)
        self.x, self.y, self.v = (noise(3, 48, seed=seed) for seed in range(3))

    def energy(self, x: Tensor) -> Tensor:
        return self.jtfs(x, self.path_idx).square().sum()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss_fn(x, y, self.path_idx)

    def gradients(self) -> Tensor:
        x = self.x.clone().requires_grad_()
        return torch.stack([torch.autograd.grad(self.energy(s), s)[0] for s in x.unbind()])

    def loss_gradients(self) -> Tensor:
        signals = [s.clone().requires_grad_() for s in self.x]
        return torch.stack(
            [torch.autograd.grad(self.loss(a, b), a)[0] for a, b in zip(signals, self.y, strict=True)]
        )


@pytest.fixture(params=[0, 5])
def energies(tiny: JTFSPath, request: pytest.FixtureRequest) -> Energies:
    return Energies(tiny, request.param)


def test_hessian_vector_products_are_finite_differences(energies: Energies) -> None:
    x, v = energies.x[0], energies.v[0]
    step = 1e-6
    ahead, behind = (torch.func.grad(energies.energy)(x + sign * step * v) for sign in (1, -1))
    product = hessian_vector(energies.energy, x, v)
    assert_near(product, (ahead - behind) / (2 * step), 1e-6)
    reverse = torch.func.grad(lambda s: torch.func.grad(energies.energy)(s) @ v)(x)
    assert_near(product, reverse, 1e-10)


def test_gradients_through_vmap(energies: Energies) -> None:
    gradient = torch.func.grad(lambda s: torch.func.vmap(energies.energy)(s).sum())(energies.x)
    assert_near(gradient, energies.gradients(), 1e-11)


def test_vmap_of_gradients(energies: Energies) -> None:
    assert_near(torch.func.vmap(torch.func.grad(energies.energy))(energies.x), energies.gradients(), 1e-11)


def test_vmap_of_hessian_vector_products(energies: Energies) -> None:
    products = [hessian_vector(energies.energy, s, w) for s, w in zip(energies.x, energies.v, strict=True)]
    actual = torch.func.vmap(partial(hessian_vector, energies.energy))(energies.x, energies.v)
    assert_near(actual, torch.stack(products), 1e-10)


def test_vmap_of_losses(energies: Energies) -> None:
    x, y = energies.x.clone().requires_grad_(), energies.y
    losses = torch.func.vmap(energies.loss)(x, y)
    singles = torch.stack([energies.loss(a, b) for a, b in zip(x, y, strict=True)])
    assert_near(losses.detach(), singles.detach(), 1e-12)
    expected = energies.loss_gradients()
    assert_near(torch.func.vmap(torch.func.grad(energies.loss))(x.detach(), y), expected, 1e-11)
    assert_near(torch.autograd.grad(losses.sum(), x)[0], expected, 1e-11)


def test_vmap_of_gradients_of_the_full_tree(tiny: JTFSPath) -> None:
    x = noise(3, 48)

    def energy(s: Tensor) -> Tensor:
        return torch.stack([phi.square().sum() for phi in tiny.full(s)]).sum()

    expected = torch.stack([torch.func.grad(energy)(s) for s in x])
    assert_near(torch.func.vmap(torch.func.grad(energy))(x), expected, 1e-11)


def test_autocast_does_not_change_values() -> None:
    jtfs = JTFSPath(**BOTH_ORDERS, **OPTIONS)
    x = noise(2, 512, dtype=torch.float32)
    expected, gradient = value_and_gradient(jtfs.full, x)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = jtfs.full(x)
        through_layer = jtfs.full(jtfs.first_layer(x))
        assert torch.mm(values[0][0], values[0][0].mT).dtype == torch.bfloat16
    assert {v.dtype for v in values} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(through_layer, expected, strict=True))
    loss = torch.stack([v.square().sum() for v in values]).sum()
    assert torch.equal(torch.autograd.grad(loss, x)[0], gradient)


@pytest.mark.parametrize("create_graph", [False, True])
def test_autocast_does_not_change_gradients(create_graph: bool) -> None:
    jtfs = JTFSPath(**BOTH_ORDERS)
    x = noise(2, 512, dtype=torch.float32).requires_grad_()
    for path_idx in (0, 9):
        loss = jtfs(x, path_idx).square().sum()
        (expected,) = torch.autograd.grad(loss, x, retain_graph=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (gradient,) = torch.autograd.grad(loss, x, create_graph=create_graph)
        assert_near(gradient.detach(), expected, 1e-5)


# Dynamo cannot trace the custom functions: left to itself it fails within them ("'CommonBand' object has no
# attribute 'groups'", "setStorage: out of bounds"), so calls must stay out of its graphs.
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("options", [dict(), dict(smoothing=1e-5)], ids=["plain", "smoothed"])
def test_compiled_loss_steps(backend: str, options: dict) -> None:
    loss_fn = JTFSPathLoss(JTFSPath(**BOTH_ORDERS, **options))
    model = torch.nn.Linear(512, 512)
    x, y = noise(2, 512, dtype=torch.float32), noise(2, 512, seed=1, dtype=torch.float32)
    parameters = list(model.parameters())

    def step(path_idx: int) -> Tensor:
        return loss_fn(model(x), y, path_idx)

    torch._dynamo.reset()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            compiled = torch.compile(step, backend=backend)
            for path_idx in (0, 6, 7, 12):
                actual, expected = compiled(path_idx), step(path_idx)
                assert_near(actual.detach(), expected.detach(), 1e-6)
                gradients = torch.autograd.grad(actual, parameters)
                assert_all_near(list(gradients), list(torch.autograd.grad(expected, parameters)), 1e-5)
        ours = [str(w.message).splitlines()[0] for w in caught if "torch.jit.script" not in str(w.message)]
        assert ours == []
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("method", ["select", "full", "stream", "first_layer"])
def test_compiled_calls(method: str) -> None:
    jtfs = JTFSPath(**TINY)
    calls: dict[str, Callable[[Tensor], list[Tensor]]] = {
        "select": lambda x: jtfs.select(2 * x, [1, 5, 6]),
        "full": lambda x: jtfs.full(2 * x),
        "stream": lambda x: [phi for _, phi in jtfs.stream(2 * x)],
        "first_layer": lambda x: [jtfs(jtfs.first_layer(2 * x), 5)],
    }
    x = noise(2, 48, dtype=torch.float32)
    torch._dynamo.reset()
    try:
        compiled = torch.compile(calls[method], backend="eager")
        values, gradient = value_and_gradient(compiled, x)
        expected, expected_gradient = value_and_gradient(calls[method], x)
    finally:
        torch._dynamo.reset()
    assert_all_near(values, expected, 1e-6)
    assert_near(gradient, expected_gradient, 1e-5)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_keep_their_options(copied: Callable[[JTFSPath], JTFSPath]) -> None:
    jtfs = JTFSPath(**BOTH_ORDERS, **OPTIONS)
    x = noise(2, 512, dtype=torch.float32)
    jtfs(x, 3)
    other = copied(jtfs)
    assert (other.smoothing, other.samples_per_bandwidth, other.memory) == (1e-5, 2, 100_000)
    assert repr(other) == repr(jtfs)
    assert all(torch.equal(a, b) for a, b in zip(other.full(x), jtfs.full(x), strict=True))
    fresh = JTFSPath(**BOTH_ORDERS, **OPTIONS).double()
    # A copy is a module of its own: what becomes of one leaves the other as it was.
    if copied is not copy.copy:
        moved = other.double()
        assert torch.equal(moved(x.double(), 9), fresh(x.double(), 9))
        assert jtfs(x, 9).dtype == torch.float32


@pytest.mark.parametrize("bad", [0.5, 0, -2, "x", True, math.nan, math.inf])
def test_bad_samples_per_bandwidth(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"samples_per_bandwidth: {bad!r}"):
        JTFSPath(**TINY, samples_per_bandwidth=bad)


MAKERS: list[Callable[..., JTFSPath]] = [
    lambda **options: JTFSPath(**TINY, **options),
    lambda **options: JTFSPath.for_sounds(0.5, 8000, (4, 40), **options),
    lambda **options: SCRAPL(**TINY, **options).jtfs,
]


@pytest.mark.parametrize("make", MAKERS)
def test_oversampling_is_the_old_name_of_samples_per_bandwidth(make: Callable[..., JTFSPath]) -> None:
    with pytest.warns(DeprecationWarning, match=r"use .*samples_per_bandwidth") as record:
        jtfs = make(oversampling=2)
    assert repr(jtfs) == repr(make(samples_per_bandwidth=2))
    with pytest.warns(DeprecationWarning, match=r"use .*samples_per_bandwidth") as of_attribute:
        assert jtfs.oversampling == 2
    assert {str(Path(w.filename)) for w in (*record, *of_attribute)} == {__file__}
    with pytest.raises(TypeError, match="given with samples_per_bandwidth, its new name"):
        make(oversampling=2, samples_per_bandwidth=2)
    with pytest.warns(DeprecationWarning, match=r"oversampling=\.\.\.\) is deprecated"):
        assert make(oversampling=None).samples_per_bandwidth is None


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "x", True, None])
def test_bad_smoothing(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"smoothing: {bad!r}"):
        JTFSPath(**TINY, smoothing=bad)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "x", True, math.nan])
def test_bad_memory(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=f"memory: {bad!r}"):
        JTFSPath(**TINY, memory=bad)
