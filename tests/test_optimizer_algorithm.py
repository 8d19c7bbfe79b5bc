"""PathAdamSAGA against a literal float64 twin of Algorithm 1, torch.optim and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.reference import ReferencePathAdamSAGA
from tests.support.optimizer_helpers import (
    SWITCHES,
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("path_adam", [True, False])
@given(
    paths=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    n_paths=st.integers(5, 9),
    betas=st.tuples(st.floats(0, 0.99), st.floats(1e-9, 0.9999)) | st.just((0.0, 0.0)),
    eps=st.sampled_from([0.0, 1e-8, 0.1]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    saga=st.sampled_from([0.0, 0.3, 1.0]),
    unbiased=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_equals_the_paper(
    foreach: bool | None,
    path_adam: bool,
    paths: list[int],
    n_paths: int,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    saga: float,
    unbiased: bool,
    seed: int,
) -> None:
    params = make_params(seed)
    shared = {
        "n_paths": n_paths,
        "lr": 0.05,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "path_adam": path_adam,
        "saga": saga,
        "unbiased": unbiased,
    }
    twins = [ReferencePathAdamSAGA(p.detach().numpy(), **shared) for p in params]
    optimizer = PathAdamSAGA(params, foreach=foreach, **shared)
    for k, path in enumerate(paths):
        set_grads(params, seed + k)
        weight = 0.5 + path if unbiased else 1.0
        for twin, p in zip(twins, params, strict=True):
            assert p.grad is not None
            twin.step(path, p.grad.numpy(), weight)
        optimizer.step(path_idx=path, weight=weight)
        for twin, p in zip(twins, params, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), twin.w, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("path_adam", [True, False])
def test_memory_is_the_sum_of_stored_updates_after_many_steps(path_adam: bool) -> None:
    """The running sum must not drift from the sum that the paper takes at every step."""
    n_paths, n_steps = 7, 3000
    param = Parameter(torch.zeros(5))
    optimizer = PathAdamSAGA([param], n_paths, lr=1e-3, weight_decay=0.0, path_adam=path_adam)
    twin = ReferencePathAdamSAGA(np.zeros(5), n_paths, lr=1e-3, path_adam=path_adam)
    for k, path in enumerate(random_paths(n_paths, n_steps)):
        set_grads([param], k)
        assert param.grad is not None
        twin.step(path, param.grad.double().numpy())
        optimizer.step(path_idx=path)
    stored = twin.g_hat.sum(0)
    np.testing.assert_allclose(optimizer.state[param]["saga_sum"].numpy(), stored, atol=1e-5)


def rows_of(state: dict[str, torch.Tensor], key: str, n_paths: int) -> torch.Tensor:
    return torch.stack([state[f"{key}.{path}"] for path in range(n_paths)])


@pytest.mark.parametrize("foreach", [None, True])
@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize(("n_paths", "n_steps"), [(3, 2047), (65, 4000)])
def test_sum_follows_its_rows(foreach: bool | None, path_adam: bool, n_paths: int, n_steps: int) -> None:
    """Few paths: summed again every 1024 steps, many: never. A plain running sum is off by 1e-6 to 4e-6 here."""
    param = Parameter(torch.zeros(64))
    optimizer = PathAdamSAGA([param], n_paths, path_adam=path_adam, foreach=foreach)
    paths = [*range(n_paths), *random_paths(n_paths, n_steps - n_paths)]
    mean = torch.randn(n_paths, 64, generator=torch.Generator().manual_seed(0))
    for k, path in enumerate(paths):
        param.grad = mean[path] + torch.randn(64, generator=torch.Generator().manual_seed(k))
        optimizer.step(path_idx=path)
    state = optimizer.state[param]
    exact = rows_of(state, "update", n_paths).double().sum(0)
    assert (state["saga_sum"] - exact).norm() < 5e-7 * exact.norm()


def test_default_betas_at_the_paper_number_of_paths() -> None:
    n_paths = 315
    params = make_params(3)
    twins = [ReferencePathAdamSAGA(p.detach().numpy(), n_paths, lr=1e-3, weight_decay=0.01) for p in params]
    optimizer = PathAdamSAGA(params, n_paths, lr=1e-3)
    for k, path in enumerate(random_paths(n_paths, 400)):
        set_grads(params, k, 1e-10)
        for twin, p in zip(twins, params, strict=True):
            assert p.grad is not None
            twin.step(path, p.grad.numpy())
        optimizer.step(path_idx=path)
    for twin, p in zip(twins, params, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), twin.w, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("saga", [1.0, 0.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_one_path_is_adamw(saga: float, weight_decay: float) -> None:
    """With eps negligible beside the gradient its place in the root does not matter."""
    ours, theirs = make_params(1), make_params(1)
    optimizer = PathAdamSAGA(ours, 1, lr=0.01, weight_decay=weight_decay, saga=saga)
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=weight_decay, eps=1e-30)
    for k in range(50):
        set_grads(ours, k)
        set_grads(theirs, k)
        optimizer.step()
        adamw.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert "saga_sum" not in optimizer.state[ours[0]]


def test_eps_is_inside_the_root() -> None:
    """At a first visit the update is g / sqrt(eps + g^2)."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 3, lr=1.0, eps=16.0, weight_decay=0.0)
    param.grad = torch.tensor(3.0, dtype=torch.float64)
    optimizer.step(path_idx=2)
    assert param.item() == pytest.approx(-3 / 5, rel=1e-14)


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_update_does_not_depend_on_the_scale_in_float32(foreach: bool | None, storage: str, scale: float) -> None:
    """Low-bit storage rounds values, and those do not depend on the scale but for its own rounding."""
    paths = [*random_paths(315, 60), 3, 4, 3, 4, 4, 4, 3]
    plain, scaled = make_params(2, torch.float32), make_params(2, torch.float32)
    kwargs = {"lr": 0.01, "foreach": foreach, "storage": storage}
    run(PathAdamSAGA(plain, 315, **kwargs), plain, paths)
    run(PathAdamSAGA(scaled, 315, **kwargs), scaled, paths, scale=scale)
    for p, q in zip(plain, scaled, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-6 if storage == "float32" else 2e-3)


@pytest.mark.parametrize("exponent", [-100, -60, 60, 100])
def test_power_of_two_scale_is_exact_in_float32(exponent: int) -> None:
    paths = random_paths(315, 60)
    plain, scaled = make_params(2, torch.float32), make_params(2, torch.float32)
    run(PathAdamSAGA(plain, 315, lr=0.01), plain, paths)
    run(PathAdamSAGA(scaled, 315, lr=0.01), scaled, paths, scale=2.0**exponent)
    assert_bitwise(plain, scaled)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_gradients_may_change_scale_by_any_amount(storage: str) -> None:
    """A first gradient next to nothing, then ordinary ones, then huge ones: the twin knows no units."""
    shape = (64, 70) if storage == "int8" else (5,)
    (param,) = make_params(dtype=torch.float32, shapes=[shape])
    twin = ReferencePathAdamSAGA(param.detach().numpy(), 3, lr=0.01)
    optimizer = PathAdamSAGA([param], 3, lr=0.01, weight_decay=0.0, storage=storage)
    for k, scale in enumerate([1e-30, 1e-30, 1.0, 1.0, 1e15, 1e30, 1.0, 1e-3]):
        set_grads([param], k, scale)
        assert param.grad is not None
        twin.step(k % 2, param.grad.double().numpy())
        optimizer.step(path_idx=k % 2)
    tolerance = 2e-6 if storage == "float32" else 5e-3
    np.testing.assert_allclose(param.detach().numpy(), twin.w, atol=tolerance)


def test_zero_gradients_first_do_not_fix_the_unit() -> None:
    (param,) = make_params(dtype=torch.float32, shapes=[(5,)])
    twin = ReferencePathAdamSAGA(param.detach().numpy(), 2, lr=0.01)
    optimizer = PathAdamSAGA([param], 2, lr=0.01, weight_decay=0.0)
    for k, scale in enumerate([0.0, 0.0, 1e-25, 1e-25]):
        set_grads([param], k, scale)
        assert param.grad is not None
        twin.step(0, param.grad.double().numpy())
        optimizer.step(path_idx=0)
    np.testing.assert_allclose(param.detach().numpy(), twin.w, rtol=1e-5, atol=1e-6)


def test_zero_gradients_leave_the_parameter() -> None:
    params = make_params(0)
    before = [p.detach().clone() for p in params]
    optimizer = PathAdamSAGA(params, 3, lr=0.1, weight_decay=0.0)
    for path in (0, 1, 0):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step(path_idx=path)
    assert_bitwise(params, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(("path_adam", "saga"), SWITCHES)
def test_implementations_agree(dtype: torch.dtype, path_adam: bool, saga: float) -> None:
    results = []
    for foreach in (False, True, None):
        params = make_params(4, dtype)
        optimizer = PathAdamSAGA(params, 4, lr=0.05, foreach=foreach, path_adam=path_adam, saga=saga)
        run(optimizer, params, random_paths(4, 20))
        results.append(params)
    for others in results[1:]:
        for p, q in zip(results[0], others, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_new_eps_acts_from_then_on() -> None:
    """At beta2 = 0 nothing of the old root is left: the update is m / sqrt(eps + g^2) with the new eps."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 3, lr=1.0, betas=(0.0, 0.0), weight_decay=0.0, saga=0.0)
    for eps, expected in ((0.0, -1.0), (16.0, -1.6), (1e-20, -2.6)):
        optimizer.param_groups[0]["eps"] = eps
        param.grad = torch.tensor(3.0, dtype=torch.float64)
        optimizer.step(path_idx=1)
        assert param.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("eps", [1e-6, 1.0, 1e30])
def test_eps_far_above_the_gradient_is_a_plain_gradient_step(eps: float) -> None:
    (param,) = make_params(dtype=torch.float32, shapes=[(5,)])
    optimizer = PathAdamSAGA([param], 3, lr=eps**0.5, eps=eps, weight_decay=0.0)
    before = param.detach().clone()
    set_grads([param], 0, 1e-12)
    assert param.grad is not None
    optimizer.step(path_idx=1)
    torch.testing.assert_close(before - param.detach(), param.grad, rtol=1e-5, atol=3e-7)


def test_hyperparameters_are_read_at_every_step() -> None:
    params = make_params(5, shapes=[(6,)])
    optimizer = PathAdamSAGA(params, 4, lr=0.0, weight_decay=0.5)
    before = [p.detach().clone() for p in params]
    run(optimizer, params, [0, 1])
    assert_bitwise(params, before)
    optimizer.param_groups[0]["lr"] = 0.1
    run(optimizer, params, [1])
    assert not torch.equal(params[0], before[0])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("path_adam", False, "path_adam=False"), ("storage", "bfloat16", "bfloat16"), ("storage", "int8", "int8")],
)
@pytest.mark.parametrize("path", [0, 1])
def test_what_rows_consist_of_cannot_change_later(key: str, value: Any, message: str, path: Any) -> None:
    params = make_params(shapes=[(64, 70)])
    optimizer = PathAdamSAGA(params, 4)
    run(optimizer, params, [0])
    before = snapshot(optimizer)
    optimizer.param_groups[0][key] = value
    with pytest.raises(RuntimeError, match=message):
        run(optimizer, params, [path])
    optimizer.param_groups[0][key] = optimizer.defaults[key]
    assert_same_snapshot(optimizer, before)


def test_strength_of_saga_can_be_scheduled() -> None:
    params = make_params(shapes=[(4,)])
    twin = ReferencePathAdamSAGA(params[0].detach().numpy(), 3, lr=0.1, weight_decay=0.01)
    optimizer = PathAdamSAGA(params, 3, lr=0.1)
    for k, (path, saga) in enumerate([(0, 1.0), (1, 0.5), (0, 0.0), (1, 0.2), (2, 1.0), (0, 1.0)]):
        set_grads(params, k)
        assert params[0].grad is not None
        twin.saga = optimizer.param_groups[0]["saga"] = saga
        twin.step(path, params[0].grad.numpy())
        optimizer.step(path_idx=path)
        np.testing.assert_allclose(params[0].detach().numpy(), twin.w, rtol=1e-10)


def test_a_sum_that_was_never_kept_is_missed() -> None:
    params = make_params(shapes=[(4,)])
    optimizer = PathAdamSAGA(params, 3, saga=0.0)
    run(optimizer, params, [0, 1])
    optimizer.param_groups[0]["saga"] = 0.5
    with pytest.raises(RuntimeError, match=r"saga=0.5 needs the sum over paths"):
        run(optimizer, params, [0])


def test_rows_are_allocated_when_a_path_is_first_drawn() -> None:
    (param,) = make_params(shapes=[(10, 3)])
    optimizer = PathAdamSAGA([param], 6)
    for paths in ([2], [2, 5]):
        run(optimizer, [param], paths)
        sizes = {k: v.numel() for k, v in optimizer.state[param].items()}
        rows = {f"{key}.{path}": 30 for path in paths for key in ("update", "rms")}
        assert sizes == {"step": 6, "scale": 6, "saga_sum": 30, **rows}
