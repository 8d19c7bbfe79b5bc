"""Steps of several paths: gradients one after the other, each path its own row, one update of the weights."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim.reference import ReferencePathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    random_gradients,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import (
    N_PATHS,
    VARIANTS,
    Variant,
    assert_same_state,
    build,
    every_variant,
    train,
    zoo_grads,
)

draws_of_steps = st.lists(st.lists(st.integers(0, N_PATHS - 1), min_size=1, max_size=4), min_size=1, max_size=8)


@pytest.mark.parametrize("path_adam", [True, False])
@pytest.mark.parametrize("unbiased", [True, False])
@given(history=draws_of_steps, saga=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_equals_the_literal_algorithm(
    path_adam: bool, unbiased: bool, history: list[list[int]], saga: float, seed: int
) -> None:
    options = {"weight_decay": 0.1, "path_adam": path_adam, "saga": saga, "unbiased": unbiased}
    param = Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = PathAdamSAGA([param], N_PATHS, lr=0.5, **options)
    twin = ReferencePathAdamSAGA(np.ones(4), N_PATHS, lr=0.5, **options)
    gradients = iter(random_gradients(sum(map(len, history)), 4, seed=seed))
    for paths in history:
        draws = [(p, next(gradients), 0.5 + 0.25 * p if unbiased else 1.0) for p in paths]
        for path, grad, weight in draws:
            param.grad = torch.from_numpy(grad).clone()
            optimizer.add_path(path, weight=weight)
            assert param.grad is None
        optimizer.step()
        twin.step_many(draws)
        torch.testing.assert_close(param.detach(), torch.from_numpy(twin.w), rtol=1e-9, atol=1e-9)
        assert optimizer.state[param]["step"].tolist() == [twin.tau[p] for p in range(N_PATHS)]
        if saga:
            total = twin.g_hat.sum(0)
            torch.testing.assert_close(
                optimizer.state[param]["saga_sum"], torch.from_numpy(total), rtol=1e-8, atol=1e-8
            )


@every_variant
def test_one_path_added_is_one_path_named(variant: Variant) -> None:
    (optimizer, params), (twin, twin_params) = build(variant), build(variant)
    for k, path in enumerate([0, 3, 3, 1]):
        zoo_grads(params, k)
        optimizer.add_path(path, weight=variant.weight(path))
        optimizer.step()
    train(variant, twin, twin_params, [0, 3, 3, 1])
    assert_bitwise(params, twin_params)
    assert_same_state(optimizer.state, twin.state)


@every_variant
def test_order_of_paths_and_way_of_naming_them(variant: Variant) -> None:
    """The order is a matter of rounding; announcing is naming; a path drawn twice is its mean counted twice."""
    results = []
    for order, announce in (([0, 2, 1], False), ([1, 2, 0], False), ([0, 2, 1], True)):
        optimizer, params = build(variant)
        train(variant, optimizer, params, [2, 4])
        for path in order:
            zoo_grads(params, path)
            if announce:
                optimizer.set_path(path, variant.weight(path))
                optimizer.add_path()
            else:
                optimizer.add_path(path, weight=variant.weight(path))
        optimizer.step()
        results.append(clones(params))
    assert_bitwise(results[0], results[2])
    variant.assert_close(results[1], results[0], 0.02, 4)


def test_a_parameter_without_a_gradient_for_a_path_counts_as_zero() -> None:
    results = []
    for missing in (True, False):
        first, second = make_params(shapes=[(3,), (4,)])
        optimizer = PathAdamSAGA([first, second], 3, lr=0.1)
        run(optimizer, [first, second], [0, 1])
        set_grads([first, second], 7)
        optimizer.add_path(2)
        set_grads([first, second], 8)
        second.grad = None if missing else torch.zeros_like(second)
        optimizer.add_path(0)
        optimizer.step()
        results.append(clones([first, second]))
        assert first.grad is None
    assert_bitwise(*results)


def test_parts_of_a_batch_at_the_price_of_one() -> None:
    """The loop of the docstring: what the step sees is the gradient of each path on its part."""
    torch.manual_seed(0)
    x, target = torch.randn(6, 3), torch.randn(5, 6)
    model = torch.nn.Linear(3, 1)
    optimizer = PathAdamSAGA(model.parameters(), 5, lr=0.1, path_adam=False, saga=0.0, weight_decay=0.0)
    before = clones(model.parameters())
    draws = PathSampler(n_paths=5).sample(0, 3)
    for path, part, wanted in zip(draws, x.chunk(3), target.T.chunk(3), strict=True):
        (model(part) - wanted[:, path : path + 1]).square().mean().backward()
        optimizer.add_path(path)
    optimizer.step()
    copied = torch.nn.Linear(3, 1)
    with torch.no_grad():
        for p, q in zip(copied.parameters(), before, strict=True):
            p.copy_(q)
    losses = [
        (copied(part) - wanted[:, path : path + 1]).square().mean()
        for path, part, wanted in zip(draws, x.chunk(3), target.T.chunk(3), strict=True)
    ]
    (sum(losses) / 3).backward()  # type: ignore[union-attr]
    for p, q in zip(model.parameters(), copied.parameters(), strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p.detach(), q.detach() - 0.1 * q.grad)


@pytest.mark.parametrize("n_params", [1, 2])
def test_gradients_in_a_bucket_are_copied(n_params: int) -> None:
    """A bucket may hold one parameter alone."""
    bucket = torch.ones(6)
    params = [Parameter(torch.zeros(6 // n_params)) for _ in range(n_params)]
    optimizer = PathAdamSAGA(params, 2, lr=1.0, path_adam=False, saga=0.0, weight_decay=0.0)
    for p, part in zip(params, bucket.chunk(n_params), strict=True):
        p.grad = part
    optimizer.add_path(0)
    bucket.fill_(100.0)
    optimizer.step()
    assert all(torch.equal(p.detach(), -torch.ones_like(p)) for p in params)


def added(variant: Variant = VARIANTS[0], **options: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(dtype=torch.float32, shapes=[(3,), (2, 2)])
    optimizer = PathAdamSAGA(params, 3, **options)
    run(optimizer, params, [0, 1])
    for p in params:
        p.grad = None
    return optimizer, params


def test_a_bad_gradient_moves_nothing_and_is_used_up() -> None:
    for nonfinite in ("raise", "skip"):
        optimizer, params = added(nonfinite=nonfinite)
        before = snapshot(optimizer)
        for path in (0, 2):
            set_grads(params, path)
            if path == 2:
                params[1].grad = torch.full((2, 2), math.nan)
            optimizer.add_path(path)
        if nonfinite == "raise":
            with pytest.raises(RuntimeError, match="path 2 has an inf or a NaN"):
                optimizer.step()
        else:
            optimizer.step()
        assert_same_snapshot(optimizer, before)
        assert all(p.grad is None for p in params)
        with pytest.raises(RuntimeError, match="no path"):
            optimizer.step()


def test_errors_name_what_is_wrong() -> None:
    optimizer, params = added(unbiased=True)
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=r"Invalid gradient: none for path 1;.*backward"):
        optimizer.add_path(1)
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.add_path()
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        optimizer.add_path(3)
    with pytest.raises(TypeError, match="one integer"):
        optimizer.add_path([0, 1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight"):
        optimizer.add_path(0, weight=-1.0)
    optimizer.add_path(0, weight=2.0)
    set_grads(params, 1)
    with pytest.raises(ValueError, match=r"Invalid weight: 3.0 for path 0; expected 2.0"):
        optimizer.add_path(0, weight=3.0)
    with pytest.raises(RuntimeError, match="belongs to none of the paths added"):
        optimizer.step()
    optimizer.add_path(1)
    with pytest.raises(RuntimeError, match=r"Invalid path_idx: 1 after add_path"):
        optimizer.step(path_idx=1)
    assert_same_snapshot(optimizer, before)


def test_what_was_added_is_no_part_of_copies_and_holds_nothing_alive() -> None:
    optimizer, params = added()
    set_grads(params, 0)
    optimizer.add_path(1)
    with pytest.raises(RuntimeError, match="no path"):
        copy.deepcopy(optimizer).step()
    gc.disable()
    alive = weakref.ref(optimizer)
    del optimizer
    gc.enable()
    assert alive() is None


@every_variant
def test_resume_between_steps_of_several_paths(variant: Variant) -> None:
    optimizer, params = build(variant)

    def steps(opt: PathAdamSAGA, own: list[Parameter], first: int) -> None:
        for k in range(first, first + 4):
            for path in PathSampler(n_paths=N_PATHS).sample(k, 3):
                zoo_grads(own, 10 * k + path)
                opt.add_path(path, weight=variant.weight(path))
            opt.step()

    steps(optimizer, params, 0)
    other, copies = copy.deepcopy((optimizer, params))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, params, 4)
    steps(other, copies, 4)
    assert_bitwise(copies, params)


def test_a_step_that_is_given_up_leaves_nothing_behind() -> None:
    """By a call, by a load, and by a step that failed for another reason; zero_grad may come before each path."""
    for way in ("drop_paths", "load", "bad lr"):
        optimizer, params = added()
        set_grads(params, 0)
        optimizer.add_path(1)
        if way == "drop_paths":
            optimizer.drop_paths()
        elif way == "load":
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        else:
            optimizer.param_groups[0]["lr"] = math.nan
            with pytest.raises(ValueError, match="lr"):
                optimizer.step()
            optimizer.param_groups[0]["lr"] = 0.1
        for path in (2, 0):
            optimizer.zero_grad()
            set_grads(params, path)
            optimizer.add_path(path)
        optimizer.step()
        assert optimizer.state[params[0]]["step"].tolist() == [3, 2, 3]


def test_sparse_gradients_are_refused_by_name() -> None:
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = PathAdamSAGA(embedding.parameters(), 3)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.add_path(1)
