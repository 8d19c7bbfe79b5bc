"""Which steps of PathAdamSAGA are unbiased: every path enumerated, from states that runs left behind."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.reference import ReferencePathAdamSAGA
from scrapl_optim.testing import PathLosses, assert_unbiased, distributions, path_losses, path_sequences
from tests.support.optimizer_helpers import random_gradients

N_PATHS, SIZE = 5, 4
FEW = 3  # paths where all pairs and triples are enumerated
# The largest weight is 1 / (N_PATHS * SMALLEST): a change is the difference of weights as large as that.
SMALLEST, ROUNDING = 1e-3, 1e-12

Array = npt.NDArray[np.float64]
histories = path_sequences(N_PATHS, max_size=12)
full_histories = path_sequences(N_PATHS, max_size=17, every_path=True)
any_distribution = distributions(N_PATHS, N_PATHS, smallest=SMALLEST)
random_seeds = st.integers(0, 999)


def trained(
    history: list[list[int]], n_paths: int, seed: int, **kwargs: Any
) -> tuple[PathAdamSAGA, ReferencePathAdamSAGA]:
    """Return an optimizer after steps of one or several paths, and its definition after the same."""
    param = Parameter(torch.zeros(SIZE, dtype=torch.float64))
    shared = {"lr": 1.0, "weight_decay": 0.0, "path_adam": kwargs.pop("path_adam")}
    optimizer = PathAdamSAGA([param], n_paths, **shared, **kwargs)
    reference = ReferencePathAdamSAGA(np.zeros(SIZE), n_paths, **shared)
    for k, paths in enumerate(history):
        draws = list(zip(paths, random_gradients(len(paths), SIZE, seed=1000 * (k + 1) + seed), strict=True))
        take_step(optimizer, draws)
        reference.step_many([(path, grad, 1.0) for path, grad in draws])
    return optimizer, reference


def take_step(optimizer: PathAdamSAGA, draws: list[tuple[int, Array]], weights: Any = None) -> None:
    (param,) = optimizer.param_groups[0]["params"]
    for path, grad in draws:
        param.grad = torch.from_numpy(grad).clone()
        optimizer.add_path(path, weight=None if weights is None else weights[path])
    optimizer.step()


def update(optimizer: PathAdamSAGA, draws: list[tuple[int, Array]], weights: Any = None) -> Tensor:
    """Return what a step would subtract from the weights: what a copy's step does, at a learning rate of one."""
    branch = copy.deepcopy(optimizer)
    (param,) = branch.param_groups[0]["params"]
    before = param.detach().clone()
    take_step(branch, draws, weights)
    return before - param.detach()


def current(reference: ReferencePathAdamSAGA, gradients: list[Array]) -> Array:
    """Return g_current of every path, as a step of that path alone would compute it."""
    rows = []
    for path, gradient in enumerate(gradients):
        branch = copy.deepcopy(reference)
        branch.step(path, gradient)
        rows.append(branch.g_hat[path])
    return np.stack(rows)


def with_distribution(losses: PathLosses) -> st.SearchStrategy[tuple[PathLosses, Array]]:
    paths = losses.n_paths
    return st.tuples(st.just(losses), distributions(paths, paths, smallest=SMALLEST))


def weights_of(pi: Array) -> list[float]:
    sampler = PathSampler(pi)
    return [sampler.weight(path) for path in range(len(pi))]


@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@given(history=histories, pi=any_distribution, saga=st.floats(0, 1), seed=random_seeds)
@settings(max_examples=25, deadline=None)
def test_weighted_steps_are_unbiased_for_any_distribution(
    path_adam: bool, storage: str, history: list[int], pi: Array, saga: float, seed: int
) -> None:
    """E[step] = mean_p g_current,p: for the gradient, for SAGA of any strength, whatever was visited before.

    Low-bit rows change the memory and so the variance, not the mean. (With P-Adam they change g_current itself:
    there each path's is taken from a step of its own.)
    """
    optimizer, reference = trained(
        [[p] for p in history], N_PATHS, seed, path_adam=path_adam, saga=saga, unbiased=True, storage=storage
    )
    gradients = random_gradients(N_PATHS, SIZE, seed=seed)
    if storage == "float32" or not path_adam:
        target = current(reference, gradients).mean(0)
    else:
        alone = copy.deepcopy(optimizer)
        alone.param_groups[0]["saga"] = 0.0
        target = torch.stack([update(alone, [(p, gradients[p])]) for p in range(N_PATHS)]).mean(0)
    weights = weights_of(pi)
    assert_unbiased(lambda p: update(optimizer, [(p, gradients[p])], weights), pi, target, atol=ROUNDING)


@pytest.mark.parametrize("n_draws", [1, 2, 3])
@pytest.mark.parametrize("path_adam", [True, False])
@given(
    history=st.lists(st.lists(st.integers(0, FEW - 1), min_size=1, max_size=4), min_size=1, max_size=8),
    pi=distributions(FEW, FEW, smallest=SMALLEST),
    saga=st.floats(0, 1),
    seed=random_seeds,
)
@settings(max_examples=10, deadline=None)
def test_weighted_steps_of_several_paths_are_unbiased(
    n_draws: int, path_adam: bool, history: list[list[int]], pi: Array, saga: float, seed: int
) -> None:
    optimizer, reference = trained(history, FEW, seed, path_adam=path_adam, saga=saga, unbiased=True)
    gradients, weights = random_gradients(FEW, SIZE, seed=seed), weights_of(pi)
    draws = list(itertools.product(range(FEW), repeat=n_draws))
    assert_unbiased(
        lambda i: update(optimizer, [(p, gradients[p]) for p in draws[i]], weights),
        [math.prod(pi[list(draw)]) for draw in draws],
        current(reference, gradients).mean(0),
        atol=ROUNDING,
    )


@pytest.mark.parametrize("clocks", [True, False])
@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
@given(history=histories, pi=any_distribution, saga=st.floats(0, 1), seed=random_seeds)
@settings(max_examples=15, deadline=None)
def test_a_memory_weighted_by_pi_is_unbiased_for_the_objective_weighted_by_pi(
    storage: str, path_adam: bool, clocks: bool, history: list[int], pi: Array, saga: float, seed: int
) -> None:
    """E[step] = sum_p pi_p g_current,p, whatever was visited before; each g_current from a step without memory."""
    by_probs = {"probs": pi, "clocks_by_probs": clocks}
    optimizer, _ = trained(
        [[p] for p in history], N_PATHS, seed, path_adam=path_adam, saga=saga, storage=storage, **by_probs
    )
    gradients = random_gradients(N_PATHS, SIZE, seed=seed)
    alone = copy.deepcopy(optimizer)
    alone.param_groups[0]["saga"] = 0.0
    steps = torch.stack([update(alone, [(p, gradients[p])]) for p in range(N_PATHS)])
    target = torch.einsum("p,pi->i", torch.from_numpy(pi), steps)
    assert_unbiased(lambda p: update(optimizer, [(p, gradients[p])]), pi, target, atol=ROUNDING)


@given(case=path_losses(max_paths=4).flatmap(with_distribution), data=st.data())
@settings(max_examples=30, deadline=None)
def test_pi_weighted_descent_on_path_losses_on_average(
    case: tuple[PathLosses, Array], data: st.DataObject
) -> None:
    """A SAGA step without P-Adam is one of gradient descent on sum_p pi_p L_p, from wherever a run has come to."""
    losses, pi = case
    param = Parameter(torch.ones(losses.n_weights, dtype=torch.float64))
    options: dict[str, Any] = {"path_adam": False, "lr": 0.1, "weight_decay": 0.0}
    optimizer = PathAdamSAGA([param], losses.n_paths, probs=pi, **options)
    for path in data.draw(path_sequences(losses.n_paths, max_size=8)):
        param.grad = losses.gradient(param, path)
        optimizer.step(path_idx=path)
    gradients = [losses.gradient(param, p) for p in range(losses.n_paths)]
    target = torch.einsum("p,pi->i", torch.from_numpy(pi), torch.stack(gradients))
    as_arrays = [gradient.numpy() for gradient in gradients]
    assert_unbiased(lambda p: update(optimizer, [(p, as_arrays[p])]) / 0.1, pi, target, atol=1e-9)


@pytest.mark.parametrize("n_draws", [2, 3])
@given(
    history=st.lists(st.lists(st.integers(0, FEW - 1), min_size=1, max_size=4), min_size=1, max_size=8),
    pi=distributions(FEW, FEW, smallest=SMALLEST),
    saga=st.floats(0, 1),
    seed=random_seeds,
)
@settings(max_examples=10, deadline=None)
def test_several_paths_with_a_memory_weighted_by_pi_are_unbiased(
    n_draws: int, history: list[list[int]], pi: Array, saga: float, seed: int
) -> None:
    optimizer, reference = trained(history, FEW, seed, path_adam=True, saga=saga, probs=pi)
    gradients = random_gradients(FEW, SIZE, seed=seed)
    draws = list(itertools.product(range(FEW), repeat=n_draws))
    assert_unbiased(
        lambda i: update(optimizer, [(p, gradients[p]) for p in draws[i]]),
        [math.prod(pi[list(draw)]) for draw in draws],
        pi @ current(reference, gradients),
        atol=ROUNDING,
    )


@pytest.mark.parametrize("path_adam", [True, False])
@given(history=full_histories, seed=random_seeds)
@settings(max_examples=20, deadline=None)
def test_the_paper_is_unbiased_for_uniform_draws_once_all_paths_are_visited(
    path_adam: bool, history: list[int], seed: int
) -> None:
    optimizer, reference = trained([[p] for p in history], N_PATHS, seed, path_adam=path_adam)
    gradients = random_gradients(N_PATHS, SIZE, seed=seed)
    assert_unbiased(
        lambda p: update(optimizer, [(p, gradients[p])]),
        np.full(N_PATHS, 1 / N_PATHS),
        current(reference, gradients).mean(0),
        atol=ROUNDING,
    )


@pytest.mark.parametrize("path_adam", [True, False])
@given(history=path_sequences(N_PATHS, min_size=1, max_size=12), pi=any_distribution, seed=random_seeds)
@settings(max_examples=20, deadline=None)
def test_the_bias_of_the_paper_is_what_its_formula_says(
    path_adam: bool, history: list[int], pi: Array, seed: int
) -> None:
    """E[step] = sum_p pi_p (g_current,p - g_hat_p) + the mean over the visited: biased unless pi is uniform."""
    optimizer, reference = trained([[p] for p in history], N_PATHS, seed, path_adam=path_adam)
    gradients = random_gradients(N_PATHS, SIZE, seed=seed)
    memory = reference.g_hat
    target = pi @ (current(reference, gradients) - memory) + memory.sum(0) / len(set(history))
    assert_unbiased(lambda p: update(optimizer, [(p, gradients[p])]), pi, target, atol=ROUNDING)


@pytest.mark.parametrize(("unbiased", "mean"), [(True, 2.0), (False, 1.2)])
def test_the_paper_is_biased_where_the_weighted_step_is_not(unbiased: bool, mean: float) -> None:
    """One number in which the estimators differ: gradients 1 and 3, drawn with probabilities 0.9 and 0.1."""
    optimizer, _ = trained([], 2, 0, path_adam=False, saga=0.0, unbiased=unbiased)
    gradients, weights = [np.full(SIZE, 1.0), np.full(SIZE, 3.0)], weights_of(np.array([0.9, 0.1]))
    estimates = [update(optimizer, [(p, gradients[p])], weights if unbiased else None) for p in range(2)]
    assert_unbiased(lambda p: estimates[p], [0.9, 0.1], np.full(SIZE, mean))
    with pytest.raises(AssertionError, match="biased"):
        assert_unbiased(lambda p: estimates[p], [0.9, 0.1], np.full(SIZE, 3.2 - mean))


@given(seed=random_seeds, pi=any_distribution)
@settings(max_examples=20, deadline=None)
def test_the_variance_of_saga_vanishes_at_a_fixed_point(seed: int, pi: Array) -> None:
    """When the gradients are those remembered, every path gives the same step: the mean over paths."""
    gradients, weights = random_gradients(N_PATHS, SIZE, seed=seed), weights_of(pi)
    optimizer, _ = trained([], N_PATHS, seed, path_adam=False, unbiased=True)
    for p in range(N_PATHS):
        take_step(optimizer, [(p, gradients[p])])
    for p in range(N_PATHS):
        found = update(optimizer, [(p, gradients[p])], weights)
        torch.testing.assert_close(found.numpy(), np.mean(gradients, axis=0), rtol=1e-9, atol=1e-9)
