"""PathAdamSAGA against a literal float64 twin of Algorithm 1, torch.optim and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_helpers import (
    SWITCHES,
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from reference_path_adam_saga import ReferencePathAdamSAGA
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
@given(
    paths=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    n_paths=st.integers(5, 9),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.9999)),
    eps=st.sampled_from([0.0, 1e-8, 0.1]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=15, deadline=None)
def test_equals_the_paper(foreach, path_adam, path_saga, paths, n_paths, betas, eps, weight_decay, seed):
    params = make_params(seed)
    shared = {
        "n_paths": n_paths,
        "lr": 0.05,
        "betas": betas,
        "eps": eps,
        "weight_decay": weight_decay,
        "path_adam": path_adam,
        "path_saga": path_saga,
    }
    twins = [ReferencePathAdamSAGA(p.detach().numpy(), **shared) for p in params]
    optimizer = PathAdamSAGA(params, foreach=foreach, **shared)
    for k, path in enumerate(paths):
        set_grads(params, seed + k)
        for twin, p in zip(twins, params, strict=True):
            assert p.grad is not None
            twin.step(path, p.grad.numpy())
        optimizer.step(path_idx=path)
        for twin, p in zip(twins, params, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), twin.w, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("path_adam", [True, False])
def test_memory_is_the_mean_of_stored_updates_after_many_steps(path_adam):
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
    stored = sum(twin.g_hat.values())
    np.testing.assert_allclose(optimizer.state[param]["saga_sum"].numpy(), stored, atol=1e-4)


def test_default_betas_at_the_paper_number_of_paths():
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


@pytest.mark.parametrize("path_saga", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_one_path_is_adamw(path_saga, weight_decay):
    """With eps negligible beside the gradient its place in the root does not matter."""
    ours, theirs = make_params(1), make_params(1)
    optimizer = PathAdamSAGA(ours, 1, lr=0.01, weight_decay=weight_decay, path_saga=path_saga)
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=weight_decay, eps=1e-30)
    for k in range(50):
        set_grads(ours, k)
        set_grads(theirs, k)
        optimizer.step()
        adamw.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert "saga_sum" not in optimizer.state[ours[0]]


def test_eps_is_inside_the_root():
    """At a first visit the update is g / sqrt(eps + g^2)."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 3, lr=1.0, eps=16.0, weight_decay=0.0)
    param.grad = torch.tensor(3.0, dtype=torch.float64)
    optimizer.step(path_idx=2)
    assert param.item() == pytest.approx(-3 / 5, rel=1e-14)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e6])
def test_update_does_not_depend_on_the_scale_in_float32(foreach, scale):
    paths = [*random_paths(315, 60), 3, 4, 3, 4, 4, 4, 3]
    plain, scaled = make_params(2, torch.float32), make_params(2, torch.float32)
    run(PathAdamSAGA(plain, 315, lr=0.01, foreach=foreach), plain, paths)
    run(PathAdamSAGA(scaled, 315, lr=0.01, foreach=foreach), scaled, paths, scale=scale)
    for p, q in zip(plain, scaled, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-6)


def test_power_of_two_scale_is_exact_in_float32():
    paths = random_paths(315, 60)
    plain, scaled = make_params(2, torch.float32), make_params(2, torch.float32)
    run(PathAdamSAGA(plain, 315, lr=0.01), plain, paths)
    run(PathAdamSAGA(scaled, 315, lr=0.01), scaled, paths, scale=2.0**-60)
    assert_bitwise(plain, scaled)


def test_zero_gradients_leave_the_parameter():
    params = make_params(0)
    before = [p.detach().clone() for p in params]
    optimizer = PathAdamSAGA(params, 3, lr=0.1, weight_decay=0.0)
    for path in (0, 1, 0):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step(path_idx=path)
    assert_bitwise(params, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(("path_adam", "path_saga"), SWITCHES)
def test_foreach_agrees_with_the_loop(dtype, path_adam, path_saga):
    results = []
    for foreach in (False, True):
        params = make_params(4, dtype)
        optimizer = PathAdamSAGA(params, 4, lr=0.05, foreach=foreach, path_adam=path_adam, path_saga=path_saga)
        run(optimizer, params, random_paths(4, 20))
        results.append(params)
    for p, q in zip(*results, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_new_eps_applies_to_the_whole_memory():
    params = make_params(5, shapes=[(6,)])
    optimizer = PathAdamSAGA(params, 4, lr=0.01)
    run(optimizer, params, [0, 1, 2, 0])
    optimizer.param_groups[0]["eps"] = 0.5
    run(optimizer, params, [3, 1], first_seed=7)
    state = optimizer.state[params[0]]
    unit = 2.0**32
    memory = (state["exp_avg"] / unit) / (0.5 + state["exp_avg_sq"] / unit**2).sqrt()
    torch.testing.assert_close(state["saga_sum"], memory.sum(0), rtol=1e-10, atol=1e-12)


def test_hyperparameters_are_read_at_every_step():
    params = make_params(5, shapes=[(6,)])
    optimizer = PathAdamSAGA(params, 4, lr=0.0, weight_decay=0.5)
    before = [p.detach().clone() for p in params]
    run(optimizer, params, [0, 1])
    assert_bitwise(params, before)
    optimizer.param_groups[0]["lr"] = 0.1
    run(optimizer, params, [1])
    assert not torch.equal(params[0], before[0])


def test_switches_cannot_change_later():
    params = make_params()
    optimizer = PathAdamSAGA(params, 4)
    run(optimizer, params, [0])
    before = snapshot(optimizer)
    optimizer.param_groups[0]["path_saga"] = False
    with pytest.raises(RuntimeError, match="path_saga=False"):
        run(optimizer, params, [0])
    assert_same_snapshot(optimizer, before)


def test_state_is_two_rows_per_path_and_one_sum():
    (param,) = make_params(shapes=[(10, 3)])
    optimizer = PathAdamSAGA([param], 6)
    run(optimizer, [param], [2])
    sizes = {k: v.numel() for k, v in optimizer.state[param].items() if torch.is_tensor(v)}
    assert sizes == {"step": 6, "exp_avg": 6 * 30, "exp_avg_sq": 6 * 30, "saga_sum": 30}
