"""What holds for every variant of PathAdamSAGA: storages, implementations, groups, dtypes."""

from __future__ import annotations

import torch
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    clones,
    make_params,
    run,
)
from tests.support.optimizer_variants import (
    N_PATHS,
    PATHS,
    Variant,
    assert_same_state,
    build,
    every_device,
    every_variant,
    make_zoo,
    train,
    zoo_grads,
    zoo_groups,
)


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
