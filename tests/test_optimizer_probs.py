"""The distribution of the draws in PathAdamSAGA: how it is given, kept, changed, and what it refuses."""

from __future__ import annotations

import copy
import io
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA, PathSampler
from scrapl_optim._path_adam_saga.clocks import Visit, ema_weight
from scrapl_optim.reference import ReferencePathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    random_gradients,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import every_storage

PI, OTHER = (0.5, 0.25, 0.125, 0.125), (0.0, 0.25, 0.25, 0.5)
PATHS = [0, 1, 0, 2, 0, 3, 1, 0, 2, 1]
SHAPES = [(70, 70), (3,)]


def made(probs: Any = PI, seed: int = 0, **kwargs: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(seed, torch.float32, SHAPES)
    return PathAdamSAGA(params, 4, **{"lr": 0.01, "probs": probs, **kwargs}), params


def sums(optimizer: PathAdamSAGA) -> list[Tensor]:
    return [state["saga_sum"] for state in optimizer.state.values()]


def weighted(optimizer: PathAdamSAGA, probs: Any) -> list[Tensor]:
    """Sums formed from rows kept in full, path by path."""
    return [
        sum((pi * state.get(f"update.{p}", torch.zeros(())) for p, pi in enumerate(probs)), torch.zeros(()))
        for state in optimizer.state.values()
    ]


@pytest.mark.parametrize("kind", [tuple, list, np.array, torch.tensor, lambda pi: PathSampler(pi).probs])
def test_any_form_of_a_distribution(kind: Any) -> None:
    (optimizer, params), (other, others) = made(kind(PI)), made(PI)
    run(optimizer, params, PATHS)
    run(other, others, PATHS)
    assert_bitwise(params, others)
    assert optimizer.param_groups[0]["probs"] == PI
    assert len(repr(optimizer)) < 800


def test_text_of_many_paths_is_short() -> None:
    optimizer = PathAdamSAGA([Parameter(torch.zeros(1))], 315, probs=[1 / 315] * 315)
    assert "probs: (0.00317, 0.00317, 0.00317, ...)" in repr(optimizer)


def test_saved_distributions_keep_their_bits() -> None:
    """A sum off one by roundings is not divided out again and again."""
    probs = np.random.default_rng(0).random(315)
    optimizer = PathAdamSAGA([Parameter(torch.zeros(1))], 315, probs=probs / probs.sum())
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert type(loaded["param_groups"][0]["probs"]) is tuple
    other = PathAdamSAGA([Parameter(torch.zeros(1))], 315)
    other.load_state_dict(loaded)
    for again in (other, copy.deepcopy(other)):
        assert again.param_groups[0]["probs"] == optimizer.param_groups[0]["probs"]


@every_storage
@pytest.mark.parametrize("how", ["load", "copy"])
def test_goes_on_bit_for_bit(storage: str, how: str) -> None:
    optimizer, params = made(storage=storage, clocks_by_probs=True)
    run(optimizer, params, PATHS)
    if how == "load":
        others = [Parameter(p.detach().clone()) for p in params]
        other = PathAdamSAGA(others, 4, probs=OTHER)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    else:
        others, other = copy.deepcopy((params, optimizer))
    for opt, ps in ((optimizer, params), (other, others)):
        run(opt, ps, PATHS, first_seed=7)
    assert_bitwise(others, params)
    assert_bitwise(sums(other), sums(optimizer))


@pytest.mark.parametrize("new", [{"probs": OTHER}, {"probs": None}, {"memory_by_probs": False}], ids=str)
@pytest.mark.parametrize("then", ["step", "state_dict", "copy"])
def test_the_sum_is_formed_again_for_other_weights(new: dict[str, Any], then: str) -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    optimizer.param_groups[0].update(new)
    if then == "state_dict":
        optimizer.state_dict()
    elif then == "copy":
        optimizer = copy.deepcopy(optimizer)
    else:
        optimizer.param_groups[0]["saga"] = 0.5
        set_grads(params, 5)
        optimizer.step(path_idx=1)
    expected = weighted(optimizer, OTHER if new.get("probs") else [1.0] * 4)
    torch.testing.assert_close(sums(optimizer), expected, rtol=1e-5, atol=1e-5)


def test_a_step_after_a_change_is_that_of_the_reference() -> None:
    """Also from a checkpoint without a distribution, as earlier versions wrote them."""
    gradients = random_gradients(len(PATHS) + 1, 5)
    param = Parameter(torch.ones(5, dtype=torch.float64))
    shared: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1}
    optimizer, twin = PathAdamSAGA([param], 4, **shared), ReferencePathAdamSAGA(np.ones(5), 4, **shared)
    for path, gradient in zip(PATHS, gradients, strict=False):
        param.grad = torch.from_numpy(gradient)
        optimizer.step(path_idx=path)
        twin.step(path, gradient)
    saved = copy.deepcopy(optimizer.state_dict())
    assert not [key for key in saved["param_groups"][0] if "probs" in key]
    other = PathAdamSAGA([param], 4, probs=PI, **shared)
    other.load_state_dict(saved)
    twin.probs = np.array(PI)
    param.grad = torch.from_numpy(gradients[-1])
    other.step(path_idx=3)
    twin.step(3, gradients[-1])
    np.testing.assert_allclose(param.detach().numpy(), twin.w, rtol=1e-12)


@pytest.mark.parametrize("way", ["step", "set_path", "add_path", "announced before"])
def test_a_path_of_probability_zero_cannot_be_drawn(way: str) -> None:
    optimizer, params = made(OTHER)
    run(optimizer, params, [1, 2])
    set_grads(params, 5)
    if way == "announced before":
        optimizer.param_groups[0]["probs"] = PI
        optimizer.set_path(0)
        optimizer.param_groups[0]["probs"] = OTHER
    before = snapshot(optimizer)
    calls = {
        "step": lambda: optimizer.step(path_idx=0),
        "set_path": lambda: optimizer.set_path(0),
        "add_path": lambda: optimizer.add_path(0),
        "announced before": lambda: optimizer.step(),
    }
    with pytest.raises(ValueError, match=r"Invalid path_idx: 0, whose probability is 0 in probs.*sampler.probs"):
        calls[way]()
    assert_same_snapshot(optimizer, before)
    assert all(p.grad is not None for p in params)


def test_invalid_distributions_set_later_change_nothing() -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    before = snapshot(optimizer)
    set_grads(params, 5)
    for wrong in ([0.5, 0.5], (1.0, 1.0, 1.0, 1.0), "all"):
        optimizer.param_groups[0]["probs"] = wrong
        with pytest.raises((ValueError, TypeError), match="Invalid probs"):
            optimizer.step(path_idx=1)
        for announce in (optimizer.set_path, optimizer.add_path, lambda _: optimizer.state_dict()):
            with pytest.raises((ValueError, TypeError), match="Invalid probs"):
                announce(2)
    optimizer.param_groups[0]["probs"] = before[0]["param_groups"][0]["probs"]
    assert_same_snapshot(optimizer, before)


def test_groups_that_come_later_take_part() -> None:
    optimizer, params = made()
    run(optimizer, params, PATHS)
    late = Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [late], "probs": torch.tensor(OTHER)})
    run(optimizer, [*params, late], [1, 3, 2])
    first, second, third = sums(optimizer)
    expected = [*weighted(optimizer, PI)[:2], weighted(optimizer, OTHER)[2]]
    torch.testing.assert_close([first, second, third], expected, rtol=1e-5, atol=1e-5)


def test_uniform_probs_are_the_mean_over_all_paths() -> None:
    """The step of unbiased=True without weights; and clocks of the paper."""
    uniform, params = made([0.25] * 4, clocks_by_probs=True)
    mean, others = made(None, unbiased=True)
    for k, path in enumerate(PATHS):
        run(uniform, params, [path], first_seed=k)
        run(mean, others, [path], first_seed=k)
    torch.testing.assert_close(clones(params), clones(others), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_the_weighted_sum_does_not_drift(foreach: bool, storage: str) -> None:
    """Many paths: formed again every 16 P steps. The dominant path would else leave its roundings there."""
    n_paths, n_steps = 70, 2000
    probs = np.array([100.0] + [1.0] * (n_paths - 1)) / (99 + n_paths)
    (param,) = make_params(0, torch.float32, [(64, 70)])
    optimizer = PathAdamSAGA([param], n_paths, probs=probs, foreach=foreach, storage=storage)
    run(optimizer, [param], [*range(n_paths), *random_paths(n_paths, n_steps - n_paths)])
    saved = copy.deepcopy(optimizer)
    saved.param_groups[0]["memory_by_probs"] = False
    saved.state_dict()  # forms the sum again
    saved.param_groups[0]["memory_by_probs"] = True
    saved.state_dict()
    difference = sums(optimizer)[0] - sums(saved)[0]
    assert difference.norm() < 1e-6 * sums(saved)[0].norm()


# ---------------------------------------------------------------- exponents of rare paths


def exact_weight(beta: float, pi: float, k: int, tau: int) -> float:
    """The same quotient with a hundred digits."""
    with localcontext() as context:
        context.prec, context.Emin = 400, -(10**6)
        log_beta = Decimal(beta).ln() * Decimal(pi)
        return float((1 - ((k - tau) * log_beta).exp()) / (1 - (k * log_beta).exp()))


@given(
    beta=st.sampled_from([1e-9, 0.5, 0.9, 0.999, 1 - 2**-40]),
    exponent=st.floats(0, 320),
    k=st.integers(1, 10**9),
    share=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=200, deadline=None)
def test_weight_of_a_visit_for_any_probability(beta: float, exponent: float, k: int, share: float) -> None:
    """Down to subnormal probabilities, whose inverse float64 does not hold."""
    pi, tau = max(10.0**-exponent, 5e-324), int(share * k)
    found = ema_weight(beta, Visit(k, tau, 0, 1.0), np.inf if pi < 1e-308 else 1 / pi)
    assert found == pytest.approx(exact_weight(beta, pi, k, tau), rel=1e-9)


def test_rare_paths_take_steps() -> None:
    optimizer, params = made((1 - 1e-300, 1e-300, 5e-324, 0.0), clocks_by_probs=True)
    run(optimizer, params, [0, 1, 2, 2, 1, 0, 1, 2])
    assert all(bool(p.isfinite().all()) for p in params)
