"""A step of PathAdamSAGA: which path, which weight, which gradients; closures and hooks.

What a ``torch.optim.Optimizer`` must respect, and where it is tested (files without their ``test_optimizer_``):

==================  ================================================================================
errors, groups      hyperparameters: test_invalid_hyperparameters, test_hyperparameters_are_read_at_every_step;
                    variants: test_late_group_and_frozen_parameters
step, closure       here: test_closure, test_one_path_needs_no_announcement, test_announced_path_is_used_once
hooks               here: test_hooks_fire_once_and_see_the_arguments; test_torch_optimizer_situations
trainers            lightning; trainers: test_accelerate; distributed: test_zero_redundancy_optimizer
schedulers          trainers: test_schedulers, test_scheduler_resumes
mixed precision     trainers: test_grad_scaler, test_autocast; numerics: test_a_power_of_two_is_exact
inf and NaN         here: test_nonfinite_gradients_poison_nothing
accumulation        here: test_accumulation_is_one_step_with_the_sum
``p.grad``          variants: test_step_is_deterministic_and_changes_nothing_but_parameters,
                    test_complex_parameters_are_pairs_of_reals, test_maximize_is_the_negated_gradient;
                    here: test_clocks_count_gradients_not_steps, test_sparse_gradients_are_refused
foreach             variants: test_implementations_agree; test_torch_optimizer_situations
compile             compile; here: test_path_types
state dict          state_dict: test_state_dict_aliases_the_state_and_lists_every_path,
                    test_resume_is_bit_for_bit (torch.load, pickle, deepcopy; a clock that bfloat16 would round)
loading             state_dict: test_load_refuses_what_does_not_fit_and_changes_nothing;
                    test_torch_optimizer_situations: test_older_state_dicts_lack_flags
DCP, FSDP2          state_dict: test_distributed_checkpoint_leaves_no_trace;
                    distributed: test_fsdp, test_fsdp_resumes
low-bit rows        memory: test_a_step_touches_the_row_of_its_path_only, test_sum_is_that_of_the_rows_as_stored
cost                memory: test_work_does_not_grow_with_the_number_of_paths, test_rows_exist_for_drawn_paths_only;
                    expected_bytes: test_closed_forms
mean over visited   algorithm: test_memory_is_divided_by_the_paths_visited_before
rows on the host    memory: test_host_storage_equals_device_storage
==================  ================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from scrapl_optim import PathAdamSAGA, PathSampler
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import (
    N_PATHS,
    PATHS,
    Variant,
    build,
    every_device,
    every_storage,
    every_variant,
    train,
    zoo_grads,
)

BAD_PATHS = [
    (3, IndexError, r": 3; expected an id in \[0, 3\)"),
    (-1, IndexError, "Invalid path_idx: -1"),
    (1.0, TypeError, "integer"),
    (True, TypeError, "integer"),
    (torch.tensor([1]), TypeError, "0-dim"),
    (torch.tensor(1.0), TypeError, "integer"),
    ("1", TypeError, "integer"),
    ([1, 2], TypeError, "one integer.*add_path"),
    ((1,), TypeError, "one integer"),
    (range(2), TypeError, "one integer"),
    (np.array([1, 2]), TypeError, "one integer"),
    (torch.tensor([1, 2]), TypeError, "one integer"),
]

# ---------------------------------------------------------------- which path


@pytest.mark.parametrize("announce", [False, True])
def test_path_types(announce: bool) -> None:
    results = []
    for path in (2, np.int64(2), torch.tensor(2), torch.tensor(2, dtype=torch.int32), np.array(2)):
        params = make_params()
        optimizer = PathAdamSAGA(params, 3)
        set_grads(params, 0)
        if announce:
            optimizer.set_path(path)
            optimizer.step()
        else:
            optimizer.step(path_idx=path)
        assert optimizer.state[params[0]]["step"].tolist() == [0, 0, 1]
        results.append(params)
    for other in results[1:]:
        assert_bitwise(other, results[0])


@pytest.mark.parametrize(("path", "error", "message"), BAD_PATHS)
@every_storage
def test_bad_paths(path: Any, error: type[Exception], message: str, storage: str) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, storage=storage)
    set_grads(params, 0)
    optimizer.set_path(1)
    with pytest.raises(error, match=message):
        optimizer.step(path_idx=path)
    with pytest.raises(error, match=message):
        optimizer.set_path(path)
    assert not optimizer.state
    optimizer.step()  # the path announced before is still there
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 0]


@every_variant
def test_announced_path_is_used_once(variant: Variant) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, **variant.kwargs(3))
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match=r"n_paths=3.*path_idx"):
        optimizer.step()
    optimizer.set_path(0)
    optimizer.set_path(1)
    optimizer.step()
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 0]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()
    optimizer.set_path(0)
    optimizer.step(path_idx=2)
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()


@every_variant
def test_announcing_is_passing(variant: Variant) -> None:
    paths = random_paths(5, 12)
    results = []
    for announce in (False, True):
        params = make_params(dtype=torch.float32, shapes=[(70, 70), (3,)])
        optimizer = PathAdamSAGA(params, 5, **variant.kwargs(5, lr=0.01))
        train(variant, optimizer, params, paths, announce=announce)
        results.append(params)
    assert_bitwise(*results)


@every_variant
def test_one_path_needs_no_announcement(variant: Variant) -> None:
    params, copies = make_params(dtype=torch.float32), make_params(dtype=torch.float32)
    optimizer = PathAdamSAGA(params, 1, **variant.kwargs(1))
    other = PathAdamSAGA(copies, 1, **variant.kwargs(1, saga=0.0))
    for k in range(5):
        set_grads(params, k)
        set_grads(copies, k)
        optimizer.step()
        other.step(path_idx=0)
    assert_bitwise(params, copies)  # with one path the memory cancels: it is not even kept
    assert "saga_sum" not in optimizer.state[params[0]]


@pytest.mark.parametrize("announce", ["inside", "before", "argument"])
@every_variant
def test_closure(variant: Variant, announce: str) -> None:
    (param,) = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA([param], 3, **variant.kwargs(3))
    calls = []

    def closure() -> torch.Tensor:
        assert torch.is_grad_enabled()
        calls.append(1)
        optimizer.zero_grad()
        if announce == "inside":
            optimizer.set_path(1)
        loss = (param**2).sum()
        loss.backward()
        return loss

    expected = (param.detach() ** 2).sum()
    if announce == "before":
        optimizer.set_path(1)
    with torch.no_grad():
        loss = optimizer.step(closure, path_idx=1) if announce == "argument" else optimizer.step(closure)
    assert torch.equal(torch.as_tensor(loss), expected)
    assert calls == [1]
    assert optimizer.state[param]["step"].tolist() == [0, 1, 0]


# ---------------------------------------------------------------- which weight


def test_weight_is_used_once_and_belongs_to_its_path() -> None:
    results = []
    for route in range(4):
        params = make_params()
        optimizer = PathAdamSAGA(params, 3, unbiased=True, lr=0.1)
        set_grads(params, 0)
        if route == 0:
            optimizer.step(path_idx=1, weight=1.5)
        elif route == 1:
            optimizer.set_path(1, weight=1.5)
            optimizer.step()
        elif route == 2:
            optimizer.set_path(2, weight=7.0)
            optimizer.set_path(1, 1.5)
            optimizer.step()
        else:
            optimizer.set_path(2, weight=7.0)
            optimizer.step(path_idx=1, weight=1.5)
        set_grads(params, 1)
        optimizer.step(path_idx=0)  # no weight is left over
        results.append(params)
    for other in results[1:]:
        assert_bitwise(other, results[0])
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True, lr=0.1)
    set_grads(params, 0)
    optimizer.set_path(2, weight=7.0)
    optimizer.step(path_idx=1)  # the weight of another path is not taken for this one
    other = make_params()
    run(PathAdamSAGA(other, 3, unbiased=True, lr=0.1), other, [1], first_seed=0)
    assert_bitwise(params, other)


@pytest.mark.parametrize("weight_type", [float, np.float64, torch.tensor])
def test_weight_of_the_sampler(weight_type: Callable[[float], Any]) -> None:
    sampler = PathSampler([0.5, 0.3, 0.2])
    params, copies = make_params(), make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True)
    other = PathAdamSAGA(copies, 3, unbiased=True)
    for step in range(6):
        path = sampler(step)
        set_grads(params, step)
        set_grads(copies, step)
        optimizer.step(path_idx=path, weight=weight_type(sampler.weight(path)))
        other.step(path_idx=path, weight=1 / (3 * sampler.probs[path]))
    for p, q in zip(params, copies, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("announce", [False, True])
def test_bad_weights(weight: Any, announce: bool) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True)
    set_grads(params, 0)
    with pytest.raises(ValueError, match="weight"):
        optimizer.set_path(1, weight) if announce else optimizer.step(path_idx=1, weight=weight)
    assert not optimizer.state


def test_the_paper_takes_no_weight() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    run(optimizer, params, [0, 1])
    before = snapshot(optimizer)
    set_grads(params, 9)
    with pytest.raises(ValueError, match="unbiased"):
        optimizer.step(path_idx=0, weight=0.5)
    assert_same_snapshot(optimizer, before)
    optimizer.step(path_idx=0, weight=1.0)
    optimizer.set_path(0, weight=1)
    optimizer.step()


def test_an_announced_weight_serves_a_step_that_names_the_same_path() -> None:
    moved = []
    for named in (None, 0, 1):
        param = Parameter(torch.zeros(1))
        optimizer = PathAdamSAGA([param], 2, lr=1.0, weight_decay=0.0, unbiased=True)
        param.grad = torch.ones(1)
        optimizer.set_path(0, weight=4.0)
        optimizer.step(path_idx=named)
        moved.append(param.item())
    assert moved == [-4.0, -4.0, -1.0]


def test_one_path_has_no_weight() -> None:
    optimizer = PathAdamSAGA([Parameter(torch.zeros(1))], 1, unbiased=True)
    with pytest.raises(ValueError, match="n_paths=1"):
        optimizer.set_path(0, weight=2.0)


# ---------------------------------------------------------------- which gradients


def test_no_gradients_is_no_step() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    optimizer.step(path_idx=1)
    optimizer.set_path(1)
    assert optimizer.step() is None
    assert not optimizer.state
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()


@every_variant
def test_accumulation_is_one_step_with_the_sum(variant: Variant) -> None:
    params, copies = make_params(1), make_params(1)
    optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs())
    reference = PathAdamSAGA(copies, N_PATHS, **variant.kwargs())
    for k, path in enumerate(PATHS):
        optimizer.zero_grad()
        parts = [[torch.randn_like(p) for p in params] for _ in range(2)]
        for part in parts:
            optimizer.set_path(path, weight=variant.weight(path))
            torch.stack([(p * g).sum() for p, g in zip(params, part, strict=True)]).sum().backward()
        optimizer.step()
        for q, a, b in zip(copies, *parts, strict=True):
            q.grad = a + b
        reference.step(path_idx=path, weight=variant.weight(path))
        assert int(optimizer.state[params[0]]["step"].max()) == k + 1
    assert_bitwise(params, copies)


@every_device
@every_variant
def test_nonfinite_gradients_poison_nothing(variant: Variant, device: str) -> None:
    clean, copies = build(variant, device)
    train(variant, clean, copies, PATHS)
    for nonfinite in ("raise", "skip"):
        optimizer, params = build(variant, device, nonfinite=nonfinite)
        for k, path in enumerate(PATHS):
            bad = [math.nan, math.inf, -math.inf][k % 3]
            zoo_grads(params, k)
            victim = params[k % len(params)]
            if victim.grad is not None and victim.numel():  # a first visit, or a later one
                before = snapshot(optimizer)
                good = victim.grad.clone()
                worst: Any = complex(0, bad) if victim.is_complex() else bad
                victim.grad[(-1,) * victim.dim()] = worst
                if nonfinite == "raise":
                    with pytest.raises(RuntimeError, match=f"path {path} .*(inf|NaN)"):
                        optimizer.step(path_idx=path, weight=variant.weight(path))
                else:
                    optimizer.step(path_idx=path, weight=variant.weight(path))
                assert_same_snapshot(optimizer, before)
                victim.grad = good
            optimizer.step(path_idx=path, weight=variant.weight(path))
        assert_bitwise(params, copies)


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@every_variant
def test_sparse_gradients_are_refused(variant: Variant, nonfinite: str) -> None:
    optimizer, params = build(variant, nonfinite=nonfinite)
    train(variant, optimizer, params, PATHS[:3])
    before = snapshot(optimizer)
    zoo_grads(params, 20)
    params[3].grad = torch.ones_like(params[3]).to_sparse()
    with pytest.raises(RuntimeError, match="PathAdamSAGA does not support sparse gradients"):
        optimizer.step(path_idx=1)
    assert_same_snapshot(optimizer, before)


@every_variant
def test_clocks_count_gradients_not_steps(variant: Variant) -> None:
    optimizer, params = build(variant)
    seen = [0] * len(params)
    for k, path in enumerate(PATHS):
        zoo_grads(params, k)
        optimizer.step(path_idx=path, weight=variant.weight(path))
        for i, p in enumerate(params):
            seen[i] += p.grad is not None
            assert (p in optimizer.state) == (seen[i] > 0)
            if p.grad is not None:
                assert optimizer.state[p]["step"][path] == seen[i]
    assert len(set(seen)) > 1
    for p in params:
        clock = optimizer.state[p]["step"]
        assert clock.dtype == torch.int64
        assert clock.shape == (N_PATHS,)
        assert clock.device.type == "cpu"


# ---------------------------------------------------------------- hooks


def test_hooks_fire_once_and_see_the_arguments() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    assert not isinstance(optimizer, torch.optim.Adam)
    calls = []
    handles = [
        optimizer.register_step_pre_hook(lambda opt, args, kwargs: calls.append(("pre", kwargs))),
        optimizer.register_step_post_hook(lambda opt, args, kwargs: calls.append(("post", kwargs))),
        register_optimizer_step_pre_hook(lambda opt, args, kwargs: calls.append(("all pre", kwargs))),
        register_optimizer_step_post_hook(lambda opt, args, kwargs: calls.append(("all post", kwargs))),
    ]
    set_grads(params, 0)
    optimizer.step(path_idx=1)
    for handle in handles:
        handle.remove()
    optimizer.step(path_idx=1)
    assert calls == [(name, {"path_idx": 1}) for name in ("all pre", "pre", "post", "all post")]
