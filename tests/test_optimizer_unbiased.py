"""Which estimators are unbiased: every path enumerated, no sampling, from states that random runs left behind."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.reference import ReferencePathAdamSAGA

N_PATHS, SIZE = 5, 4

histories = st.lists(st.integers(0, N_PATHS - 1), max_size=12)
distributions = st.lists(st.floats(0.05, 1.0), min_size=N_PATHS, max_size=N_PATHS).map(
    lambda weights: np.array(weights) / np.sum(weights)
)


def gradient(rng):
    return torch.from_numpy(rng.standard_normal(SIZE))


def expected_change(optimizer, probs, gradients, weights):
    """The mean change of the parameter over the draw of the path: one copy of the optimizer for each path."""
    mean = torch.zeros(SIZE, dtype=torch.float64)
    for path, (prob, grad, weight) in enumerate(zip(probs, gradients, weights, strict=True)):
        branch = copy.deepcopy(optimizer)
        (param,) = branch.param_groups[0]["params"]
        before = param.detach().clone()
        param.grad = grad
        branch.step(path_idx=path, weight=weight)
        mean += prob * (param.detach() - before)
    return mean


def trained(history, rng, **kwargs):
    """An optimizer after ``history``, and the twin that went the same way."""
    param = Parameter(gradient(rng))
    optimizer = PathAdamSAGA([param], N_PATHS, lr=1.0, weight_decay=0.0, **kwargs)
    twin = ReferencePathAdamSAGA(param.detach().numpy(), N_PATHS, lr=1.0, path_adam=kwargs["path_adam"])
    for path in history:
        param.grad = gradient(rng)
        optimizer.step(path_idx=path)
        twin.step(path, param.grad.numpy())
    return optimizer, twin


def update_of(twin, path, grad):
    """What P-Adam makes of a gradient: the memory after a step from the twin's state."""
    branch = copy.deepcopy(twin)
    branch.step(path, grad.numpy())
    return branch.g_hat[path]


@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@given(history=histories, probs=distributions, saga=st.floats(0, 1), seed=st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_weighted_steps_are_unbiased_for_any_distribution(path_adam, storage, history, probs, saga, seed):
    """E[step] = -lr mean_p g_cur,p: for the gradient, for SAGA of any strength, whatever was visited before.

    Low-bit rows change the memory and so the variance, not the mean. (With P-Adam they change g_cur itself: there
    the update of each path is taken from a step of its own.)
    """
    rng = np.random.default_rng(seed)
    optimizer, twin = trained(history, rng, path_adam=path_adam, saga=saga, unbiased=True, storage=storage)
    gradients = [gradient(rng) for _ in range(N_PATHS)]
    sampler = PathSampler(probs)
    change = expected_change(optimizer, sampler.probs, gradients, [sampler.weight(p) for p in range(N_PATHS)])
    if storage == "float32" or not path_adam:
        updates = [update_of(twin, path, grad) for path, grad in enumerate(gradients)]
    else:
        without = copy.deepcopy(optimizer)
        for state in without.state.values():
            state.pop("saga_sum", None)
        without.param_groups[0]["saga"] = 0.0
        updates = [
            -expected_change(without, np.eye(N_PATHS)[p], gradients, np.ones(N_PATHS)) for p in range(N_PATHS)
        ]
    np.testing.assert_allclose(change, -np.mean(updates, axis=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path_adam", [True, False])
@given(history=histories, seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_paper_is_unbiased_for_uniform_draws_once_all_paths_are_visited(path_adam, history, seed):
    rng = np.random.default_rng(seed)
    optimizer, twin = trained([*range(N_PATHS), *history], rng, path_adam=path_adam)
    gradients = [gradient(rng) for _ in range(N_PATHS)]
    change = expected_change(optimizer, np.full(N_PATHS, 1 / N_PATHS), gradients, [None] * N_PATHS)
    updates = [update_of(twin, path, grad) for path, grad in enumerate(gradients)]
    np.testing.assert_allclose(change, -np.mean(updates, axis=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path_adam", [True, False])
@given(history=st.lists(st.integers(0, N_PATHS - 1), min_size=1), probs=distributions, seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_bias_of_the_paper_is_what_its_formula_says(path_adam, history, probs, seed):
    """-E[step] = sum_p pi_p (g_cur,p - g_hat_p) + mean over the visited: biased for pi != uniform, on purpose."""
    rng = np.random.default_rng(seed)
    optimizer, twin = trained(history, rng, path_adam=path_adam)
    gradients = [gradient(rng) for _ in range(N_PATHS)]
    change = expected_change(optimizer, probs, gradients, [None] * N_PATHS)
    updates = np.stack([update_of(twin, path, grad) for path, grad in enumerate(gradients)])
    memory = np.stack([twin.g_hat[path] for path in range(N_PATHS)])
    expected = probs @ (updates - memory) + memory.sum(0) / len(set(history))
    np.testing.assert_allclose(change, -expected, rtol=1e-9, atol=1e-9)


def test_the_paper_is_biased_where_the_weighted_step_is_not():
    """One number in which the estimators differ: gradients 1 and 3, drawn with probabilities 0.9 and 0.1."""
    means = {}
    for unbiased in (False, True):
        param = Parameter(torch.zeros(SIZE, dtype=torch.float64))
        optimizer = PathAdamSAGA(
            [param], 2, lr=1.0, weight_decay=0.0, path_adam=False, saga=0.0, unbiased=unbiased
        )
        sampler = PathSampler([0.9, 0.1])
        gradients = [torch.full((SIZE,), value, dtype=torch.float64) for value in (1.0, 3.0)]
        weights = [sampler.weight(p) if unbiased else None for p in range(2)]
        means[unbiased] = -expected_change(optimizer, sampler.probs, gradients, weights)[0].item()
    assert means[True] == pytest.approx(2.0, rel=1e-12)
    assert means[False] == pytest.approx(1.2, rel=1e-12)


@given(seed=st.integers(0, 999), probs=distributions)
@settings(max_examples=20, deadline=None)
def test_the_variance_of_saga_vanishes_at_a_fixed_point(seed, probs):
    """When the gradients are those remembered, every path gives the same step: the mean over paths."""
    rng = np.random.default_rng(seed)
    param = Parameter(gradient(rng))
    optimizer = PathAdamSAGA([param], N_PATHS, lr=1.0, weight_decay=0.0, path_adam=False, unbiased=True)
    gradients = [gradient(rng) for _ in range(N_PATHS)]
    for path in range(N_PATHS):
        param.grad = gradients[path]
        optimizer.step(path_idx=path)
    sampler = PathSampler(probs)
    for path in range(N_PATHS):
        before = param.detach().clone()
        param.grad = gradients[path]
        optimizer.step(path_idx=path, weight=sampler.weight(path))
        torch.testing.assert_close(param.detach() - before, -torch.stack(gradients).mean(0), rtol=1e-9, atol=1e-9)
