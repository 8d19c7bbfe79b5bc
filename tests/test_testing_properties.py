"""This package under its own testing kit: samplers, losses and optimizer, over distributions and histories."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from scrapl_jtfs import JTFSPath, JTFSPathLoss
from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.experimental import AdaptivePathSampler
from scrapl_optim.reference import ReferencePathAdamSAGA
from scrapl_optim.testing import (
    PathLosses,
    assert_draws_follow,
    assert_matches_twin,
    assert_statistically_unbiased,
    assert_unbiased,
    distributions,
    path_losses,
    path_sequences,
    seeds,
    steps,
)
from tests.support.mutants import ROUNDING, change_of, trained, with_both, with_distribution

modest = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
families = path_losses(max_paths=5, max_weights=3)
N_PATHS = 21


@cache
def jtfs_loss() -> JTFSPathLoss:
    return JTFSPathLoss(JTFSPath(512, J=5, Q=(4, 1), J_fr=2, Q_fr=1, T=64, F=2).double())


@cache
def jtfs_gradients(seed: int) -> tuple[list[Tensor], Tensor]:
    """The gradients of all path losses between two signals, and that of the full tree written out."""
    loss_fn, jtfs = jtfs_loss(), jtfs_loss().jtfs
    x, y = torch.randn(2, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x.requires_grad_()
    by_path = [torch.autograd.grad(loss_fn(x, y, p), x)[0] for p in range(jtfs.n_paths)]
    full = torch.stack([(jtfs(x, p) - jtfs(y, p)).square().sum() for p in range(jtfs.n_paths)]).sum()
    return by_path, torch.autograd.grad(full, x)[0]


@modest
@given(distributions(N_PATHS, N_PATHS), st.integers(0, 2))
def test_a_weighted_jtfs_path_loss_has_the_gradient_of_the_full_tree(pi: Any, signal_seed: int) -> None:
    by_path, full = jtfs_gradients(signal_seed)
    assert len(by_path) == N_PATHS
    sampler = PathSampler(pi)
    assert_unbiased(lambda p: sampler.weight(p) * by_path[p], sampler.probs, full)


@settings(modest, max_examples=5)
@given(distributions(5, 5), st.integers(0, 2))
def test_two_weighted_paths_a_step_have_the_gradient_of_the_full_tree(pi: Any, signal_seed: int) -> None:
    jtfs = JTFSPath(32, J=3, Q=(1, 1), J_fr=1, T=4).double()
    loss_fn = JTFSPathLoss(jtfs)
    x, y = torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(signal_seed))
    x.requires_grad_()
    sampler = PathSampler(pi)

    def of_pair(pair: int) -> Tensor:
        paths = divmod(pair, 5)
        loss = loss_fn(x, y, paths, weights=[sampler.weight(p) for p in paths])
        return torch.autograd.grad(loss, x)[0]

    full = torch.autograd.grad(loss_fn.full(x, y), x)[0]
    assert_unbiased(of_pair, np.outer(sampler.probs, sampler.probs).ravel(), full)


@modest
@given(families.flatmap(with_distribution), st.sampled_from([0.0, 0.1, 1.0]))
def test_the_weights_of_a_floored_sampler_are_right(case: tuple[PathLosses, Any], floor: float) -> None:
    losses, pi = case
    w, sampler = torch.ones(losses.n_weights, dtype=torch.float64), PathSampler(pi, min_prob_frac=floor)
    mixture = floor / losses.n_paths + (1 - floor) * pi
    assert_unbiased(lambda p: sampler.weight(p) * losses.gradient(w, p), mixture, losses.full_gradient(w))


@modest
@given(families, st.lists(st.tuples(st.integers(0, 4), st.floats(0, 9)), max_size=8))
def test_the_weights_of_an_adaptive_sampler_are_right_at_any_time(
    losses: PathLosses, told: list[tuple[int, float]]
) -> None:
    sampler = AdaptivePathSampler(losses.n_paths)
    for path, norm in told:
        sampler.update(path % losses.n_paths, norm)
    w = torch.ones(losses.n_weights, dtype=torch.float64)
    assert_unbiased(lambda p: sampler.weight(p) * losses.gradient(w, p), sampler.probs, losses.full_gradient(w))


@settings(modest, max_examples=20)
@given(distributions(max_paths=5, smallest=0.0), st.sampled_from([0.0, 0.3]), seeds(), steps(), st.booleans())
def test_samplers_draw_from_what_they_say(pi: Any, floor: float, seed: int, step: int, cover_first: bool) -> None:
    sampler = PathSampler(pi, min_prob_frac=floor, seed=seed, cover_first=cover_first)
    first_step = min(max(step, len(pi)), 2**64 - 300)
    mixture = floor / np.count_nonzero(pi) * (pi > 0) + (1 - floor) * pi
    for again in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert_draws_follow(sampler, mixture, 200, first_step=first_step, twin=again)


def test_an_adaptive_sampler_draws_from_what_it_says() -> None:
    sampler = AdaptivePathSampler(3, seed=4)
    for path, norm in enumerate((1.0, 5.0, 0.0)):
        sampler.update(path, norm)
    assert_draws_follow(sampler, sampler.probs, 1000, first_step=3)


@modest
@given(families.flatmap(with_both), st.floats(0, 1), st.sampled_from(["float32", "bfloat16"]))
def test_weighted_saga_steps_are_those_of_the_full_gradient(
    case: tuple[PathLosses, Any, list[int]], saga: float, storage: str
) -> None:
    """E[w' - w] = -lr grad L(w), from any state, for any pi: what is remembered changes the variance alone."""
    losses, pi, history = case
    optimizer, param = trained(losses, history, path_adam=False, unbiased=True, saga=saga, storage=storage)
    sampler = PathSampler(pi)
    target = -0.1 * losses.full_gradient(param.detach())
    assert_unbiased(
        lambda p: change_of(optimizer, losses, p, sampler.weight(p)), sampler.probs, target, atol=ROUNDING
    )


@modest
@given(families.flatmap(with_both))
def test_uniform_saga_steps_of_the_paper_are_those_of_the_full_gradient(
    case: tuple[PathLosses, Any, list[int]],
) -> None:
    losses, _, history = case
    P = losses.n_paths
    optimizer, param = trained(losses, [*range(P), *history], path_adam=False)
    target = -0.1 * losses.full_gradient(param.detach())
    assert_unbiased(lambda p: change_of(optimizer, losses, p, None), np.full(P, 1 / P), target, atol=ROUNDING)


class WeightedTwin:
    """The literal twin, with a sampler's weights."""

    def __init__(self, w: Any, sampler: PathSampler | None, **kwargs: Any) -> None:
        self.twin, self.sampler = ReferencePathAdamSAGA(w, **kwargs), sampler

    @property
    def w(self) -> Any:
        return self.twin.w

    def step(self, path: int, gradient: Any) -> None:
        self.twin.step(path, gradient, 1.0 if self.sampler is None else self.sampler.weight(path))


@modest
@given(
    case=families.flatmap(
        lambda losses: st.tuples(
            st.just(losses),
            distributions(losses.n_paths, losses.n_paths, smallest=1e-3),
            path_sequences(losses.n_paths, min_size=1),
        )
    ),
    lr=st.floats(1e-4, 0.2),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0.01, 0.9999)) | st.just((0.0, 0.0)),
    eps=st.sampled_from([0.0, 1e-8, 0.1]),
    weight_decay=st.sampled_from([0.0, 0.1]),
    path_adam=st.booleans(),
    saga=st.sampled_from([1.0, 0.0, 0.3]),
    unbiased=st.booleans(),
    foreach=st.sampled_from([None, False]),
)
def test_the_optimizer_is_algorithm_1_for_any_hyperparameters(case: Any, foreach: Any, **kwargs: Any) -> None:
    losses, pi, paths = case
    kwargs["n_paths"] = losses.n_paths
    sampler = PathSampler(pi) if kwargs["unbiased"] else None

    def step(optimizer: Any, path: int) -> None:
        optimizer.step(path_idx=path, weight=None if sampler is None else sampler.weight(path))

    assert_matches_twin(
        lambda params: PathAdamSAGA(params, foreach=foreach, **kwargs),
        lambda w: WeightedTwin(w, sampler, **kwargs),
        losses,
        paths,
        step=step,
    )


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_stochastic_rounding_of_the_memory_is_unbiased(storage: str) -> None:
    """The salt of a step is its only randomness: many steps with one gradient, the memory read after each."""
    gradient = torch.linspace(-3, 2, 4096).reshape(64, 64)
    param = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = PathAdamSAGA([param], 2, lr=0.0, path_adam=False, storage=storage)

    def remembered(step: int) -> Tensor:
        param.grad = gradient
        optimizer.step(path_idx=0)
        return optimizer.state[param]["saga_sum"][::16, ::16]  # of one path

    few, spacing = gradient[::16, ::16], 2.0**-6 if storage == "bfloat16" else 3 / 127
    assert_statistically_unbiased(remembered, few, 500, bounds=(few - spacing, few + spacing))
