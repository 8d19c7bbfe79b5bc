"""The literal Algorithm 1, held against what is known without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapl_optim.reference import Algorithm1, ReferencePathAdamSAGA


def test_two_visits_by_hand() -> None:
    """beta = 1/16, 1/81 and P = 2, so that every power has a short root: visits of path 1 at k = 1 and 3."""
    algorithm = Algorithm1(np.array([1.0]), n_paths=2, lr=0.5, betas=(1 / 16, 1 / 81), eps=1.0)
    algorithm.step(1, [2.0])
    # k = 1, k/P = 1/2: m = 3/4 * 2 and v = 8/9 * 4, whose corrections give 2 and 4.
    first = 2 / np.sqrt(1 + 4)
    np.testing.assert_allclose(algorithm.w, 1 - 0.5 * first)
    algorithm.step(0, [0.0])
    np.testing.assert_allclose(algorithm.w, 1 - 0.5 * (first + first))
    algorithm.step(1, [3.0])
    # elapsed/P = 1, k/P = 3/2
    m, v = 1 / 16 * 3 / 2 + 15 / 16 * 3, 1 / 81 * 32 / 9 + 80 / 81 * 9
    second = m / (1 - 1 / 64) / np.sqrt(1 + v / (1 - 1 / 729))
    np.testing.assert_allclose(algorithm.w, 1 - 0.5 * (2 * first + second - first + first / 2))
    assert (algorithm.tau.tolist(), algorithm.Gamma) == ([2, 3], {0, 1})


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_with_one_path_it_is_adam_in_float64(weight_decay: float) -> None:
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    adamw = torch.optim.AdamW([weight], lr=0.1, eps=0.0, weight_decay=weight_decay)
    algorithm = Algorithm1(np.ones(4), 1, lr=0.1, weight_decay=weight_decay)
    for gradient in np.random.default_rng(0).standard_normal((20, 4)):
        weight.grad = torch.from_numpy(gradient)
        adamw.step()
        algorithm.step(0, gradient)
        np.testing.assert_allclose(algorithm.w, weight.detach().numpy(), rtol=1e-12)


def test_without_p_adam_it_is_saga() -> None:
    """SAGA: the gradient less that of the last visit plus the mean of the table of the paths drawn."""
    reference, table, w = ReferencePathAdamSAGA(np.zeros(3), 4, lr=1.0, path_adam=False), {}, np.zeros(3)
    draws = np.random.default_rng(0)
    for path, gradient in zip(draws.integers(4, size=30).tolist(), draws.standard_normal((30, 3)), strict=True):
        mean = np.mean(list(table.values()), axis=0) if table else np.zeros(3)
        w = w - (gradient - table.get(path, np.zeros(3)) + mean)
        reference.step(path, gradient)
        np.testing.assert_allclose(reference.w, w, rtol=1e-12, atol=1e-13)
        table[path] = gradient


@given(paths=st.lists(st.integers(0, 4), max_size=20), eps=st.sampled_from([0.0, 1e-2]), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_without_options_the_reference_is_algorithm_1(paths: list[int], eps: float, seed: int) -> None:
    draws = np.random.default_rng(seed)
    start = draws.standard_normal((2, 3))
    settings = {"n_paths": 5, "lr": 0.1, "eps": eps, "weight_decay": 0.01}
    algorithm, reference = Algorithm1(start, **settings), ReferencePathAdamSAGA(start, **settings)
    for path in paths:
        gradient = draws.standard_normal((2, 3))
        algorithm.step(path, gradient)
        reference.step(path, gradient)
    np.testing.assert_allclose(reference.w, algorithm.w, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(reference.g_hat, algorithm.g_hat)
