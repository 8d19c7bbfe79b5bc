"""PathAdamSAGA is Algorithm 1: beside its literal statement, beside AdamW, and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.reference import ReferencePathAdamSAGA
from scrapl_optim.testing import assert_matches_twin, distributions, path_sequences
from tests.support.optimizer_helpers import SHAPES, make_params, random_gradients, random_paths, run, set_grads
from tests.support.optimizer_variants import Variant, every_storage

# ---------------------------------------------------------------- beside the literal statement


class Weighted(ReferencePathAdamSAGA):
    """Algorithm 1 with a weight that follows from the path."""

    def step(self, p: int, g: npt.ArrayLike, weight: float = 1.0) -> None:
        super().step(p, g, 0.5 + p if self.unbiased else weight)


def step_with_weight(optimizer: PathAdamSAGA, path: int) -> None:
    optimizer.step(path_idx=path, weight=0.5 + path if optimizer.defaults["unbiased"] else None)


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("path_adam", [True, False])
@given(
    paths=path_sequences(5, min_size=1, max_size=25),
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
    foreach: bool | None, path_adam: bool, paths: list[int], seed: int, **shared: Any
) -> None:
    shared |= {"lr": 0.05, "path_adam": path_adam}
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, foreach=foreach, **shared),
        lambda w: Weighted(w, **shared),
        random_gradients(len(paths), 11, seed=seed),
        paths,
        step=step_with_weight,
        start=random_gradients(1, 11, seed=seed + 1)[0],
        shapes=SHAPES,
        atol=1e-9,
    )


@pytest.mark.parametrize("foreach", [None, False])
@given(
    paths=path_sequences(4, min_size=1, max_size=25),
    probs=distributions(5, 5, smallest=1e-3),
    memory=st.booleans(),
    clocks=st.booleans(),
    betas=st.tuples(st.floats(0, 0.99), st.floats(1e-9, 0.9999)),
    path_adam=st.booleans(),
    saga=st.sampled_from([0.3, 1.0]),
    path_warmup=st.floats(0, 9),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_reference_with_its_options(
    foreach: bool | None, paths: list[int], memory: bool, clocks: bool, seed: int, **shared: Any
) -> None:
    shared |= {"n_paths": 5, "lr": 0.05, "weight_decay": 0.1}
    shared |= {"memory_by_probs": memory, "clocks_by_probs": clocks}
    shared["path_warmup"] *= shared["path_adam"]
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, foreach=foreach, **shared),
        lambda w: ReferencePathAdamSAGA(w, **shared),
        random_gradients(len(paths), 11, seed=seed),
        paths,
        start=random_gradients(1, 11, seed=seed + 1)[0],
        shapes=SHAPES,
        atol=1e-9,
    )


def test_default_betas_at_the_number_of_paths_of_the_paper() -> None:
    shared = {"n_paths": 315, "lr": 1e-3, "weight_decay": 0.01}
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, **shared),
        lambda w: ReferencePathAdamSAGA(w, **shared),
        [1e-10 * gradient for gradient in random_gradients(400, 11)],
        random_paths(315, 400),
        shapes=SHAPES,
        rtol=1e-9,
    )


def test_strength_of_saga_can_be_scheduled() -> None:
    shared = {"n_paths": 3, "lr": 0.1, "weight_decay": 0.01}
    strengths = iter([1.0, 0.5, 0.0, 0.2, 1.0, 1.0])
    twins: list[ReferencePathAdamSAGA] = []

    def make_twin(w: npt.NDArray[np.float64]) -> ReferencePathAdamSAGA:
        twins.append(ReferencePathAdamSAGA(w, **shared))
        return twins[0]

    def step(optimizer: PathAdamSAGA, path: int) -> None:
        twins[0].saga = optimizer.param_groups[0]["saga"] = next(strengths)
        optimizer.step(path_idx=path)

    assert_matches_twin(
        lambda params: PathAdamSAGA(params, **shared),
        make_twin,
        random_gradients(6, 4),
        [0, 1, 0, 1, 2, 0],
        step=step,
        rtol=1e-10,
    )


# ---------------------------------------------------------------- beside AdamW


class AdamW:
    """``torch.optim.AdamW`` as a twin; with an eps next to nothing its place in the root does not matter."""

    def __init__(self, w: npt.NDArray[np.float64], weight_decay: float) -> None:
        self.param = Parameter(torch.from_numpy(w))
        self.adamw = torch.optim.AdamW([self.param], lr=0.01, weight_decay=weight_decay, eps=1e-30)

    @property
    def w(self) -> npt.NDArray[np.float64]:
        return self.param.detach().numpy()

    def step(self, path: int, gradient: npt.NDArray[np.float64]) -> None:
        self.param.grad = torch.from_numpy(gradient)
        self.adamw.step()


@pytest.mark.parametrize("saga", [1.0, 0.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_one_path_is_adamw(saga: float, weight_decay: float) -> None:
    assert_matches_twin(
        lambda params: PathAdamSAGA(params, 1, lr=0.01, weight_decay=weight_decay, saga=saga),
        lambda w: AdamW(w, weight_decay),
        random_gradients(50, 11),
        [0] * 50,
        step=lambda optimizer, path: optimizer.step(),
        shapes=SHAPES,
        rtol=1e-12,
    )


# ---------------------------------------------------------------- by hand


def changes(
    optimizer: PathAdamSAGA, param: Parameter, steps: Sequence[tuple[int, float | None, float]]
) -> list[float]:
    """Return by how much steps of (path, weight, gradient) lower a number."""
    found = []
    for k, (path, weight, gradient) in enumerate(steps):
        before = param.item()
        param.grad = torch.full_like(param, gradient)
        if k % 2:
            optimizer.set_path(path, weight=weight)
            optimizer.step()
        else:
            optimizer.step(path_idx=path, weight=weight)
        found.append(before - param.item())
    return found


@every_storage
def test_weight_is_that_of_the_unbiased_update(storage: str) -> None:
    """Plain SAGA over paths with integers: w_p (g - a g^_p) + a / P sum g^."""
    param = Parameter(torch.zeros(()))
    variant = Variant(storage=storage, path_adam=False, unbiased=True, saga=0.5)
    optimizer = PathAdamSAGA([param], 4, **variant.kwargs(lr=1.0, weight_decay=0.0))
    steps = [(0, 2.0, 1.0), (1, 3.0, 2.0), (0, 2.0, 4.0), (1, None, 8.0), (3, 0.5, -1.0)]
    expected = [
        2 * 1.0,
        3 * 2.0 + 0.125 * 1,
        2 * (4 - 0.5 * 1) + 0.125 * (1 + 2),
        1 * (8 - 0.5 * 2) + 0.125 * (4 + 2),
        0.5 * -1 + 0.125 * (4 + 8),
    ]
    assert changes(optimizer, param, steps) == pytest.approx(expected, rel=1e-6)


@every_storage
def test_memory_is_weighted_by_probs(storage: str) -> None:
    """Plain SAGA: g - a g^_p + a sum pi g^, in which a path never drawn is zero."""
    param = Parameter(torch.zeros(()))
    variant = Variant(storage=storage, path_adam=False, saga=0.5)
    probs = [0.5, 0.25, 0.0, 0.25]
    optimizer = PathAdamSAGA([param], 4, **variant.kwargs(lr=1.0, weight_decay=0.0, probs=probs))
    steps = [(0, None, 1.0), (1, None, 2.0), (0, 1.0, 4.0), (1, None, 8.0), (3, None, -1.0)]
    expected = [
        1.0,
        2.0 + 0.5 * 0.5 * 1,
        4 - 0.5 * 1 + 0.5 * (0.5 * 1 + 0.25 * 2),
        8 - 0.5 * 2 + 0.5 * (0.5 * 4 + 0.25 * 2),
        -1 + 0.5 * (0.5 * 4 + 0.25 * 8),
    ]
    assert changes(optimizer, param, steps) == pytest.approx(expected, rel=1e-6)


def test_clocks_by_probs_give_every_path_the_same_visits() -> None:
    """Draws as often as probs say: path 0 at three steps in four. Its second moment is that of a path alone."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    shared = {"lr": 1.0, "betas": (0.9, 0.5), "weight_decay": 0.0, "saga": 0.0, "clocks_by_probs": True}
    optimizer = PathAdamSAGA([param], 2, probs=[0.25, 0.75], **shared)
    alone = Parameter(torch.zeros((), dtype=torch.float64))
    single = PathAdamSAGA([alone], 1, **{**shared, "clocks_by_probs": False})
    rare = []
    for cycle, gradient in enumerate([3.0, -1.0, 2.0, 5.0]):
        for path in (1, 1, 1):
            changes(optimizer, param, [(path, None, 7.0)])
        rare += changes(optimizer, param, [(0, None, gradient)])
        expected = changes(single, alone, [(0, None, gradient)])
        assert rare[cycle:] == pytest.approx(expected, rel=1e-12)


@every_storage
def test_memory_is_divided_by_the_paths_visited_before(storage: str) -> None:
    """The paper's P-SAGA: g - g^_p + sum / max(1, card Gamma), revisits included."""
    param = Parameter(torch.zeros(()))
    optimizer = PathAdamSAGA([param], 9, lr=1.0, weight_decay=0.0, path_adam=False, storage=storage)
    steps = [(0, 1.0, 1.0), (1, 1.0, 2.0), (0, 1.0, 4.0), (5, None, 8.0), (5, 1.0, 1.0)]
    expected = [1.0, 2 + 1 / 1, 4 - 1 + (1 + 2) / 2, 8 + (4 + 2) / 2, 1 - 8 + (4 + 2 + 8) / 3]
    assert changes(optimizer, param, steps) == pytest.approx(expected, rel=1e-6)


def test_eps_is_inside_the_root() -> None:
    """At a first visit the update is g / sqrt(eps + g^2)."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 3, lr=1.0, eps=16.0, weight_decay=0.0)
    assert changes(optimizer, param, [(2, None, 3.0)]) == pytest.approx([3 / 5], rel=1e-14)


def test_new_eps_acts_from_then_on() -> None:
    """At beta2 = 0 nothing of the old root is left: the update is m / sqrt(eps + g^2) with the new eps."""
    param = Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = PathAdamSAGA([param], 3, lr=1.0, betas=(0.0, 0.0), weight_decay=0.0, saga=0.0)
    for eps, expected in ((0.0, 1.0), (16.0, 0.6), (1e-20, 1.0)):
        optimizer.param_groups[0]["eps"] = eps
        assert changes(optimizer, param, [(1, None, 3.0)]) == pytest.approx([expected], rel=1e-14)


@pytest.mark.parametrize("eps", [1e-6, 1.0, 1e30])
def test_eps_far_above_the_gradient_is_a_plain_gradient_step(eps: float) -> None:
    (param,) = make_params(dtype=torch.float32, shapes=[(5,)])
    optimizer = PathAdamSAGA([param], 3, lr=eps**0.5, eps=eps, weight_decay=0.0)
    before = param.detach().clone()
    set_grads([param], 0, 1e-12)
    assert param.grad is not None
    optimizer.step(path_idx=1)
    torch.testing.assert_close(before - param.detach(), param.grad, rtol=1e-5, atol=3e-7)


@every_storage
@pytest.mark.parametrize("path_adam", [True, False])
def test_saga_can_be_scheduled_to_zero_and_back(storage: str, path_adam: bool) -> None:
    """At strength 0 the step is that without memory; the memory goes on, and comes back with the strength."""
    variant = Variant(storage=storage, path_adam=path_adam)
    ours, theirs = (make_params(8, torch.float32, [(70, 70), (3,)]) for _ in range(2))
    optimizer = PathAdamSAGA(ours, 3, **variant.kwargs(lr=0.01))
    other = PathAdamSAGA(theirs, 3, **variant.kwargs(lr=0.01, saga=0.0))
    for k, path in enumerate([0, 1, 0, 2, 2]):  # at the very first step there is no memory yet
        optimizer.param_groups[0]["saga"] = float(k == 0)
        run(optimizer, ours, [path], first_seed=k)
        run(other, theirs, [path], first_seed=k)
    for p, q in zip(ours, theirs, strict=True):
        # a row kept in full follows the sum, a rounding away from where it would be without one
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)
    optimizer.param_groups[0]["saga"] = 1.0
    run(optimizer, ours, [1])
    run(other, theirs, [1])
    assert float((ours[0] - theirs[0]).detach().abs().max()) > 1e-3
