"""What holds for every variant of PathAdamSAGA: steps, groups, gradients, clocks, memory."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    run,
    snapshot,
)
from tests.support.optimizer_variants import (
    CHOICES,
    N_PATHS,
    PATHS,
    VARIANTS,
    Variant,
    assert_same_state,
    build,
    every_device,
    every_storage,
    every_variant,
    make_zoo,
    train,
    zoo_grads,
    zoo_groups,
)

every_p_adam_variant = pytest.mark.parametrize("variant", [v for v in VARIANTS if v.path_adam], ids=str)


def test_table_holds_every_pair_of_choices() -> None:
    for (a, first), (b, second) in itertools.combinations(CHOICES.items(), 2):
        for pair in itertools.product(first, second):
            assert any((getattr(v, a), getattr(v, b)) == pair for v in VARIANTS), (a, b, pair)


# ---------------------------------------------------------------- parameters, gradients, groups


@every_device
@every_variant
def test_step_is_deterministic_and_changes_nothing_but_parameters(variant: Variant, device: str) -> None:
    optimizer, params = build(variant, device)
    start, strides = clones(params), [p.stride() for p in params]
    for k, path in enumerate(PATHS):
        zoo_grads(params, k)
        grads = [p.grad for p in params]
        before = [None if grad is None else grad.clone() for grad in grads]
        generator = torch.get_rng_state()
        optimizer.step(path_idx=path, weight=variant.weight(path))
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(p.grad is grad for p, grad in zip(params, grads, strict=True))
        assert_bitwise([g for g in grads if g is not None], [b for b in before if b is not None])
    assert [p.stride() for p in params] == strides
    assert all(not torch.equal(p, q) for p, q in zip(params, start, strict=True) if p.numel())
    assert all(p.isfinite().all() for p in params)
    again, copies = build(variant, device)
    torch.manual_seed(12345)
    train(variant, again, copies, PATHS)
    assert_bitwise(copies, params)
    assert_same_state(again.state, optimizer.state)


@every_device
@every_variant
def test_parameters_do_not_know_of_each_other(variant: Variant, device: str) -> None:
    """One optimizer over three groups is one optimizer per parameter, each with its own clock."""
    optimizer, params = build(variant, device)
    copies = make_zoo(device)
    alone = []
    for group in zoo_groups(copies):
        hyper = {k: v for k, v in group.items() if k != "params"}
        alone += [PathAdamSAGA([p], N_PATHS, **variant.kwargs(**hyper)) for p in group["params"]]
    train(variant, optimizer, params, PATHS)
    for single in alone:
        assert not single.state
    for k, path in enumerate(PATHS):
        zoo_grads(copies, k)
        for single in alone:
            single.step(path_idx=path, weight=variant.weight(path))
    if variant.is_exact or not variant.path_adam:
        assert_bitwise(copies, params)
    variant.assert_close(copies, params, 0.02, len(PATHS))
    for single, p, copied in zip(alone, params, copies, strict=True):
        assert torch.equal(single.state[copied]["step"], optimizer.state[p]["step"])


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


@every_variant
def test_late_group_and_frozen_parameters(variant: Variant) -> None:
    params, copies = make_zoo(), make_zoo()
    optimizer = PathAdamSAGA(params[:4], N_PATHS, **variant.kwargs(lr=0.1))
    late = PathAdamSAGA(copies[4:], N_PATHS, **variant.kwargs(lr=0.2, weight_decay=0.3))
    train(variant, optimizer, params[:4], PATHS[:4])
    params[0].requires_grad_(False)
    optimizer.add_param_group({"params": params[4:], "lr": 0.2, "weight_decay": 0.3})
    frozen = params[0].detach().clone()
    for k, path in enumerate(PATHS):
        zoo_grads(params, k)
        params[0].grad = None
        optimizer.step(path_idx=path, weight=variant.weight(path))
    for k, path in enumerate(PATHS):
        zoo_grads(copies, k)
        late.step(path_idx=path, weight=variant.weight(path))
    assert torch.equal(params[0], frozen)
    if variant.is_exact:
        assert_bitwise(params[4:], copies[4:])
    variant.assert_close(params[4:], copies[4:], 0.2, len(PATHS))


CHANGES = {"lr": 0.3, "betas": (0.5, 0.7), "weight_decay": 0.5, "eps": 0.25, "saga": 0.25, "maximize": None}
CHANGED_VARIANTS = [
    (variant, name)
    for variant in VARIANTS
    for name in CHANGES
    if (variant.path_adam or name not in ("betas", "eps")) and (variant.saga > 0 or name != "saga")
]


@pytest.mark.parametrize(("variant", "name"), CHANGED_VARIANTS, ids=str)
def test_hyperparameters_are_read_at_every_step(variant: Variant, name: str) -> None:
    """A value written to the group acts like an optimizer constructed with it and given the same state."""
    value = not variant.maximize if name == "maximize" else CHANGES[name]
    shapes = [(16, 300), (7,)]
    params = make_params(5, torch.float32, shapes)
    optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs(lr=0.01))
    train(variant, optimizer, params, PATHS[:6])
    results = []
    for changed in (True, False):
        copies = [Parameter(p.detach().clone()) for p in params]
        hyper = {"lr": 0.01, **({name: value} if changed else {})}
        other = PathAdamSAGA(copies, N_PATHS, **variant.kwargs(**hyper))
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"] = other.state_dict()["param_groups"]
        other.load_state_dict(saved)
        train(variant, other, copies, PATHS[6:], first=6)
        results.append(copies)
    optimizer.param_groups[0][name] = value
    train(variant, optimizer, params, PATHS[6:], first=6)
    assert_bitwise(params, results[0])
    assert not torch.equal(params[0], results[1][0])


@every_variant
def test_maximize_is_the_negated_gradient(variant: Variant) -> None:
    optimizer, params = build(variant)
    other, copies = build(variant, maximize=not variant.maximize)
    train(variant, optimizer, params, PATHS)
    train(variant, other, copies, PATHS, scale=-1.0)
    assert_bitwise(copies, params)


@every_variant
def test_complex_parameters_are_pairs_of_reals(variant: Variant) -> None:
    for dtype in (torch.complex64, torch.complex128):
        complexes = make_params(6, dtype, [(40, 70)])
        reals = [Parameter(torch.view_as_real(complexes[0].detach()).clone())]
        run(PathAdamSAGA(complexes, N_PATHS, **variant.kwargs(lr=0.1)), complexes, PATHS)
        run(PathAdamSAGA(reals, N_PATHS, **variant.kwargs(lr=0.1)), reals, PATHS)
        pairs = [torch.view_as_real(complexes[0].detach())]
        if variant.is_exact:
            assert_bitwise(pairs, reals)
        variant.assert_close(pairs, reals, 0.1, len(PATHS))


@every_device
@every_variant
def test_implementations_agree(variant: Variant, device: str) -> None:
    """Loop, multi-tensor operations and the automatic choice differ by rounding."""
    results = []
    for foreach in (False, True, None):
        optimizer, params = build(variant, device, foreach=foreach)
        train(variant, optimizer, params, PATHS)
        results.append(params)
    for others in results[1:]:
        variant.assert_close(others, results[0], 0.02, len(PATHS))


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


# ---------------------------------------------------------------- what must not happen


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


@every_variant
def test_sparse_gradients_are_refused(variant: Variant) -> None:
    optimizer, params = build(variant)
    train(variant, optimizer, params, PATHS[:3])
    before = snapshot(optimizer)
    zoo_grads(params, 20)
    params[3].grad = torch.ones_like(params[3]).to_sparse()
    with pytest.raises(RuntimeError, match="PathAdamSAGA does not support sparse gradients"):
        optimizer.step(path_idx=1)
    assert_same_snapshot(optimizer, before)


@every_p_adam_variant
@pytest.mark.parametrize("exponent", [-100, 100])
def test_scale_of_the_loss_does_not_matter(variant: Variant, exponent: int) -> None:
    """P-Adam divides by the size of the gradient; a power of two is exact."""
    results = []
    for scale in (1.0, 2.0**exponent):
        params = make_params(2, torch.float32, [(67, 71), (5,)])
        run(PathAdamSAGA(params, N_PATHS, **variant.kwargs(lr=0.01)), params, PATHS, scale=scale)
        results.append(params)
    assert_bitwise(results[1], results[0])


@every_p_adam_variant
def test_largest_float32_gradients_are_accepted(variant: Variant) -> None:
    param = Parameter(torch.zeros(300))
    optimizer = PathAdamSAGA([param], 2, **variant.kwargs(lr=0.5, weight_decay=0.0, maximize=False))
    largest = torch.finfo(torch.float32).max
    param.grad = torch.full_like(param, largest)
    optimizer.step(path_idx=0)
    torch.testing.assert_close(param.detach(), torch.full_like(param, -0.5))
    param.grad = torch.full_like(param, 1e-38)
    optimizer.step(path_idx=1)
    param.grad = torch.full_like(param, largest)
    optimizer.step(path_idx=1)
    assert param.isfinite().all()


# ---------------------------------------------------------------- schedules


@every_variant
@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_lr(variant: Variant, shape: tuple[int, ...]) -> None:
    ours, theirs = (make_params(8, torch.float32, [(70, 70), (3,), ()]) for _ in range(2))
    lr = torch.full(shape, 0.125)
    optimizer = PathAdamSAGA(ours, 3, **variant.kwargs(lr=lr, weight_decay=0.5))
    other = PathAdamSAGA(theirs, 3, **variant.kwargs(lr=0.125, weight_decay=0.5))
    paths = [0, 1, 0, 2]
    run(optimizer, ours, paths)
    run(other, theirs, paths)
    lr.fill_(0.5)
    other.param_groups[0]["lr"] = 0.5
    run(optimizer, ours, paths)
    run(other, theirs, paths)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)
    assert torch.equal(lr, torch.full(shape, 0.5))


@every_storage
@pytest.mark.parametrize("path_adam", [True, False])
def test_saga_can_be_scheduled_to_zero_and_back(storage: str, path_adam: bool) -> None:
    """At strength 0 the step is that without memory; the memory goes on, and comes back with the strength."""
    variant = Variant(storage=storage, path_adam=path_adam)
    ours, theirs = (make_params(8, torch.float32, [(70, 70), (3,)]) for _ in range(2))
    optimizer = PathAdamSAGA(ours, 3, **variant.kwargs(lr=0.01))
    other = PathAdamSAGA(theirs, 3, **variant.kwargs(lr=0.01, saga=0.0))
    paths = [0, 1, 0, 2, 2]
    for k, path in enumerate(paths):  # at the very first step there is no memory yet
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
