"""The warm-up of each path: the size of its first updates, the count of its visits, and old checkpoints."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.testing import assert_unbiased
from tests.support.optimizer_helpers import assert_bitwise, make_params, random_gradients, run, set_grads
from tests.support.optimizer_variants import every_storage

PATHS = [0, 1, 0, 2, 0, 0, 1, 0]


def made(**kwargs: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(0, torch.float32, [(70, 70), (3,)])
    return PathAdamSAGA(params, 4, **{"lr": 0.01, "path_warmup": 4.0, **kwargs}), params


def counts(optimizer: PathAdamSAGA) -> list[list[int]]:
    return [state["visits"].tolist() for state in optimizer.state.values()]


@every_storage
def test_constant_gradients_grow_by_the_root_of_visits(storage: str) -> None:
    """With a constant gradient P-Adam's update is its sign at any visit: what is left is the factor."""
    param = Parameter(torch.zeros(64, 70))
    options: dict[str, Any] = {"lr": 1.0, "weight_decay": 0.0, "saga": 0.0, "storage": storage}
    optimizer = PathAdamSAGA([param], 2, path_warmup=4, **options)
    sizes = []
    for path in (0, 0, 1, 0, 0, 0, 1):
        before = param.detach().clone()
        param.grad = torch.full_like(param, -1e-12)
        optimizer.step(path_idx=path)
        sizes.append(float((param.detach() - before).mean()))
    expected = [0.5, 0.5**0.5, 0.5, 0.75**0.5, 1.0, 1.0, 0.5**0.5]
    assert sizes == pytest.approx(expected, rel=1e-5 if storage.startswith("float32") else 0.02)


def test_noise_has_one_size_from_the_first_visit_on() -> None:
    """Of gradients without a mean: 1 / sqrt(n0) until n0 visits, where the paper's begins at one."""
    sizes = {}
    for n0 in (0.0, 8.0):
        param = Parameter(torch.zeros(40_000, dtype=torch.float64))
        options: dict[str, Any] = {"betas": (0.9999, 0.9999), "weight_decay": 0.0, "saga": 0.0}
        optimizer = PathAdamSAGA([param], 1, lr=1.0, path_warmup=n0, **options)
        sizes[n0] = []
        for gradient in random_gradients(10, 40_000):
            before = param.detach().clone()
            param.grad = torch.from_numpy(gradient)
            optimizer.step(path_idx=0)
            sizes[n0].append(float((param.detach() - before).square().mean().sqrt()))
    n = np.arange(1, 11)
    # beside a first gradient alone the root of few squares is noisy itself, and its mean inverse larger than one
    np.testing.assert_allclose(sizes[0.0], 1 / np.sqrt(n), rtol=0.15)
    np.testing.assert_allclose(sizes[8.0], 1 / np.sqrt(np.maximum(n, 8)), rtol=0.15)
    assert sizes[0.0][0] == pytest.approx(1.0)


def test_warm_paths_are_the_papers() -> None:
    """From its n0-th visit on a path's g_current is that of the paper: the moments know nothing of the factor."""
    (warm, params), (paper, others) = made(saga=0.0), made(saga=0.0, path_warmup=0)
    for k, path in enumerate([0, 0, 1, 0, 0, 0, 0]):
        before = [[p.detach().clone() for p in ps] for ps in (params, others)]
        for optimizer, ps in ((warm, params), (paper, others)):
            optimizer.param_groups[0]["weight_decay"] = 0.0
            run(optimizer, ps, [path], first_seed=k)
        if k >= 4:
            steps = [
                [b - p for b, p in zip(bs, ps, strict=True)]
                for bs, ps in zip(before, (params, others), strict=True)
            ]
            torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=2e-6)


def test_the_step_is_unbiased_for_what_paths_contribute() -> None:
    """SAGA cancels with the factors, too: the row has the update as it was made."""
    pi = np.array([0.6, 0.3, 0.1])
    param = Parameter(torch.zeros(4, dtype=torch.float64))
    options: dict[str, Any] = {"lr": 1.0, "weight_decay": 0.0, "probs": pi}
    optimizer = PathAdamSAGA([param], 3, path_warmup=5, **options)
    for path, gradient in zip([0, 1, 0, 0], random_gradients(4, 4), strict=True):
        param.grad = torch.from_numpy(gradient)
        optimizer.step(path_idx=path)
    gradients = random_gradients(3, 4, seed=1)

    def update(path: int, saga: float) -> torch.Tensor:
        branch = copy.deepcopy(optimizer)
        branch.param_groups[0]["saga"] = saga
        (copied,) = branch.param_groups[0]["params"]
        copied.grad = torch.from_numpy(gradients[path])
        branch.step(path_idx=path)
        return param.detach() - copied.detach()

    target = sum((pi[p] * update(p, 0.0) for p in range(3)), torch.zeros(4, dtype=torch.float64))
    assert_unbiased(lambda p: update(p, 1.0), pi, target, atol=1e-12)


def test_visits_are_counted_once_for_all_and_only_if_asked_for() -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    assert counts(optimizer) == [[5, 2, 1, 0]] * 2
    first, second = optimizer.state.values()
    assert first["visits"] is second["visits"]
    plain, others = made(path_warmup=0)
    run(plain, others, PATHS)
    assert all("visits" not in state for state in plain.state.values())
    saved = plain.state_dict()
    assert "path_warmup" not in saved["param_groups"][0]
    assert "visits" not in saved["state"][0]


def test_several_draws_of_a_path_in_a_step_are_one_visit() -> None:
    optimizer, params = made()
    for path in (1, 1, 3):
        set_grads(params, path)
        optimizer.add_path(path)
    optimizer.step()
    assert counts(optimizer) == [[0, 1, 0, 1]] * 2


@pytest.mark.parametrize("how", ["group", "checkpoint"])
def test_paths_drawn_before_they_were_counted_are_warm(how: str) -> None:
    """An earlier checkpoint goes on, and paths that it never drew warm up."""
    plain, params = made(path_warmup=0.0)
    run(plain, params, [0, 1])
    optimizer = plain
    if how == "checkpoint":
        optimizer = PathAdamSAGA(params, 4, lr=0.01, path_warmup=4)
        optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))
    optimizer.param_groups[0] |= {"path_warmup": 4, "saga": 0.0, "weight_decay": 0.0}
    sizes = []
    for path in (0, 2):
        before = params[1].detach().clone()
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step(path_idx=path)
        sizes.append(float((params[1].detach() - before).abs().max()))
    assert sizes[0] > 0.006
    assert sizes[1] == pytest.approx(0.005, rel=1e-4)
    assert all(min(of[:2]) > 1000 and of[2:] == [1, 0] for of in counts(optimizer))


def test_a_damaged_count_is_refused() -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    for wrong in (torch.tensor([-1, 0, 0, 0]), torch.tensor([0.5, 0, 0, 0]), torch.zeros(3)):
        saved = copy.deepcopy(optimizer.state_dict())
        saved["state"][0]["visits"] = wrong
        with pytest.raises(ValueError, match="Invalid state 'visits' of parameter 0"):
            optimizer.load_state_dict(saved)
    run(optimizer, params, [3])
    assert counts(optimizer) == [[5, 2, 1, 1]] * 2


def test_expected_bytes_count_the_visits() -> None:
    optimizer, _ = made()
    expected = optimizer.expected_bytes()
    optimizer.materialize()
    tensors = {id(t): t for state in optimizer.state.values() for t in state.values()}
    assert sum(t.nbytes for t in tensors.values()) == expected == optimizer.expected_bytes()
    assert expected == 24 * 4 + (8 * 4 + 4) * 4903


def test_resume_is_bit_for_bit() -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    others = [Parameter(p.detach().clone()) for p in params]
    other = PathAdamSAGA(others, 4)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for opt, ps in ((optimizer, params), (other, others)):
        run(opt, ps, [2, 3, 0, 2], first_seed=9)
    assert_bitwise(others, params)
